"""Make the temporaries of an output, and remove those that killed runs left.

A temporary is called `.NAME.reinit-` and twelve hexadecimal digits. A folder of that name
holds a marker and, as `folder` in it, what is written: so a folder that has its final name
holds no marker, and a temporary folder has one for as long as it holds anything. While a
run works, the temporary or its marker is locked. Whatever lacks one of these signs is
somebody else's, but for the temporaries that several processes share: they have another
marker, and are left for a day to those that go on with them.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from reinit_cli.storage.closing import close_quietly
from reinit_cli.storage.names import is_at, remove_if_there
from reinit_cli.storage.system import lock_if_possible, open_unnamed

RANKS_MARK = "reinit-ranks"
"""What the temporary of several processes holds in the place of a marker, see `staging`."""

_DAY_SECONDS = 86_400

_MARKER = "reinit-temporary"
_CONTENT = "folder"
_NAME = re.compile(r"\..+\.reinit-[0-9a-f]{12}", re.DOTALL)


def is_temporary(name: str) -> bool:
    """Whether a name in a folder is one that temporaries have."""
    return _NAME.fullmatch(name) is not None


_NEW_MODE = 0o666
"""The permissions of a new file, before the umask."""


def temporary_name(path: str) -> str:
    """Return a name next to a path that no other run has."""
    return name_of_temporary(path, os.urandom(6).hex())


def name_of_temporary(path: str, digits: str) -> str:
    """Return the name next to a path that ends with twelve hexadecimal digits."""
    folder, name = os.path.split(path)
    return os.path.join(folder, _start_of_names(name) + digits)


def _start_of_names(name: str) -> str:
    # A name may have 255 bytes, and a temporary's must fit next to the longest.
    short = os.fsdecode(os.fsencode(name)[:200])
    return f".{short}.reinit-"


# --- files ---------------------------------------------------------------------------------------


def open_temporary(path: str, mode: int = _NEW_MODE) -> tuple[int, str | None]:
    """Open a file that is to appear at a path.

    Args:
        path: the path.
        mode: its permissions before the umask.

    Returns:
        Its descriptor, and its name where it cannot be without one until it is whole.
    """
    fd = open_unnamed(os.path.dirname(path) or ".", mode)
    return (fd, None) if fd is not None else open_named(path, mode)


def open_named(path: str, mode: int = _NEW_MODE) -> tuple[int, str]:
    """Open a file with a temporary name next to a path, and lock it."""
    while True:
        name = temporary_name(path)
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, mode)
        with removed_on_failure(fd, name):
            lock_if_possible(fd)
            if is_at(name, fd):
                return fd, name
        close_quietly(fd)  # another run removed it before it was locked


@contextmanager
def removed_on_failure(fd: int, name: str | None) -> Iterator[None]:
    """Close a file where something fails, and remove its name."""
    try:
        yield
    except BaseException:
        if name is not None:
            remove_if_there(name)
        close_quietly(fd)
        raise


# --- folders -------------------------------------------------------------------------------------


class TemporaryFolder:
    """A folder that is to appear at a path, and its lock.

    Attributes:
        outer: the temporary itself.
        path: where its content is written.
    """

    def __init__(self, path: str) -> None:
        """Make it, open to nobody else, and lock its marker.

        Args:
            path: where its content is to appear, which has the usual permissions.
        """
        self.outer = temporary_name(path)
        self._lock: int | None = None
        self.path = os.path.join(self.outer, _CONTENT)
        os.mkdir(self.outer, 0o700)
        try:
            while (marked := self._marked()) is None:
                os.mkdir(self.outer, 0o700)
            self._lock = marked
            os.mkdir(self.path)
        except BaseException:
            self.remove()
            raise

    def _marked(self) -> int | None:
        """Put a marker into it that is locked when it appears there.

        Returns:
            The marker; None where another run removed the folder while it was empty.
        """
        marker = os.path.join(self.outer, _MARKER)
        try:
            fd, name = open_named(marker)
        except FileNotFoundError:
            return None
        with removed_on_failure(fd, name):
            os.rename(name, marker)
        return fd

    def remove(self) -> bool:
        """Remove what is left of it; return whether nothing is."""
        is_gone = _remove_folder(self.outer)
        if self._lock is not None:
            close_quietly(self._lock)
            self._lock = None
        return is_gone


def _remove_folder(outer: str) -> bool:
    """Remove what a temporary folder holds, its marker last; return whether it is gone."""
    content = os.path.join(outer, _CONTENT)
    for _ in range(2):  # what a network refuses once, it often does the next time
        with suppress(OSError):  # it ignores most errors, and not all
            import shutil  # which takes 2 ms, with what it imports

            shutil.rmtree(content, ignore_errors=True)
        if not os.path.lexists(content):
            remove_if_there(os.path.join(outer, _MARKER))
            with suppress(OSError):
                os.rmdir(outer)
    return not os.path.lexists(outer)


# --- those of runs that were killed --------------------------------------------------------------


def remove_stale(path: str) -> None:
    """Remove what runs to the same destination left when they were killed."""
    folder, name = os.path.split(path)
    form = re.compile(re.escape(_start_of_names(name)) + "[0-9a-f]{12}")
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return
    for found in filter(form.fullmatch, names):
        with suppress(OSError):
            _remove_if_stale(os.path.join(folder, found))


def _remove_if_stale(name: str) -> None:
    is_folder = stat.S_ISDIR(os.lstat(name).st_mode)
    locked = os.path.join(name, _MARKER) if is_folder else name
    if is_folder and os.path.lexists(os.path.join(name, RANKS_MARK)):
        _remove_if_old(name)
        return
    if is_folder and not os.path.lexists(locked):
        remove_stale(locked)
        os.rmdir(name)  # where it is empty: a run was killed before it had its marker
        return
    fd = os.open(locked, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not (stat.S_ISREG(os.fstat(fd).st_mode) and is_at(locked, fd)):
            return
        if is_folder:
            _remove_folder(name)
        else:
            os.unlink(name)
    finally:
        close_quietly(fd)


def _remove_if_old(outer: str) -> None:
    """Remove the temporary of several processes where none gave a sign of life for a day.

    They may work on other hosts, whose locks are not seen here.
    """
    texts = [entry for entry in os.scandir(outer) if entry.is_file(follow_symlinks=False)]
    times = [entry.stat(follow_symlinks=False).st_mtime for entry in texts]
    if times and time.time() - max(times) > _DAY_SECONDS:  # there are none where it is just removed
        import shutil

        shutil.rmtree(outer, ignore_errors=True)
