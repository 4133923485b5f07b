"""Count the histograms that a picture of a rewrite shows: before, and drawn."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING

from reinit_cli.initializers import Law
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.tensors.elements import Elements
from reinit_cli.tensors.histogram import Counter, Histogram, has_room
from reinit_cli.tensors.moments import Moments, moments_of, real_numbers

if TYPE_CHECKING:
    import numpy as np

    from reinit_cli.tensors.blocks import Blocks
else:
    np = LazyModule("numpy")


BINS = 64
"""Of a histogram that is drawn."""


PICTURES = 120
"""The most tensors of which pictures are drawn: a page of them stays below a megabyte."""


_REACH = 5
"""How many deviations from the mean a picture reaches."""


@dataclass(frozen=True, slots=True)
class Sketch:
    """The outline of one filled tensor.

    Attributes:
        before, after: of the values before and of what was drawn, before rounding; None where
            there was no number.
    """

    before: Histogram | None
    after: Histogram | None


class Sketcher:
    """Observes one tensor, and counts its elements."""

    def __init__(self, step: Step) -> None:
        """Choose the bins by the law of a step."""
        assert step.law is not None
        self._law = step.law
        self._before: Histogram | None = None
        self._after = _counter_of(step.law, None)

    def see_before(self, blocks: Blocks, moments: Moments) -> None:
        """Count the values before."""
        self._before = histogram_of(blocks, moments)
        self._after = _counter_of(self._law, self._before)

    def see(self, block: Elements, moments: Moments) -> None:
        """Count a block of what was drawn."""
        if self._after is not None and math.isfinite(moments.mean):
            self._after.add(real_numbers(block))

    def sketch(self) -> Sketch:
        """Return the outline, once all blocks were seen."""
        after = self._after.histogram() if self._after is not None else None
        return Sketch(self._before, after if after is not None and any(after.counts) else None)


def _counter(low: float, high: float, bins: int = BINS) -> Counter | None:
    return Counter(low, high, bins) if has_room(low, high) else None


def _counter_of(law: Law, before: Histogram | None) -> Counter | None:
    """Return bins in which the elements of a law lie, or nearly all of them.

    What may be as it was before gets the bins of before and some next to them, so that equal
    values look equal.
    """
    low = max(law.low, law.mean - _REACH * law.std)
    high = min(law.high, law.mean + _REACH * law.std)
    if math.isfinite(low + high):
        if law.is_random and low < high:
            return _counter(*_widened(low, high))
        low, high = (law.low, law.high) if math.isfinite(law.low) else (law.mean, law.mean)
        if before is None:
            return _counter(*_around(low, high))
    elif before is None:  # of a transform only the values before are known
        return _counter(0.0, 1.0)
    else:
        low, high = _around(before.low, before.high)
    below = math.ceil(max(0.0, before.low - low) / before.step)
    above = math.ceil(max(0.0, high - before.high) / before.step) + 1
    if below + above > _MOST_MORE * BINS:
        return _counter(*_around(min(low, before.low), max(high, before.high)))
    step = before.step
    return _counter(before.low - below * step, before.high + above * step, BINS + below + above)


_MOST_MORE = 3
"""How many times as many bins there may be beyond those of the values before."""


def _around(low: float, high: float) -> tuple[float, float]:
    """Return a range with single values in it, far from its ends."""
    if not math.isfinite(low + high):
        return 0.0, 1.0
    margin = (high - low) / 8 or abs(low) / 2 or 0.5
    return low - margin, high + margin


def _widened(low: float, high: float) -> tuple[float, float]:
    """Return a range that ends just after its last value, which then counts."""
    return low, high + (high - low) * 2**-20


def histogram_of(blocks: Blocks, moments: Moments) -> Histogram | None:
    """Count the finite elements of a tensor; None if there are none, or no room for bins.

    Args:
        blocks: the tensor.
        moments: those of all its elements.
    """
    if not math.isfinite(moments.mean):
        moments = sum(map(moments_of, map(_finite, blocks())), start=Moments())
    if not moments.numel:
        return None
    low = max(moments.low, moments.mean - _REACH * moments.std)
    high = min(moments.high, moments.mean + _REACH * moments.std)
    counter = _counter(*(_widened(low, high) if low < high else _around(low, low)))
    if counter is None:
        return None
    for block in blocks():
        counter.add(_finite(block).array)
    return counter.histogram()


def _finite(block: Elements) -> Elements:
    values = real_numbers(block)
    return Elements(values[np.isfinite(values)], values.dtype.name)


class Sketches:
    """Observes the draws of which pictures are wanted."""

    def __init__(self, keys: Collection[str]) -> None:
        """Observe the draws of some keys."""
        self._keys = keys
        self._sketchers: dict[str, Sketcher] = {}

    def observe(self, step: Step) -> Sketcher | None:
        """Return who counts the draw of a step, if it is wanted."""
        if step.drawn_as not in self._keys:
            return None
        sketcher = self._sketchers[step.drawn_as] = Sketcher(step)
        return sketcher

    def sketches(self) -> dict[str, Sketch]:
        """Return the outline of each tensor that was drawn."""
        return {key: sketcher.sketch() for key, sketcher in self._sketchers.items()}


def pictured(plan: Plan) -> frozenset[str]:
    """Choose the filled tensors of which pictures are drawn: the largest."""
    fills = sorted(plan.draws, key=lambda step: -step.tensor.numel)
    return frozenset(step.key for step in fills[:PICTURES])
