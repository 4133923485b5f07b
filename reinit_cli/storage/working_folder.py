"""Leave the working folder for a while, where possible in one thread alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_FS = 0x200

_FOLDERS_OF_LIBRARIES = {"glibc-hwcaps", "tls", "haswell", "x86_64", "avx512_1"}
"""Where the loader looks below each folder of its search path."""


@contextmanager
def apart() -> Iterator[None]:
    """Work in the root folder, where possible only in this thread.

    Others open files by relative paths meanwhile. Where a container forbids a working folder
    of one's own, it is left only if it holds what could be loaded.
    """
    here = _opened() if has_own_folder() or _holds_traps() else None
    try:
        if here is not None:
            os.chdir(os.sep)
        yield
    finally:
        if here is not None:
            os.fchdir(here)
            os.close(here)


def is_gone() -> bool:
    """Whether the working folder was removed, so that no relative path leads anywhere."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _opened() -> int | None:
    """Return the working folder, to come back to; None where nothing in it can be read."""
    try:
        return os.open(os.curdir, getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC)
    except OSError:
        return None


def has_own_folder() -> bool:
    """Give this thread a working folder that it changes alone; say whether that is possible."""
    if sys.platform != "linux":
        return False
    import ctypes

    failure: int = ctypes.CDLL(None).unshare(_CLONE_FS)
    return not failure


def _holds_traps() -> bool:
    """Whether the working folder holds a file that a library would obey."""
    try:
        names = os.listdir()
    except OSError:
        return False
    return any(
        name == "matplotlibrc" or ".so" in name or name in _FOLDERS_OF_LIBRARIES for name in names
    )
