"""Offer the format without importing what reads it: most folders are of another format."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

from reinit_cli.checkpoints.formats.base import Format
from reinit_cli.checkpoints.formats.dcp.glance import SUFFIX, is_folder_of_dcp


class _Deferred:
    """Stands for the format, and imports it when it is asked for more than names tell."""

    name = "DCP folder"
    suffixes = (SUFFIX,)
    is_folder = True
    holds_record = True

    def recognizes(self, head: bytes, names: Sequence[str] = ()) -> bool:
        """Whether a folder has files of such pieces."""
        return not head and is_folder_of_dcp(names)

    def __getattr__(self, attribute: str) -> Any:
        """Ask the format itself."""
        return getattr(self._format, attribute)

    @cached_property
    def _format(self) -> Format:
        from reinit_cli.checkpoints.formats.dcp.format import Dcp

        return Dcp()


DCP = cast("Format", _Deferred())
