"""Give files their names: new ones never in the place of another, replaced ones to be put back.

Each file system lacks something else: FAT and SMB have no hard links, NFS and 9p have no
exchange, FUSE may have neither. What it lacks is done by what it has.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from contextlib import suppress

from reinit_cli.storage.closing import close_quietly
from reinit_cli.storage.system import OUT_OF_SPACE, entry_of

_AT_FDCWD = -100

_NOREPLACE, _EXCHANGE = 1, 2
"""linux/fs.h: the flags of renameat2."""


def rename_to_new(old: str, new: str) -> None:
    """Rename, but never onto anything.

    Raises:
        FileExistsError: the new name is taken.
    """
    if not _renamed(old, new, _NOREPLACE) and not _linked(old, new):
        _rename_onto_own(old, new)


def rename_and_keep(new: str, path: str, kept: str) -> str | None:
    """Give a file the name of another.

    Args:
        new: the file.
        path: the name.
        kept: a name that is free.

    Returns:
        Where the other is now; None where the file system can only drop it.
    """
    if exchanged(new, path):
        return new
    is_kept = False
    with suppress(OSError):
        os.link(path, kept, follow_symlinks=False)
        is_kept = True
    try:
        os.rename(new, path)
    except BaseException:
        remove_if_there(kept)
        raise
    return kept if is_kept else None


def exchanged(one: str, other: str) -> bool:
    """Let two files exchange their names in one step, where that is possible; say whether it was."""
    return _renamed(one, other, _EXCHANGE)


def link_descriptor(fd: int, name: str) -> bool:
    """Give a file that was opened with O_TMPFILE a name; say whether it could be given one.

    Raises:
        FileExistsError: the name is taken.
    """
    # With a folder's descriptor Python calls linkat with AT_SYMLINK_FOLLOW; without one
    # it calls link, which would link the entry in /proc and fails with EXDEV.
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(entry_of(fd), name, src_dir_fd=root, follow_symlinks=True)
    except OSError as error:
        _insist_on(error)
        return False
    finally:
        close_quietly(root)
    return True


def is_at(name: str, fd: int) -> bool:
    """Whether a name is still that of an open file."""
    try:
        return os.path.samestat(os.lstat(name), os.fstat(fd))
    except FileNotFoundError:
        return False


def remove_if_there(name: str) -> bool:
    """Remove a file; return whether it is gone.

    What a network refuses once, it often does the next time.
    """
    for _ in range(2):
        with suppress(OSError):
            os.unlink(name)
        if not os.path.lexists(name):
            return True
    return False


def _renamed(old: str, new: str, flag: int) -> bool:
    """Rename in one call with a flag, where the system and the file system have it."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    names = os.fsencode(old), os.fsencode(new)
    while renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], flag) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            _insist_on(OSError(code, os.strerror(code)))
            return False
    return True


def _linked(old: str, new: str) -> bool:
    """Give a file its new name before it loses the old one, where there are hard links."""
    try:
        os.link(old, new)
    except OSError as error:
        _insist_on(error)
        return False
    remove_if_there(old)
    return True


def _insist_on(error: OSError) -> None:
    """Raise an error that another way to a name would meet too; try that way after others."""
    if isinstance(error, FileExistsError) or error.errno in OUT_OF_SPACE:
        raise error


def _rename_onto_own(old: str, new: str) -> None:
    """Take a name with an empty file or folder, which nobody else does, and rename onto that."""
    is_folder = stat.S_ISDIR(os.lstat(old).st_mode)
    if is_folder:
        os.mkdir(new)
    else:
        close_quietly(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC))
    try:
        os.rename(old, new)
    except BaseException:
        with suppress(OSError):
            os.rmdir(new) if is_folder else os.unlink(new)
        raise
