"""Make the folders that outputs go into."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from reinit_cli.storage.destination import Destination, check_within
from reinit_cli.storage.location import is_remote
from reinit_cli.storage.system import naming_output
from reinit_cli.threads import signals_held


def make_folders_in(root: str, modes: Mapping[str, int]) -> None:
    """Make the folders that a new one holds, each open to nobody else than it is to be.

    Args:
        root: the new folder, which exists.
        modes: their permissions before the umask, and under "" those of the new folder.
    """
    for name in sorted(modes):
        path = os.path.join(root, name)
        if name:
            os.makedirs(path, exist_ok=True)
        _permit(path, modes[name] | stat.S_IRWXU)  # or nothing could be written into it


def restrict_folders_in(root: str, modes: Mapping[str, int]) -> None:
    """Take from a folder, and from those in it, what its owner is not to do either."""
    for name in sorted(modes, reverse=True):
        if modes[name] & stat.S_IRWXU != stat.S_IRWXU:
            with suppress(OSError):  # the output has its name, and is whole
                _permit(os.path.join(root, name), modes[name])


def _permit(path: str, mode: int) -> None:
    """Leave of the permissions of a new folder those that a mode has too."""
    new = stat.S_IMODE(os.stat(path).st_mode)
    if new & (mode | ~0o777) != new:
        os.chmod(path, new & (mode | ~0o777))


@contextmanager
def folders_above(destinations: Iterable[Destination]) -> Iterator[None]:
    """Make the folders that are missing, and remove again those in which nothing appears.

    Raises:
        OutputUnwritableError: the system refuses one.
    """
    made: list[str] = []
    try:
        for each in destinations:
            if each.makes_folders and each.path is not None and not is_remote(each.path):
                check_within(each)
                _make_folders(os.path.dirname(each.path.rstrip(os.sep)), made)
        yield
    finally:
        with signals_held():
            for folder in reversed(made):
                _remove_if_empty(folder)


def _make_folders(folder: str, made: list[str]) -> None:
    """Make a folder and those above it, and note each that was not there."""
    if not folder or os.path.isdir(folder):
        return
    _make_folders(os.path.dirname(folder), made)
    with signals_held(), naming_output(folder):
        os.mkdir(folder)
        made.append(folder)


def _remove_if_empty(folder: str) -> None:
    for _ in range(2):  # what a network refuses once, it often does the next time
        with suppress(OSError):
            os.rmdir(folder)
