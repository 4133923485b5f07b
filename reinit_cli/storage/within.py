"""Tell whether paths lead into some folders."""

from __future__ import annotations

import os
from collections.abc import Iterable

from reinit_cli.storage.location import DASH

STREAMS = (DASH, "/dev/stdin", "/dev/stdout", "/dev/stderr")
"""The paths that name what the caller opened, and no place of their own."""


def can_be_path(path: str) -> bool:
    """Whether the system can have a path: it has no NUL, and can be encoded."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def is_within(place: str, folders: Iterable[str]) -> bool:
    """Whether a place without links is one of some folders, or below one."""
    return any(os.path.commonpath((place, real)) == real for real in map(os.path.realpath, folders))
