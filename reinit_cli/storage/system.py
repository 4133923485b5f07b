"""Wrap the system calls that Python lacks."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reinit_cli.errors import OutputExistsError, OutputUnwritableError
from reinit_cli.text import why

FICLONE = 0x40049409
"""linux/fs.h: share all blocks of another file."""


NOT_SUPPORTED = frozenset(
    (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EISDIR)
)
"""What a file system answers that lacks an optional call."""


_RENAME_NOREPLACE = 1


_AT_FDCWD = -100


def rename_to_new(old: str, new: str) -> None:
    """Rename, but not onto anything: a plain rename would replace an empty folder."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None:
        names = os.fsencode(old), os.fsencode(new)
        if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in NOT_SUPPORTED:
            raise OSError(code, os.strerror(code))
    if os.path.lexists(new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(old, new)


def pwrite_all(fd: int, offset: int, data: bytes | memoryview) -> None:
    """Write all of `data` at an offset, in as many calls as it takes."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


@contextmanager
def naming_output(path: str) -> Iterator[None]:
    """Turn the system's errors into ours, with the path."""
    try:
        yield
    except OutputExistsError:
        raise
    except OSError as error:
        raise OutputUnwritableError(path, why(error)) from error


def reserve_space(fd: int, nbytes: int) -> None:
    """Reserve the space, so that a full disk is known at once; where that is not real, try.

    `os.posix_fallocate` would emulate by writing, which takes as long as the copy.
    """
    fallocate: Callable[..., int] | None = None
    if sys.platform == "linux":
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    if fallocate is None or not nbytes:
        return
    if fallocate(fd, 0, ctypes.c_int64(0), ctypes.c_int64(nbytes)) == 0:
        return
    code = ctypes.get_errno()
    if code not in NOT_SUPPORTED:
        raise OSError(code, os.strerror(code))


def sync_folder(folder: str) -> None:
    """Force the entries of a folder to the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
