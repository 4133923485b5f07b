"""Progress on stderr while a command works."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from reinit_cli.text import printable

if TYPE_CHECKING:
    from rich import progress as rich_progress

    from reinit_cli.engine import Progress

PATIENCE_SECONDS = 1.0
"""Work that is done by then shows no progress."""


class Meter:
    """A progress bar on stderr, if that is a terminal and the work takes over a second."""

    def __init__(self, name: str, *, is_shown: bool) -> None:
        self._is_shown = is_shown and sys.stderr.isatty()
        self._lock = threading.Lock()
        self._timer = threading.Timer(PATIENCE_SECONDS, self._show)
        self._timer.daemon = True
        self._bar: rich_progress.Progress | None = None
        self._name = printable(name)
        self._total: int | None = None
        self._done = 0

    def __enter__(self) -> Self:
        """Start to wait."""
        if self._is_shown:
            self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        self._timer.cancel()
        with self._lock:
            self._is_shown = False
            if self._bar is not None:
                self._bar.stop()

    def of(self, total_nbytes: int) -> Progress:
        """Return what is told of every write, now that their total is known."""
        with self._lock:
            self._total = total_nbytes
        return self._advance

    def _advance(self, nbytes: int) -> None:
        with self._lock:
            self._done += nbytes
            self._update()

    def _update(self) -> None:
        if self._bar is not None:
            (task,) = self._bar.task_ids
            self._bar.update(task, description=self._name, completed=self._done, total=self._total)

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        with self._lock:
            if not self._is_shown:
                return
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.add_task(self._name, total=None)
            self._update()
            self._bar.start()
