"""Keep programs from writing a file for a moment, and learn whether one would.

A lease is the kernel's: it is given where nobody has the file open to write, not even in a
map of memory, and until it is given back whoever opens the file to write it waits.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reinit_cli.storage.closing import close_quietly


@contextmanager
def leased(path: str) -> Iterator[Callable[[], bool]]:
    """Lease a file, where the system and the file system have leases.

    Yields:
        What returns whether somebody waits to write the file.

    Raises:
        BlockingIOError: somebody has it open to write.
        OSError: it cannot be opened.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        has_lease = _take_lease(fd)
        yield lambda: has_lease and fcntl.fcntl(fd, fcntl.F_GETLEASE) != fcntl.F_RDLCK
    finally:
        close_quietly(fd)


def _take_lease(fd: int) -> bool:
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        # Who waits makes the kernel send a signal, by default one that ends the process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True
