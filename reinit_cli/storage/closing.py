"""Close descriptors: with an ear for what the system says then, or without."""

from __future__ import annotations

import os
from contextlib import suppress


def close_quietly(fd: int) -> None:
    """Close a descriptor whose bytes nobody needs, or whose errors are known."""
    with suppress(OSError):
        os.close(fd)


def check_close(fd: int) -> None:
    """Let the system say what it says when a file is closed, which stays open.

    A quota, or a server far away, may refuse only then what was written before.
    """
    while True:
        try:
            copy = os.dup(fd)
        except OSError:  # there are too many, which says nothing of the file
            return
        with suppress(InterruptedError):  # it is closed, and what there is to say was not said
            os.close(copy)
            return
