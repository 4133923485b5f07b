"""Show on stderr how far a command is: a bar on a terminal, lines now and then in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from reinit_cli.cli.render.gauge import Gauge, bar_line, log_line
from reinit_cli.cli.screen import is_dumb, screen_of
from reinit_cli.errors import ReinitError
from reinit_cli.text import printable
from reinit_cli.threads import signals_held, start

if TYPE_CHECKING:
    from rich.live import Live

PATIENCE_SECONDS = 1.0
"""Work that is done by then shows no bar."""

_LOG_SECONDS = (2.0, 5.0, 10.0, 30.0)
"""How long after each other lines come in a log; the last is kept."""

_SPEED_SECONDS = 15.0
"""The time over which a speed is measured."""


class Meter:
    """How far a command is, on stderr.

    A terminal shows a bar once the work has taken a second. Where a meter is forced, any other
    stream gets a line now and then, and one at the end, unless the work failed. Between planning
    and the first write it is silent, since torch shows a bar of its own for a download.

    Args:
        name: what is worked on.
        is_shown: whether there is a bar on a terminal.
        is_forced: whether there is a meter everywhere.
    """

    def __init__(self, name: str, *, is_shown: bool, is_forced: bool = False) -> None:
        is_live = sys.stderr.isatty() and not is_dumb()
        self._is_shown = is_forced or (is_shown and is_live)
        self._is_live = is_live
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._is_aside = False
        self._has_begun = False
        self._live: Live | None = None
        self._gauge = Gauge(printable(name), _SPEED_SECONDS)
        self._ticker = threading.Thread(target=self._tick)

    def __enter__(self) -> Self:
        """Start the clock."""
        if self._is_shown:
            with signals_held(), suppress(ReinitError):
                start(self._ticker, "reinit-meter")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the bar, or write the last line of a log."""
        with self._lock:
            if self._is_shown and not self._is_live and error is None and self._gauge.total:
                self._log(is_last=True)
        self.end()

    def end(self) -> None:
        """Remove the bar; a log gets no more lines."""
        self._stopped.set()
        with self._lock:
            self._is_shown = False
            self._stop()

    def of(self, total_nbytes: int) -> Self:
        """Return what counts written bytes, a `Follower`, now that their total is known."""
        with self._lock:
            self._gauge.total = total_nbytes
            self._gauge.begin(time.monotonic())
            self._stop()
        return self

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

    def __call__(self, nbytes: int, /) -> None:
        """Count written bytes."""
        with self._lock:
            self._has_begun = True
            self._gauge.advance(nbytes, time.monotonic())

    def follow(self, key: str) -> None:
        """Note the tensor that this thread works on now; "" for none."""
        with self._lock:
            self._has_begun = True
            self._gauge.note(threading.get_ident(), key)

    def _tick(self) -> None:
        """Show how far the work is until it is done."""
        if self._is_live:
            waits = iter([PATIENCE_SECONDS])
            while not self._stopped.wait(next(waits, 0.1)):
                with self._lock:
                    self._show()
            return
        waits = iter(_LOG_SECONDS)
        seconds = _LOG_SECONDS[0]
        while not self._stopped.wait(seconds := next(waits, seconds)):
            with self._lock:
                if self._is_shown and (self._gauge.total is None or self._has_begun):
                    self._log()

    def _log(self, *, is_last: bool = False) -> None:
        if not self._is_aside:
            line = log_line(self._gauge, time.monotonic(), is_last=is_last)
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    def _show(self) -> None:
        is_silent = self._gauge.total is not None and not self._has_begun
        if self._is_aside or is_silent or not self._is_shown:
            return
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        if self._live is None:
            console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
            self._live = Live(
                console=console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        screen = screen_of(sys.stderr)
        line = bar_line(self._gauge, time.monotonic(), screen.width - 1, screen)
        self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
