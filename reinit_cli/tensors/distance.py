"""Measure how far two tensors are apart, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.storage.segments import View
from reinit_cli.tensors.blocks import blocks_as_stored, blocks_row_by_row
from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.elements import Array, Elements
from reinit_cli.tensors.rounding import numbers

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")


@dataclass(frozen=True, slots=True)
class Distance:
    """The distance between the values of two tensors of the same shape.

    Attributes:
        numel: the number of elements.
        changed: how many differ by more than the tolerance.
        max_abs: the largest difference; infinite if values differ and one is not finite.
        relative_l2: the norm of the difference divided by the norm of the first, without elements
            that are not finite in one of them.
        cosine: the cosine of the angle between them, without the same; NaN if one has no direction.
    """

    numel: int
    changed: int
    max_abs: float
    relative_l2: float
    cosine: float


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The difference that counts as equal: |b - a| ≤ atol + rtol·|b|, as numpy.isclose has it.

    Attributes:
        rtol, atol: the relative and the absolute part.
    """

    rtol: float = 0.0
    atol: float = 0.0

    @property
    def is_exact(self) -> bool:
        """Whether only equal bits are equal."""
        return not self.rtol and not self.atol


def distance_of(pairs: Iterable[tuple[Elements, Elements]], tolerance: Tolerance) -> Distance:
    """Return how far two tensors are apart.

    Args:
        pairs: blocks of both, of the same length.
        tolerance: what counts as equal.
    """
    total = _Sums()
    with np.errstate(all="ignore"):
        for one, two in pairs:
            total += _sums_of(one, two, tolerance)
    return total.distance


@dataclass(frozen=True, slots=True)
class _Sums:
    """What is summed over blocks of two tensors.

    Attributes:
        numel: the number of elements; a complex one counts as two.
        changed: how many differ by more than the tolerance.
        max_abs: the largest difference.
        squares: of the finite differences.
        of_first, of_second: the squares of each, where both are finite.
        both: the products of both.
    """

    numel: int = 0
    changed: int = 0
    max_abs: float = 0.0
    squares: float = 0.0
    of_first: float = 0.0
    of_second: float = 0.0
    both: float = 0.0

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.numel + other.numel,
            self.changed + other.changed,
            max(self.max_abs, other.max_abs),
            self.squares + other.squares,
            self.of_first + other.of_first,
            self.of_second + other.of_second,
            self.both + other.both,
        )

    @property
    def distance(self) -> Distance:
        """The distance that they amount to."""
        squares, first = self.squares, self.of_first
        lengths = math.sqrt(first) * math.sqrt(self.of_second)
        relative = math.sqrt(squares / first) if first else (math.inf if squares else 0.0)
        cosine = self.both / lengths if lengths else math.nan
        return Distance(self.numel, self.changed, self.max_abs, relative, cosine)


def _sums_of(one: Elements, two: Elements, tolerance: Tolerance) -> _Sums:
    """Return the sums over one block of each."""
    is_complex = any(DTYPES[each.dtype].kind == "complex" for each in (one, two))
    a, b = (_widened(numbers(each), is_complex=is_complex) for each in (one, two))
    # float64 would round large integers.
    exact = _are_integers(one, two)
    apart = _integers_apart(one.array, two.array) if exact else np.abs(b - a)
    equal = one.array == two.array if exact else (a == b) | (np.isnan(a) & np.isnan(b))
    close = equal
    if not tolerance.is_exact:
        allowed = tolerance.atol + tolerance.rtol * np.abs(b)
        close = equal | ((apart <= allowed) & np.isfinite(b))
    apart[equal] = 0
    apart[np.isnan(apart)] = math.inf
    # What is not finite says nothing of norms and angles.
    are_finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(apart)
    first, second, finite = (_where(are_finite, each) for each in (a, b, apart))
    return _Sums(
        a.size,
        int(np.count_nonzero(~close)),
        apart.max().item() if apart.size else 0.0,
        _dot(finite, finite),
        _dot(first, first),
        _dot(second, second),
        _dot(first, second),
    )


def _where(chosen: Array, values: Array) -> Array:
    """Return numbers with zeros for those that are not chosen."""
    return values if chosen.all() else np.where(chosen, values, 0)


def _dot(one: Array, two: Array) -> float:
    """Return a scalar product, which does not depend on the number of threads of a library."""
    return float((one * two).sum())


def in_lockstep(first: View, second: View) -> Iterator[tuple[Elements, Elements]]:
    """Yield the elements of both in the same order, in blocks of the same length."""
    blocks = blocks_as_stored if first.layout == second.layout else blocks_row_by_row
    ours, theirs = blocks(first), blocks(second)
    one, two = next(ours, None), next(theirs, None)
    while one is not None and two is not None:
        count = min(one.numel, two.numel)
        yield _within(one, 0, count), _within(two, 0, count)
        one = _within(one, count) if count < one.numel else next(ours, None)
        two = _within(two, count) if count < two.numel else next(theirs, None)


def _within(block: Elements, start: int, stop: int | None = None) -> Elements:
    return Elements(block.array[start:stop], block.dtype)


def _are_integers(one: Elements, two: Elements) -> bool:
    return one.dtype == two.dtype and DTYPES[one.dtype].kind in ("integer", "bool")


def _integers_apart(one: Array, two: Array) -> Array:
    """Return how far integers of one dtype are apart, rounded to float64 once."""
    far, near = np.maximum(one, two), np.minimum(one, two)
    if one.dtype.kind == "b":
        return far.astype(np.float64) - near
    # The difference of two signed numbers may need the bit of the sign.
    unsigned = f"u{one.itemsize}"
    apart: Array = far.astype(unsigned) - near.astype(unsigned)
    return apart.astype(np.float64)


def _widened(block: Array, *, is_complex: bool) -> Array:
    """Return numbers in float64; real and imaginary parts in turn where one of two is complex."""
    if is_complex:
        return np.ascontiguousarray(block, np.complex128).view(np.float64)
    return block.astype(np.float64, copy=False)
