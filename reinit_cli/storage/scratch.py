"""Keep for a while, in TMPDIR, what a run cannot keep in memory."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

from reinit_cli.storage.closing import close_quietly
from reinit_cli.storage.names import remove_if_there
from reinit_cli.storage.system import naming_output, pwrite_all
from reinit_cli.storage.temporary import TemporaryFolder, open_temporary, remove_stale
from reinit_cli.storage.whole_file import note_left
from reinit_cli.threads import signals_held

_PROBE_NBYTES = 2**20


def scratch_place() -> str:
    """Return the folder: TMPDIR and no other, which could be too small for a checkpoint."""
    return os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 (what is in it has names of its own)


def is_usable_folder(path: str) -> bool:
    """Whether files can be made in a folder, which is made first if that is possible."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError:
        return False
    return os.access(path, os.W_OK)


def naming_scratch() -> AbstractContextManager[None]:
    """Turn the system's errors into ours, with the folder."""
    return naming_output(scratch_place(), "scratch")


def open_scratch() -> int:
    """Open a file that has no name.

    Raises:
        OutputUnwritableError: TMPDIR is missing, full, or refuses.
    """
    with naming_scratch(), signals_held():
        fd, name = open_temporary(_path(), 0o600)
        if name is not None:
            remove_if_there(name)
        return fd


class ScratchFolder:
    """A folder that exists for as long as the context lasts."""

    def __init__(self) -> None:
        """Begin without it."""
        self._folder: TemporaryFolder | None = None

    def __enter__(self) -> str:
        """Make it, and return its path.

        Raises:
            OutputUnwritableError: TMPDIR is missing, full, or refuses.
        """
        with naming_scratch(), signals_held():
            remove_stale(_path())
            self._folder = TemporaryFolder(_path())
            return self._folder.path

    def __exit__(self, *failure: object) -> None:
        """Remove it; a second call does nothing."""
        with signals_held():
            folder, self._folder = self._folder, None
            is_gone = folder is None or folder.remove()
        if folder is not None and not is_gone:
            note_left([folder.outer], failure[1], ())


def check_room() -> None:
    """Find out whether anything can be written there.

    Raises:
        OutputUnwritableError: TMPDIR is full.
    """
    fd = open_scratch()
    try:
        with naming_scratch():
            pwrite_all(fd, 0, bytes(_PROBE_NBYTES))
    finally:
        close_quietly(fd)


def _path() -> str:
    return os.path.join(scratch_place(), "reinit")
