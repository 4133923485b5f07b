"""Describe small pictures of tensors, independent of the library that draws them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from reinit_cli.lazy import dataclass
from reinit_cli.tensors.histogram import has_room
from reinit_cli.text import plural, shape

if TYPE_CHECKING:
    from reinit_cli.initializers import Law
    from reinit_cli.operations.difference import Difference
    from reinit_cli.operations.rewrite import Outcome
    from reinit_cli.operations.stats import Measured
    from reinit_cli.tensors.histogram import Histogram

Point = tuple[float, float]

_MOST_WIDER = 3
"""How much wider than what is new a picture may be, so that what was there is seen too."""

_MOST_HIGHER = 2.5
"""How much higher, before it is cut off."""

_BARS = 64
"""How many bars of a single value fit next to each other in a picture."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What lies outside a picture, which says so.

    Attributes:
        bars: from where to where bars are cut off at the top.
        times: how much higher than the picture the highest is; 0 where none is cut off.
        goes_lower, goes_higher: whether values lie to the left and to the right of it.
    """

    bars: Sequence[tuple[float, float]] = ()
    times: float = 0.0
    goes_lower: bool = False
    goes_higher: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """The picture of one tensor.

    Attributes:
        key: its key.
        about: its shape and what filled it.
        numbers: what it is like, in a line.
        before: the histogram of the old values, or None.
        after: that of what there is now, or None.
        law: what it was drawn from, or None.
        numel: how many elements it has: of many panels, a figure shows the largest.
    """

    key: str
    about: str
    numbers: str
    before: Histogram | None
    after: Histogram | None
    law: Law | None = None
    numel: int = 0

    @property
    def window(self) -> tuple[float, float]:
        """Where the axis starts and ends."""
        main, other = _with_width(self.after) or _with_width(self.before), _with_width(self.before)
        if main is None or other is None:
            return main or other or (0.0, 1.0)
        margin = (main[1] - main[0]) * (_MOST_WIDER - 1) / 2
        low = min(main[0], max(other[0], main[0] - margin))
        high = max(main[1], min(other[1], main[1] + margin))
        return low, high

    @property
    def expected(self) -> list[Point]:
        """The density of the law over the new bins; nothing where it has none or does not say."""
        law, after = self.law, self.after
        if law is None or after is None or not law.is_random or not law.std:
            return []
        # The mean density of each bin, so that it is as high as the bin even at a step.
        low, high, step = after.low, after.high, after.step
        shares = [law.cdf(low + at * step) for at in range(len(after.counts) + 1)]
        if not all(map(math.isfinite, shares)):
            return []
        densities = [(upper - lower) / step for lower, upper in pairwise(shares)]
        middles = [(low + (at + 0.5) * step, y) for at, y in enumerate(densities)]
        return [(low, 0.0), (low, densities[0]), *middles, (high, densities[-1]), (high, 0.0)]

    @property
    def height(self) -> float:
        """The density at the top of the picture."""
        new = max(self._peak(self.after), max((y for _, y in self.expected), default=0.0))
        old = self._peak(self.before)
        if new and old > 1.2 * _MOST_HIGHER * new:  # what is little higher is shown whole
            return 1.08 * _MOST_HIGHER * new
        return 1.08 * max(new, old) or 1.0

    def outline(self, histogram: Histogram) -> list[Point]:
        """Return the outline of one of its histograms as a density; see `steps_of`."""
        low, high = self.window
        return steps_of(histogram, (high - low) / _BARS)

    @property
    def cut(self) -> Cut:
        """What the picture leaves out of the values before."""
        if self.before is None:
            return Cut()
        (low, high), top, peak = self.window, self.height, self._peak(self.before)
        return Cut(
            [
                (left, right)
                for (left, one), (right, two) in pairwise(self.outline(self.before))
                if min(one, two) > top and left < right
            ],
            peak / top if peak > top else 0.0,
            goes_lower=self.before.low < low,
            goes_higher=self.before.high > high,
        )

    def _peak(self, histogram: Histogram | None) -> float:
        return max(y for _, y in self.outline(histogram)) if histogram is not None else 0.0


def _with_width(histogram: Histogram | None) -> tuple[float, float] | None:
    if histogram is None:
        return None
    low, high = histogram.low, histogram.high
    margin = 0.0 if low < high else abs(low) / 2 or 0.5
    return low - margin, high + margin


def drawable(histogram: Histogram | None) -> Histogram | None:
    """Return a histogram of which there can be a picture, and None for one of extremes."""
    if histogram is None or not any(histogram.counts):
        return None
    low, high = _with_width(histogram) or (0.0, 0.0)
    return histogram if has_room(low, high) else None


def steps_of(histogram: Histogram, width: float = 1 / _BARS) -> list[Point]:
    """Return the outline of a histogram as a density, from the axis and back to it.

    Args:
        histogram: of some elements.
        width: of the bar of a single value, which has none itself.
    """
    total = sum(histogram.counts)
    step = histogram.step or width
    outline = [(histogram.low, 0.0)]
    for at, count in enumerate(histogram.counts):
        y = count / (total * step)
        outline += [(histogram.low + at * step, y), (histogram.low + (at + 1) * step, y)]
    return [*outline, (outline[-1][0], 0.0)]


def drawn_of(count: int, total: int) -> str:
    """Say how many of all tensors have a picture, where some have none."""
    return f"{count:,} of {total:,} are drawn: the largest." if count < total else ""


def joined(bars: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return bars, those that touch each other as one."""
    found: list[tuple[float, float]] = []
    for low, high in bars:
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], high)
        else:
            found.append((low, high))
    return found


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return at most `most` round numbers between two, evenly spaced."""
    width = high - low
    power = 10.0 ** math.floor(math.log10(width / most))
    step = next(power * each for each in (1, 2, 5, 10, 20) if width / (power * each) <= most)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [at * step for at in range(first, last + 1)]


def panels_of_rewrite(outcome: Outcome) -> Iterator[Panel]:
    """Yield the picture of each filled tensor of which histograms were counted."""
    plan = outcome.job.plan
    for step in plan.draws:
        sketch = outcome.sketches.get(step.key)
        is_asked = step.rule is not None or step.head
        if sketch is None or not is_asked or step.init is None:
            continue
        filled = outcome.filled[step.key]
        if not filled.after.numel:  # later rules decide all of it
            continue
        stds = [filled.before.std] if filled.before is not None else []
        arrows = " → ".join(f"{std:.3g}" for std in (*stds, filled.after.std))
        expected = f", expected {step.follows.std:.3g}" if step.follows is not None else ""
        yield Panel(
            step.key,
            f"{shape(step.tensor.shape)} · {step.init.initializer.name}",
            f"std {arrows}{expected}",
            drawable(sketch.before),
            drawable(sketch.after),
            step.follows,
            step.tensor.numel,
        )


def panels_of_statistics(measured: Sequence[Measured]) -> Iterator[Panel]:
    """Yield the picture of each tensor or module of which a histogram was counted."""
    for each in measured:
        if (histogram := drawable(each.histogram)) is not None:
            moments = each.statistics.finite
            numbers = f"mean {moments.mean:.3g}, std {moments.std:.3g}"
            about = plural(each.statistics.numel, "element")
            yield Panel(each.key, about, numbers, None, histogram, None, each.statistics.numel)


def panels_of_differences(
    found: Sequence[Difference], before: Sequence[Measured], after: Sequence[Measured]
) -> Iterator[Panel]:
    """Yield the picture of each tensor whose values differ.

    Args:
        found: what differs.
        before: what was measured of the first source.
        after: what was measured of the second.
    """
    mine = {each.key: each for each in before}
    theirs = {each.key: each for each in after}
    for each in found:
        if each.first is None or each.second is None:
            continue
        old, new = mine.get(each.first.key), theirs.get(each.second.key)
        if old is not None and new is not None:
            stds = " → ".join(f"{one.statistics.finite.std:.3g}" for one in (old, new))
            yield Panel(
                each.key,
                shape(each.first.shape),
                f"std {stds}",
                drawable(old.histogram),
                drawable(new.histogram),
                numel=each.first.numel,
            )
