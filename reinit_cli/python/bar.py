"""Show progress in a terminal or a notebook while a function works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

from reinit_cli.text import kind_of, printable
from reinit_cli.threads import Progress, unwatched

Watching: TypeAlias = Progress | bool
"""Whether a bar is shown, or what is told the bytes that are done since the last time."""


@contextmanager
def watched(progress: Watching, what: str, nbytes: int) -> Iterator[Progress]:
    """Lend what counts the bytes that are done.

    Args:
        progress: whether a bar is shown, or what counts instead.
        what: what is worked on.
        nbytes: how many bytes there are.

    Raises:
        TypeError: it is neither true, false nor a function.
    """
    if callable(progress):
        yield progress
    elif not isinstance(progress, bool):
        raise TypeError(f"progress must be True, False or a function, not {kind_of(progress)}")
    elif progress:
        with _bar(what, nbytes) as counted:
            yield counted
    else:
        yield unwatched


@contextmanager
def _bar(what: str, nbytes: int) -> Iterator[Progress]:
    """Show the bar of rich, which stays when the work is done; a file gets none."""
    from rich import progress as rich
    from rich.console import Console

    console = Console(stderr=True)
    shown = rich.Progress(
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(),
        rich.DownloadColumn(),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        disable=not (console.is_terminal or console.is_jupyter),
    )
    with shown:
        task = shown.add_task(printable(what), total=nbytes)
        yield lambda done: shown.advance(task, done)
        # A total is an estimate: what a file has besides its tensors is written too.
        shown.update(task, total=nbytes, completed=nbytes)
