"""Show progress on stderr while a command works."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from reinit_cli.text import printable
from reinit_cli.threads import signals_held

if TYPE_CHECKING:
    from rich import progress as rich_progress

    from reinit_cli.threads import Progress

PATIENCE_SECONDS = 1.0
"""Work that is done by then shows no progress."""


class Meter:
    """A progress bar on stderr, if that is a terminal and the work takes over a second.

    Between planning and the first write it is silent, since torch shows a bar of its own
    for a download.
    """

    def __init__(self, name: str, *, is_shown: bool) -> None:
        self._is_shown = is_shown and sys.stderr.isatty()
        self._lock = threading.Lock()
        self._timer = threading.Timer(PATIENCE_SECONDS, self._lose_patience)
        self._timer.daemon = True
        self._is_late = False
        self._is_aside = False
        self._bar: rich_progress.Progress | None = None
        self._name = printable(name)
        self._total: int | None = None
        self._done = 0

    def __enter__(self) -> Self:
        """Start the clock."""
        if self._is_shown:
            self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the bar."""
        self._timer.cancel()
        with self._lock:
            self._is_shown = False
            self._stop()

    def of(self, total_nbytes: int) -> Progress:
        """Return the function that counts written bytes, now that their total is known."""
        with self._lock:
            self._total = total_nbytes
            self._stop()
        return self._advance

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Remove the bar while something else is written to the terminal."""
        with signals_held(), self._lock:
            self._is_aside = True
            self._stop()
        try:
            yield
        finally:
            self._is_aside = False

    def _lose_patience(self) -> None:
        with self._lock:
            self._is_late = True
            if self._total is None:
                self._show()

    def _advance(self, nbytes: int) -> None:
        with self._lock:
            self._done += nbytes
            if self._is_late:
                self._show()

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        if self._bar is None and self._is_shown and not self._is_aside:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.add_task(self._name, total=None)
            self._bar.start()
        if self._bar is not None:
            (task,) = self._bar.task_ids
            self._bar.update(task, completed=self._done, total=self._total)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
