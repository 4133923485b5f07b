"""Make the folders that outputs go into."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from reinit_cli.storage.destination import Destination, check_within
from reinit_cli.storage.system import naming_output


@contextmanager
def folders_above(destinations: Iterable[Destination]) -> Iterator[None]:
    """Make the folders that are missing, and remove again those in which nothing appears.

    Raises:
        OutputUnwritableError: the system refuses one.
    """
    made: list[str] = []
    try:
        for each in destinations:
            if each.makes_folders and each.path is not None:
                check_within(each)
                _make_folders(os.path.dirname(each.path.rstrip(os.sep)), made)
        yield
    finally:
        for folder in reversed(made):
            with suppress(OSError):
                os.rmdir(folder)


def _make_folders(folder: str, made: list[str]) -> None:
    """Make a folder and those above it, and note each that was not there."""
    if not folder or os.path.isdir(folder):
        return
    _make_folders(os.path.dirname(folder), made)
    with naming_output(folder):
        os.mkdir(folder)
    made.append(folder)
