"""Count elements in bins of equal width."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from reinit_cli.tensors.moments import magnitudes

if TYPE_CHECKING:
    from torch import Tensor

_LEAST_STEP = 1e-30
"""Narrower bins need float64."""


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
        self._slots = [0] * (bins + 2)

    def add(self, block: Tensor) -> None:
        """Count the elements of a block; all of them are finite."""
        import torch

        values = block.double() if self._step < _LEAST_STEP else block
        slots = ((values - self._low) / self._step + 1).clamp_(0, self._bins + 1)
        counted = torch.bincount(slots.flatten().to(torch.int32), minlength=self._bins + 2)
        self._slots = [a + b for a, b in zip(self._slots, counted.tolist(), strict=True)]

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Yield each edge between bins, and how many elements lie below it."""
        for at, below in enumerate(accumulate(self._slots[:-1])):
            yield self._low + at * self._step, below

    def histogram(self) -> Histogram:
        """Return what lies within the bins."""
        return Histogram(self._low, self._high, tuple(self._slots[1:-1]))


def histogram_of(blocks: Iterable[Tensor], low: float, high: float, bins: int) -> Histogram:
    """Count the finite elements of blocks, of which `low` is the smallest and `high` the largest.

    Complex ones are counted by their magnitudes.
    """
    import torch

    counts = torch.zeros(bins, dtype=torch.float64)
    # The widest ranges overflow unless they are scaled, which leaves elements in their bins.
    scale = 1.0 if math.isfinite(bins * (float(high) - float(low))) else 2**-10
    low, high = low * scale, high * scale
    for block in blocks:
        values = magnitudes(block) * scale if scale != 1 else magnitudes(block)
        # What lies outside, NaN and infinities among them, is not counted.
        counts += torch.histc(values, bins, low, high) if low < high else 0
        counts[0] += 0 if low < high else int((values == low).sum())
    return Histogram(low / scale, high / scale, tuple(map(int, counts.tolist())))
