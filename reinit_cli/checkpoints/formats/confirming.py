"""Check what was taken on trust of several files."""

from __future__ import annotations

from collections.abc import Mapping

from reinit_cli.checkpoints.formats.base import Confirm, Files, Located


def confirm_of(parts: Mapping[str, Located]) -> Confirm | None:
    """Return what checks all files in which something was taken on trust; None for nothing."""
    checks = {name: part.confirm for name, part in parts.items() if part.confirm is not None}

    def confirm(files: Files) -> None:
        for name, check in checks.items():
            check(Files.lone(files[name]))

    return confirm if checks else None
