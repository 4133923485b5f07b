"""Count elements in bins of equal width."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.tensors.elements import Array, Elements
from reinit_cli.tensors.moments import magnitudes

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_LEAST_STEP, _FARTHEST = 1e-30, 1e37
"""Narrower bins, and those further from 0, need float64."""


_LARGEST = 1e300
"""Larger numbers, and ranges below its inverse, have no room for bins."""


def has_room(low: float, high: float) -> bool:
    """Whether there are bins between two numbers, and an axis to draw them on."""
    return high - low > 1 / _LARGEST and max(abs(low), abs(high)) < _LARGEST


@dataclass(frozen=True, slots=True)
class Histogram:
    """The number of elements in each of some bins of equal width.

    Attributes:
        low, high: where the first bin starts and the last ends, which both count.
        counts: of each bin.
    """

    low: float
    high: float
    counts: tuple[int, ...]

    def __add__(self, other: Histogram) -> Histogram:
        """Return the sum of two histograms with the same bins."""
        assert (self.low, self.high) == (other.low, other.high)
        counts = tuple(one + two for one, two in zip(self.counts, other.counts, strict=True))
        return Histogram(self.low, self.high, counts)

    @property
    def step(self) -> float:
        """The width of a bin."""
        return (self.high - self.low) / len(self.counts)

    def coarser(self, bins: int) -> Histogram:
        """Return it with fewer bins, each of several of its own."""
        width, rest = divmod(len(self.counts), bins)
        assert not rest
        counts = self.counts
        parts = tuple(sum(counts[at : at + width]) for at in range(0, len(counts), width))
        return Histogram(self.low, self.high, parts)


class Counter:
    """Counts the elements of blocks as they pass."""

    def __init__(self, low: float, high: float, bins: int) -> None:
        """Divide [low, high) into bins; two more take what lies below and above."""
        self._low, self._high, self._bins = low, high, bins
        self._step = (high - low) / bins
        self._is_wide = self._step < _LEAST_STEP or max(abs(low), abs(high)) > _FARTHEST
        self._slots = [0] * (bins + 2)

    def add(self, block: Array) -> None:
        """Count the floats of a block; all of them are finite."""
        values = block.astype(np.float64) if self._is_wide else block
        with np.errstate(over="ignore"):  # what becomes infinite lies outside the bins
            slots = np.clip((values - self._low) / self._step + 1, 0, self._bins + 1)
        counted = np.bincount(slots.reshape(-1).astype(np.int32), minlength=self._bins + 2)
        self._slots = [a + b for a, b in zip(self._slots, counted.tolist(), strict=True)]

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Yield each edge between bins, and how many elements lie below it."""
        for at, below in enumerate(accumulate(self._slots[:-1])):
            yield self._low + at * self._step, below

    def histogram(self) -> Histogram:
        """Return what lies within the bins."""
        return Histogram(self._low, self._high, tuple(self._slots[1:-1]))


def histogram_of(blocks: Iterable[Elements], low: float, high: float, bins: int) -> Histogram:
    """Count the finite elements of blocks, of which `low` is the smallest and `high` the largest.

    Complex ones are counted by their magnitudes.
    """
    counts = [0] * bins
    # The widest ranges overflow unless they are scaled, which leaves elements in their bins.
    scale = 1.0 if math.isfinite(bins * (float(high) - float(low))) else 2**-10
    low, high = low * scale, high * scale
    for block in blocks:
        values = magnitudes(block) * scale if scale != 1 else magnitudes(block)
        counted = _counts(values, low, high, bins)
        counts = [a + b for a, b in zip(counts, counted, strict=True)]
    return Histogram(low / scale, high / scale, tuple(counts))


def _counts(values: Array, low: float, high: float, bins: int) -> list[int]:
    """Count numbers in bins, step by step as `torch.histc` does.

    What lies outside, NaN and infinities among them, is not counted.
    """
    if not low < high:
        return [int(np.count_nonzero(values == low)), *[0] * (bins - 1)]
    is_inside = (values >= low) & (values <= high)
    inside = values if is_inside.all() else values[is_inside]
    at = ((inside - low) * bins / (high - low)).astype(np.int64)
    counted: list[int] = np.bincount(np.minimum(at, bins - 1), minlength=bins).tolist()
    return counted
