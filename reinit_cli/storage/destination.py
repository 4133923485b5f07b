"""Check the place of an output before anything is written."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from reinit_cli.errors import (
    OutputExistsError,
    OutputTakenError,
    OutputUnwritableError,
)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an output is to go, checked before anything is written.

    Attributes:
        path: as the user wrote it or as the default has it; None for a stream.
        replaces: whether a file that is there is replaced.
        syncs: whether a new file too is forced to the disk before success is told.
        makes_folders: whether the folders above it are made where they are missing.
    """

    path: str | None
    replaces: bool = False
    syncs: bool = False
    makes_folders: bool = False


def check_destination(destination: Destination, source: str | None, *, in_place: bool) -> None:
    """Refuse a destination that cannot be written.

    Args:
        destination: where the output is to go.
        source: the path that is read, or None.
        in_place: whether the destination is meant to be the source.

    Raises:
        OutputTakenError: it is the source, and `in_place` is not set.
        OutputExistsError: it is there, and may not be replaced.
        OutputUnwritableError: its folder is missing or not writable, or it is a folder.
    """
    path = destination.path
    if path is None:
        return
    path = path.rstrip(os.sep) or path
    folder = os.path.dirname(path) or "."
    while destination.makes_folders and not os.path.lexists(folder):
        folder = os.path.dirname(folder) or "."
    if not os.path.isdir(folder):
        raise OutputUnwritableError(path, f"there is no folder {folder!r}")
    if source is not None and not in_place and _same_file(path, source):
        raise OutputTakenError(path, kind="source")
    if os.path.isdir(path):
        raise OutputUnwritableError(path, "it is a folder, which is never replaced")
    if os.path.lexists(path):
        if not destination.replaces:
            raise OutputExistsError(path)
        # A link is replaced itself, whatever it leads to.
        if stat.S_IFMT(os.lstat(path).st_mode) not in (stat.S_IFREG, stat.S_IFLNK):
            raise OutputUnwritableError(path, "it is no regular file")
    if len(os.fsencode(os.path.basename(path))) > 255:
        raise OutputUnwritableError(path, "its name is too long")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputUnwritableError(path, f"the folder {folder!r} is not writable")


def check_beside(
    path: str, others: Iterable[str | None], what: str, *, replaces: bool
) -> Destination:
    """Return where a file beside an output goes, or refuse it.

    Args:
        path: where it is to go.
        others: the paths that are read and written beside it.
        what: "report" or "record", as its option is called.
        replaces: whether an existing file is replaced.

    Raises:
        OutputTakenError: it is one of the others.
        OutputExistsError: it is there, and may not be replaced.
        OutputUnwritableError: it cannot be written there.
    """
    if any(other is not None and _are_one(path, other) for other in others):
        raise OutputTakenError(path, kind=what)
    destination = Destination(path, replaces)
    try:
        check_destination(destination, None, in_place=False)
    except OutputExistsError as error:
        raise OutputExistsError(path, kind=what) from error
    return destination


def _are_one(path: str, other: str) -> bool:
    """Whether two paths lead to one file, whatever they are called."""
    return os.path.realpath(path) == os.path.realpath(other) or _same_file(path, other)


def _same_file(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False
