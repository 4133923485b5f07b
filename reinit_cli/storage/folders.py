"""Make the folders that outputs go into."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from reinit_cli.storage.destination import Destination, check_within
from reinit_cli.storage.system import naming_output
from reinit_cli.threads import signals_held


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
