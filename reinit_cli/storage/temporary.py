"""Name the temporaries of an output, and remove those that killed runs left."""

from __future__ import annotations

import fcntl
import glob
import os
import secrets
import shutil
import stat
from contextlib import suppress


def temporary_name(path: str) -> str:
    """Return a name next to a path that no other run has."""
    folder, name = os.path.split(path)
    # A name may have 255 bytes, and this one must fit beside the longest.
    short = os.fsdecode(os.fsencode(name)[:200])
    return os.path.join(folder, f".{short}.reinit-{secrets.token_hex(6)}")


def remove_stale(path: str) -> None:
    """Remove what runs to the same destination left when they were killed."""
    pattern = temporary_name(glob.escape(path))[: -len(secrets.token_hex(6))] + "*"
    for name in glob.glob(pattern, include_hidden=True):
        with suppress(OSError):
            is_folder = stat.S_ISDIR(os.lstat(name).st_mode)
            mode = os.O_RDONLY | os.O_DIRECTORY if is_folder else os.O_RDWR
            fd = os.open(name, mode | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_folder:
                    shutil.rmtree(name, ignore_errors=True)
                else:
                    os.unlink(name)
            finally:
                os.close(fd)
