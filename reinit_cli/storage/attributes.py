"""Keep what a file has besides its bytes where another takes its place."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from reinit_cli.storage.destination import Destination
from reinit_cli.text import plural

_ACL = "system.posix_acl_access"

_CAP_CHOWN = 1
"""linux/capability.h, as a bit of the set."""


def take_over(path: str, fd: int) -> None:
    """Give an open file what a file has that it replaces: owner, group, attributes, permissions.

    What the system refuses stays as it is of any new file; `lost_with` says so beforehand. A
    link has nothing that could be taken over.

    Args:
        path: the file that is replaced.
        fd: the other.

    Raises:
        OSError: the permissions cannot be set.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if stat.S_ISREG(status.st_mode):
        _take_over_owner(status, fd)
        _take_over_attributes(path, fd)
        mode = status.st_mode & 0o777  # what a checkpoint has beyond it, it is not to have
        if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
            os.fchmod(fd, mode)


def lost_with(destination: Destination) -> Iterator[str]:
    """Say what is lost where a file is replaced, and what stays as it was."""
    path = destination.path
    if path is None or not destination.replaces:
        return
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(status.st_mode):
        return
    if not _may_give_away():
        if status.st_uid != os.geteuid():
            yield f"{path!r} belongs to {_user(status.st_uid)}, and the new file will not"
        if status.st_gid not in (os.getegid(), *os.getgroups()):
            yield f"{path!r} belongs to group {_group(status.st_gid)}, and the new file will not"
    if status.st_nlink > 1:
        names = plural(status.st_nlink - 1, "other name")
        keep = "keeps" if status.st_nlink == 2 else "keep"
        yield f"{path!r} has {names} (hard links), which {keep} the old content"


def _take_over_owner(status: os.stat_result, fd: int) -> None:
    own = os.fstat(fd)
    if (own.st_uid, own.st_gid) == (status.st_uid, status.st_gid):
        return
    try:
        os.fchown(fd, status.st_uid, status.st_gid)
    except OSError:
        with suppress(OSError):  # a user may at least choose among groups
            os.fchown(fd, -1, status.st_gid)


def _take_over_attributes(path: str, fd: int) -> None:
    """Copy what users set, and the list of who may do what; the rest is the system's."""
    if not hasattr(os, "listxattr"):
        return
    with suppress(OSError):
        os.removexattr(fd, _ACL)  # what its folder gives to every new file
    with suppress(OSError):
        for name in os.listxattr(path, follow_symlinks=False):
            if name == _ACL or name.startswith("user."):
                with suppress(OSError):
                    os.setxattr(fd, name, os.getxattr(path, name, follow_symlinks=False))


def _may_give_away() -> bool:
    """Whether the process may give files to others, which in a container not even root may."""
    with suppress(OSError, ValueError), open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) & _CAP_CHOWN)
    return os.geteuid() == 0


def _user(number: int) -> str:
    import pwd

    with suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return f"user {number}"


def _group(number: int) -> str:
    import grp

    with suppress(KeyError):
        return grp.getgrgid(number).gr_name
    return f"{number}"
