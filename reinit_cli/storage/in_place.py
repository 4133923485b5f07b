"""Replace a file by one that was made from it, and lose no change that others make to it.

Two runs that both read a file and then replace it would lose what the first one did. So a
run locks the file, and whoever comes second is refused. Programs that know of no lock are
noticed: what is replaced has to be the file that was read.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from reinit_cli.errors import OutputUnwritableError, SourceChangedError
from reinit_cli.storage.closing import close_quietly
from reinit_cli.storage.lease import leased
from reinit_cli.storage.listing import is_blob
from reinit_cli.storage.names import exchanged
from reinit_cli.storage.reader import Fingerprint
from reinit_cli.text import why


@contextmanager
def locked(path: str, expected: Fingerprint) -> Iterator[None]:
    """Keep other runs from replacing a file, where its file system has locks.

    Args:
        path: the file.
        expected: the file as it was when it was located.

    Raises:
        OutputUnwritableError: another run has locked it.
        SourceChangedError: it is not as expected.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise SourceChangedError(path) from error
    try:
        _lock(fd, path)
        # Only now can no other run come first: it may have ended since the file was located.
        check_is_source(path, expected)
        yield
    finally:
        close_quietly(fd)


def check_no_link(path: str) -> None:
    """Refuse to replace a link: what it leads to would stay as it is, and be read no more.

    Raises:
        OutputUnwritableError: it is a link; `known` has what to name instead, but not where
            that is in a cache, whose files belong to several checkpoints.
    """
    if not os.path.islink(path):
        return
    real = os.path.realpath(path)
    near = os.path.relpath(real)
    target = real if os.path.isabs(path) or near.startswith(os.pardir) else near
    is_shared = is_blob(real, os.path.realpath(os.path.dirname(path)))
    typed = os.path.join(os.curdir, target) if target.isidentifier() else target
    known = () if is_shared else (typed,)
    raise OutputUnwritableError(path, "", known, kind="link", of=target)


def check_is_source(path: str, expected: Fingerprint) -> None:
    """Compare what a path names with the file that was located.

    Raises:
        SourceChangedError: they differ.
    """
    try:
        is_same = Fingerprint.of(os.lstat(path)) == expected
    except OSError as error:
        raise SourceChangedError(path) from error
    if not is_same:
        raise SourceChangedError(path)


def replace_source(new: str, path: str, expected: Fingerprint) -> None:
    """Give a file the name of the one that it was made from, or leave both as they are.

    Args:
        new: the file; afterwards this is the name of the other, or of none.
        path: the name.
        expected: the file there as it was when it was located.

    Raises:
        SourceChangedError: the name is another file's, or somebody is about to write the file.
        OutputUnwritableError: another program has it open to write.
        OSError: the folder refuses.
    """
    try:
        with leased(path) as is_wanted:
            check_is_source(path, expected)
            ours = os.lstat(new)
            if not exchanged(new, path):
                check_is_source(path, expected)
                os.rename(new, path)
                return
            try:
                is_source = not is_wanted() and expected.is_renamed(os.lstat(new))
            except OSError:
                _put_back(new, path, ours)
                raise
            if not is_source:
                _put_back(new, path, ours)
                raise SourceChangedError(path)
    except FileNotFoundError as error:
        raise SourceChangedError(path) from error
    except BlockingIOError as error:
        raise OutputUnwritableError(path, why(error), kind="open") from error


def _put_back(new: str, path: str, ours: os.stat_result) -> None:
    """Undo an exchange in which another file than the source came out.

    Meanwhile yet another may have got the name. It is the newest, and is put back in turn.
    """
    put_last = ours
    while exchanged(new, path):
        came_out = os.lstat(new)
        if os.path.samestat(came_out, put_last):
            return
        put_last = os.lstat(path)


def _lock(fd: int, path: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputUnwritableError(path, why(error), kind="locked") from error
    except OSError:
        pass  # a file system without locks: the comparisons are left
