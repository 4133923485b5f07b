"""Wrap the system calls that Python lacks."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

from reinit_cli.errors import OutputExistsError, OutputUnwritableError
from reinit_cli.text import why

_FICLONE = 0x40049409
"""linux/fs.h: share all blocks of another file."""


_TICK_NS = 10_000_000
"""The time between two ticks of the slowest clock that kernels are built with."""


NOT_SUPPORTED = frozenset(
    (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EISDIR)
)
"""What a file system answers that lacks an optional call."""


_RENAME_NOREPLACE = 1


_AT_FDCWD = -100


def rename_to_new(old: str, new: str) -> None:
    """Rename, but never onto anything.

    Raises:
        FileExistsError: the new name is taken.
    """
    if _renamed_exclusively(old, new) or _linked(old, new):
        return
    if os.path.lexists(new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(old, new)


def _renamed_exclusively(old: str, new: str) -> bool:
    """Rename in one call that refuses a name that is taken, where the system has it."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    names = os.fsencode(old), os.fsencode(new)
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code not in NOT_SUPPORTED:
        raise OSError(code, os.strerror(code))
    return False


def _linked(old: str, new: str) -> bool:
    """Give a file its new name before it loses the old one, where there are hard links."""
    try:
        os.link(old, new)
    except OSError as error:
        if error.errno not in (*NOT_SUPPORTED, errno.EPERM):
            raise
        return False
    os.unlink(old)
    return True


def pread_all(fd: int, offset: int, nbytes: int) -> bytes:
    """Return bytes from an offset on, in as many calls as it takes; fewer where it ends."""
    pieces = []
    while nbytes and (piece := os.pread(fd, nbytes, offset)):
        pieces.append(piece)
        offset += len(piece)
        nbytes -= len(piece)
    return b"".join(pieces)


def pread_into(fd: int, offset: int, buffer: memoryview) -> int:
    """Fill a buffer in as many calls as it takes; return how much of it is filled."""
    filled = 0
    while filled < len(buffer):
        count = os.preadv(fd, [buffer[filled:]], offset + filled)
        if not count:
            break
        filled += count
    return filled


def pwrite_all(fd: int, offset: int, data: bytes | memoryview) -> None:
    """Write all of `data` at an offset, in as many calls as it takes."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def copy_range(source: int, start: int, target: int, offset: int, nbytes: int) -> int:
    """Let the kernel copy up to `nbytes`; return how many, 0 where it cannot."""
    if not hasattr(os, "copy_file_range"):
        return 0
    try:
        return os.copy_file_range(source, target, nbytes, start, offset)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
        return 0


def clone_file(source: int, target: int) -> bool:
    """Share all blocks with a file, where the file system can; say whether it could."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
        return False
    return True


def link_descriptor(fd: int, name: str) -> None:
    """Give a file that was opened with O_TMPFILE a name."""
    # With a folder's descriptor Python calls linkat with AT_SYMLINK_FOLLOW; without one
    # it calls link, which would link the entry in /proc and fails with EXDEV.
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(_entry_of(fd), name, src_dir_fd=root, follow_symlinks=True)
    finally:
        os.close(root)


def open_unnamed(folder: str) -> int | None:
    """Open a file that has no name; None where it could not be given one later."""
    if not hasattr(os, "O_TMPFILE"):
        return None
    try:
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
        return None
    if os.path.exists(_entry_of(fd)):
        return fd
    os.close(fd)  # without /proc it would stay without a name
    return None


def _entry_of(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def settled(fd: int) -> os.stat_result:
    """Return the status of an open file, of which any later change will show in its times.

    Most kernels count in ticks of up to 10 ms: a second change within a tick leaves no trace.
    """
    status = os.fstat(fd)
    if wait_for_next_tick(status.st_ctime_ns):
        return os.fstat(fd)
    return status


def wait_for_next_tick(changed_ns: int) -> bool:
    """Wait until a file has not been changed in this tick; say whether that took any time."""
    left = changed_ns + _TICK_NS - time.time_ns()
    if not 0 < left <= _TICK_NS:
        return False
    time.sleep(left / 1e9)
    return True


def lock_if_possible(fd: int) -> None:
    """Lock a file that others lock only for a moment; some file systems have no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (*NOT_SUPPORTED, errno.ENOLCK):
            raise


def naming_output(path: str) -> AbstractContextManager[None]:
    """Turn the system's errors into ours, with the path."""
    return _Naming(path)


class _Naming:
    """Turns errors; a generator would take longer than a small write."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Turn an error of the system."""
        if isinstance(error, OSError) and not isinstance(error, OutputExistsError):
            raise OutputUnwritableError(self._path, why(error)) from error


def reserve_space(fd: int, nbytes: int) -> None:
    """Reserve the space, so that a full disk is known immediately, where that is possible.

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
