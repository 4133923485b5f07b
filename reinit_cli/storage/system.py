"""Wrap the system calls that Python lacks."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from types import TracebackType

from reinit_cli.errors import OutputUnwritableError, ReinitError
from reinit_cli.storage.closing import close_quietly
from reinit_cli.text import why

_COPIED_NBYTES = 2**24
"""What one call copies."""


_FICLONE = 0x40049409
"""linux/fs.h: share all blocks of another file."""


_PR_SET_PDEATHSIG = 1
"""linux/prctl.h: get a signal when the thread has ended that made this process."""


_TICK_NS = 10_000_000
"""The time between two ticks of the slowest clock that kernels are built with."""


_NOT_SUPPORTED = frozenset(
    (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EBADF, errno.EACCES)
)
"""What the sync of a folder answers where it cannot be synced, or only listed by others."""


OUT_OF_SPACE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
"""The answers of an optional call that the usual one would give too, after much more work.

After all others the usual call is made, which works, or says better what is wrong: a file
system may lack the optional call, a policy forbid it, a network interrupt it.
"""


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
        if error.errno in OUT_OF_SPACE:
            raise
        return 0


def copy_whole(source: int, target: int) -> None:
    """Copy a file into an empty one, however the system can."""
    done, can_copy = 0, True
    while done < os.fstat(source).st_size:
        count = copy_range(source, done, target, done, _COPIED_NBYTES) if can_copy else 0
        if not count:
            can_copy = False
            data = pread_all(source, done, _COPIED_NBYTES)
            pwrite_all(target, done, data)
            count = len(data)
        done += count


def clone_file(source: int, target: int) -> bool:
    """Share all blocks with a file, where the file system can; say whether it could."""
    with suppress(OSError):
        fcntl.ioctl(target, _FICLONE, source)
        return True
    return False


def open_unnamed(folder: str, mode: int) -> int | None:
    """Open a file that has no name; None where it could not be given one later."""
    if not hasattr(os, "O_TMPFILE"):
        return None
    try:
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)
    except OSError:
        return None
    if os.path.exists(entry_of(fd)):
        return fd
    close_quietly(fd)  # without /proc it would stay without a name
    return None


def entry_of(fd: int) -> str:
    """Return the path that Linux has for an open file."""
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
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX)


def naming_output(path: str, kind: str = "") -> AbstractContextManager[None]:
    """Turn the system's errors into ours, with the path."""
    return _Naming(path, kind)


class _Naming:
    """Turns errors; a generator would take longer than a small write."""

    __slots__ = ("_kind", "_path")

    def __init__(self, path: str, kind: str) -> None:
        self._path = path
        self._kind = kind

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Turn an error of the system."""
        if isinstance(error, OSError) and not isinstance(error, ReinitError):
            raise OutputUnwritableError(self._path, why(error), kind=self._kind) from error


def reserve_space(fd: int, nbytes: int) -> None:
    """Reserve the space, so that a full disk is known immediately, where that is possible.

    `os.posix_fallocate` would emulate by writing, which takes as long as the copy.
    """
    fallocate: Callable[..., int] | None = None
    if sys.platform == "linux":
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    if fallocate is None or not nbytes:
        return
    while fallocate(fd, 0, ctypes.c_int64(0), ctypes.c_int64(nbytes)) != 0:
        code = ctypes.get_errno()
        if code in OUT_OF_SPACE:
            raise OSError(code, os.strerror(code))
        if code != errno.EINTR:
            return


def sync_folder(folder: str) -> None:
    """Force the entries of a folder to the disk, where the file system can."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            close_quietly(fd)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise


def end_with_parent() -> None:
    """Let this process be killed when the one that forked it has ended, on Linux."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
