"""Keep for a while, in TMPDIR, what a run cannot keep in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

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


@contextmanager
def scratch_folder() -> Iterator[str]:
    """Make a folder for as long as the context lasts.

    Raises:
        OutputUnwritableError: TMPDIR is missing, full, or refuses.
    """
    with ExitStack() as stack:
        with naming_scratch(), signals_held():
            remove_stale(_path())
            folder = TemporaryFolder(_path())
            stack.push(lambda _, error, __: _remove(folder, error))
        yield folder.path


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


def _remove(folder: TemporaryFolder, error: BaseException | None) -> None:
    with signals_held():
        is_gone = folder.remove()
    note_left([] if is_gone else [folder.outer], error, ())
