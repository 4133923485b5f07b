"""Read the names of timm's models without importing timm, which takes seconds."""

from __future__ import annotations

import re
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

_REGISTERED = re.compile(r"^@register_model\ndef (\w+)\(", re.MULTILINE)
"""How timm's modules say which of their functions are models."""


def timm_names_in_source() -> list[str]:
    """Return the names that timm's modules register; none where it is not installed."""
    spec = find_spec("timm")
    names: list[str] = []
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in Path(folder, "models").glob("*.py"):
            with suppress(OSError, UnicodeDecodeError):
                names += _REGISTERED.findall(path.read_text(encoding="utf-8"))
    return sorted(names)
