"""Measure the elements of tensors block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import field
from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.tensors.elements import Array, Elements
from reinit_cli.tensors.rounding import numbers
from reinit_cli.text import number, plural

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")


def square(value: float) -> float:
    """Return the square of a number; infinity where float64 has none."""
    try:
        return value**2
    except OverflowError:
        return math.inf


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean, standard deviation and range of the elements of one or more tensors.

    Attributes:
        numel: the number of elements.
        mean: their mean.
        squares: the sum of squared deviations from the mean.
        low, high: the smallest and the largest element.
    """

    numel: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    @property
    def std(self) -> float:
        """The standard deviation over the elements, not of a sample."""
        return math.sqrt(self.squares / self.numel) if self.numel else math.nan

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both together (Chan, Golub & LeVeque 1979).

        Values that `resample` draws depend on every step, see `halves`.
        """
        if not self.numel or not other.numel:
            return other if not self.numel else self
        numel = self.numel + other.numel
        apart = other.mean - self.mean
        share = other.numel / numel
        return Moments(
            numel,
            self.mean + apart * share,
            self.squares + other.squares + apart * apart * self.numel * share,
            min(self.low, other.low),
            max(self.high, other.high),
        )


BLOCK_NUMEL = 2**18
"""The elements that are drawn and measured together: they stay in the processor's cache."""

_FEW = 2**16
"""Of up to so many elements sums take no time, so that they are taken in float64."""

_ROW_NUMEL = 2**12
"""The elements that are summed in float32, before these sums are in float64."""

LEAST_SCALE = 2.0**-40
"""In float32, squares of much smaller elements vanish, and of much larger ones overflow."""


def real_numbers(elements: Elements) -> Array:
    """Return elements in one dimension, in float32 or float64; complex ones by their real part."""
    values = numbers(elements).reshape(-1)
    values = values.real if values.dtype.kind == "c" else values
    return values if values.dtype.kind == "f" else values.astype(np.float32)


def moments_of(elements: Elements) -> Moments:
    """Return the moments of elements; of complex ones those of their real parts."""
    flat = elements.flat.array
    parts = (flat[at : at + BLOCK_NUMEL] for at in range(0, len(flat), BLOCK_NUMEL))
    with np.errstate(all="ignore"):  # of what is not finite, the moments are not either
        return sum((_moments_of_block(Elements(part, elements.dtype)) for part in parts), Moments())


def _moments_of_block(block: Elements) -> Moments:
    values = real_numbers(block)
    low, high = values.min().item(), values.max().item()
    if low == high and math.isfinite(low):  # sums would be off by a rounding
        return Moments(len(values), low, 0.0, low, high)
    scale = max(-low, high)
    is_plain = LEAST_SCALE < scale < 1 / LEAST_SCALE
    if values.dtype == np.float32 and is_plain and len(values) > _FEW:
        mean, squares = _quickly(values)
    else:
        mean, squares = _mean_and_squares(values.astype(np.float64, copy=False))
    return Moments(len(values), mean, squares, low, high)


def _quickly(values: Array) -> tuple[float, float]:
    """Return the mean of many values, and the sum of squared deviations from it."""
    rows = values[: len(values) // _ROW_NUMEL * _ROW_NUMEL].reshape(-1, _ROW_NUMEL)
    rest = values[rows.size :].astype(np.float64)
    total = np.einsum("ij->i", rows).sum(dtype=np.float64) + rest.sum()
    squares = np.einsum("ij,ij->i", rows, rows).sum(dtype=np.float64) + np.square(rest).sum()
    mean = (total / len(values)).item()
    apart = squares.item() - len(values) * mean * mean
    if apart > squares / 2:
        return mean, apart
    return _mean_and_squares(values.astype(np.float64))  # both are large, and nearly equal


def _mean_and_squares(values: Array, buffer: Array | None = None) -> tuple[float, float]:
    """Return the mean of values, and the sum of squared deviations from it.

    Args:
        values: at least one.
        buffer: what the deviations are written to, such as the values themselves.
    """
    mean = values.mean()
    if np.isinf(mean):  # the sum is too large, and perhaps not the mean
        mean = (values / len(values)).sum()
    apart = np.subtract(values, mean, out=buffer)
    # The mean is rounded to the dtype of the values, and these may be nearly equal.
    more = apart.mean().item()
    squares = np.square(apart, out=apart).sum().item()
    if math.isinf(squares):  # float64 has no number for it, and perhaps none for what follows
        return mean.item(), squares
    squares -= len(values) * more * more
    return mean.item() + more, 0.0 if squares < 0 else squares


@dataclass(frozen=True, slots=True, repr=False)
class Statistics:
    """Statistics of the elements of tensors; for complex ones, of their magnitudes.

    Attributes:
        numel: the number of elements.
        nan: how many are NaN.
        inf: how many are infinite.
        zeros: how many are zero.
        finite: the moments of all finite elements, in float64.
    """

    numel: int = 0
    nan: int = 0
    inf: int = 0
    zeros: int = 0
    finite: Moments = field(default_factory=Moments)

    def __repr__(self) -> str:
        """Show the most telling numbers."""
        return f"<Statistics of {plural(self.numel, 'element')}: {self.summary}>"

    @property
    def summary(self) -> str:
        """The moments of the finite elements, and the number of NaN and infinite ones."""
        found = self.finite
        named = {"mean": found.mean, "std": found.std, "min": found.low, "max": found.high}
        numbers = [f"{name} {number(value)}" for name, value in named.items() if found.numel]
        others = {"NaN": self.nan, "infinite": self.inf}
        counts = [f"{count:,} {name}" for name, count in others.items() if count]
        return ", ".join((*numbers, *counts)) or "no elements"

    def __add__(self, other: Statistics) -> Statistics:
        """Return those of both together."""
        return Statistics(
            self.numel + other.numel,
            self.nan + other.nan,
            self.inf + other.inf,
            self.zeros + other.zeros,
            self.finite + other.finite,
        )

    @property
    def norm(self) -> float:
        """The Euclidean norm of the finite elements."""
        mean = self.finite.mean  # a power of it would overflow with an error
        return math.sqrt(self.finite.squares + self.finite.numel * mean * mean)

    @property
    def is_finite(self) -> bool:
        """Whether it has neither NaN nor infinities."""
        return not self.nan and not self.inf


def statistics_of(blocks: Iterable[Elements]) -> Statistics:
    """Return what the elements of blocks are like together."""
    with np.errstate(all="ignore"):
        return sum(map(_statistics_of_block, blocks), start=Statistics())


def magnitudes(block: Elements) -> Array:
    """Return elements in float64; complex ones by their magnitudes."""
    return _magnitudes(numbers(block))


def _magnitudes(values: Array) -> Array:
    if values.dtype.kind == "c":
        return np.abs(values.astype(np.complex128))
    return values.astype(np.float64, copy=False)


def _statistics_of_block(block: Elements) -> Statistics:
    exact = numbers(block)
    values = _magnitudes(exact)
    numel = values.size
    nan = inf = 0
    if not np.isfinite(values.sum()):
        nan = int(np.count_nonzero(np.isnan(values)))
        values = values[np.isfinite(values)]
        inf = numel - nan - values.size
    if not values.size:
        return Statistics(numel, nan, inf)
    zeros = values.size - int(np.count_nonzero(values))
    # float64 would round large integers.
    ordered = exact if exact.dtype.kind in "iu" else values
    low, high = ordered.min().item(), ordered.max().item()
    if low == high:
        return Statistics(numel, nan, inf, zeros, Moments(values.size, float(low), 0.0, low, high))
    # In place where the values are a copy: new memory would take as long as all the rest.
    mean, squares = _mean_and_squares(values, None if values is exact else values)
    return Statistics(numel, nan, inf, zeros, Moments(values.size, mean, squares, low, high))
