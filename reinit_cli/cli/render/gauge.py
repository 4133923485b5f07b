"""Say in one line how far some work is: what is in work, its speed, and the time that is left."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import field

from reinit_cli.cli.render.layout import shortened, width_of
from reinit_cli.cli.screen import Screen
from reinit_cli.lazy import dataclass
from reinit_cli.text import nbytes, printable

_LEAST_NAME, _LEAST_BAR, _MOST_BAR = 10, 8, 30
"""Columns of a name, and of the bar, without which it is left out."""


@dataclass(slots=True)
class Gauge:
    """How far some work is.

    Attributes:
        name: what is worked on.
        window: the seconds over which its speed is measured.
        total: the bytes of all of it; None while it is planned.
        done: those that are done.
    """

    name: str
    window: float
    total: int | None = None
    done: int = 0
    _begun: float | None = None
    _samples: deque[tuple[float, int]] = field(default_factory=deque)
    _working: dict[int, str] = field(default_factory=dict)

    def begin(self, now: float) -> None:
        """Note that the work begins whose speed is measured."""
        self._begun = now
        self._samples.append((now, self.done))

    def advance(self, count: int, now: float) -> None:
        """Count bytes that are done."""
        self.done += count
        if not self._samples or now - self._samples[-1][0] > self.window / 100:
            self._samples.append((now, self.done))
        while len(self._samples) > 2 and now - self._samples[1][0] > self.window:
            self._samples.popleft()

    def note(self, thread: int, key: str) -> None:
        """Note the tensor that a thread works on; "" for none."""
        self._working.pop(thread, None)
        if key:
            self._working[thread] = printable(key)

    @property
    def key(self) -> str:
        """The tensor that has been in work for the longest; "" for none."""
        return next(iter(self._working.values()), "")

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    def speed(self, now: float) -> float:
        """Return the bytes done in a second, of late."""
        if not self._samples:
            return 0.0
        since, before = self._samples[0]
        return (self.done - before) / (now - since) if now > since else 0.0

    def seconds_left(self, now: float) -> float | None:
        """Return the time that the rest takes at this speed; None where nothing tells."""
        speed = self.speed(now)
        if not self.total or not speed:
            return None
        return max(0, self.total - self.done) / speed

    def seconds(self, now: float) -> float:
        """Return how long the work has taken."""
        return now - self._begun if self._begun is not None else 0.0


def clock(seconds: float) -> str:
    """Return a time as on a watch: "0:07", "12:30", "1:05:00"."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def bar_line(gauge: Gauge, now: float, width: int, screen: Screen) -> str:
    """Return one line of a terminal, at most `width` columns wide.

    What is said first is left out last: how much is done, the time left, the speed, the tensor
    in work, and the bar.
    """
    if gauge.total is None:
        return _fitted(f"planning {gauge.name}", width, screen)
    left = gauge.seconds_left(now)
    said = [f"{gauge.share:4.0%}"]
    for text in (
        f"{clock(left)} left" if left is not None else "",
        f"{nbytes(round(gauge.speed(now)))}/s",
    ):
        if text and sum(map(len, said)) + 2 * len(said) + len(text) <= width:
            said.insert(1, text)
    room = width - sum(map(len, said)) - 2 * len(said)
    if room < _LEAST_NAME:
        return "  ".join(said)[:width]
    what = f"{gauge.name}: {gauge.key}" if gauge.key else gauge.name
    if gauge.key and width_of(what) > room - _LEAST_BAR - 2:
        what = gauge.key
    bar = max(0, min(_MOST_BAR, room - width_of(what) - 2, room // 2))
    bar = bar if bar >= _LEAST_BAR else 0
    name = _fitted(what, room - (bar + 2 if bar else 0), screen)
    drawn = [_bar(gauge.share, bar, screen)] if bar else []
    return "  ".join([name, *drawn, *said])


def log_line(gauge: Gauge, now: float, *, is_last: bool = False) -> str:
    """Return one line of a log."""
    if gauge.total is None:
        return f"{gauge.name}: planning"
    if is_last:
        return f"{gauge.name}: {nbytes(gauge.done)} in {gauge.seconds(now):.1f} s"
    left = gauge.seconds_left(now)
    said = [
        f"{gauge.share:.0%} of {nbytes(gauge.total)}",
        f"{nbytes(round(gauge.speed(now)))}/s",
        *([f"{clock(left)} left"] if left is not None else []),
        *([gauge.key] if gauge.key else []),
    ]
    return f"{gauge.name}: {', '.join(said)}"


def _fitted(text: str, width: int, screen: Screen) -> str:
    ellipsis = "…" if screen.is_unicode else "..."
    return shortened(text, width, ellipsis) if width_of(text) > width else text


def _bar(share: float, width: int, screen: Screen) -> str:
    full, empty = ("━", "╌") if screen.is_unicode else ("#", "-")
    done = int(share * width)
    return full * done + empty * (width - done)
