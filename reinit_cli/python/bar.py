"""Show progress in a terminal or a notebook while a function works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from reinit_cli.text import kind_of, printable, shortened
from reinit_cli.threads import Progress, unwatched

if TYPE_CHECKING:
    import rich.progress

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
        with _bar(what, nbytes) as shown:
            yield shown
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
        yield _Bar(shown, task, printable(what))
        # A total is an estimate: what a file has besides its tensors is written too.
        shown.update(task, total=nbytes, completed=nbytes)


class _Bar:
    """A bar with the tensor that was begun last."""

    def __init__(
        self, shown: rich.progress.Progress, task: rich.progress.TaskID, what: str
    ) -> None:
        self._shown = shown
        self._task = task
        self._what = what

    def __call__(self, nbytes: int, /) -> None:
        """Count bytes that are done."""
        self._shown.advance(self._task, nbytes)

    def follow(self, key: str) -> None:
        """Show the tensor that is in work."""
        if key:
            description = f"{self._what}: {printable(shortened(key, 40))}"
            self._shown.update(self._task, description=description)
