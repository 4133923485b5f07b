"""Round what is drawn, and find the numbers that are too large for the dtype of their tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from reinit_cli.errors import TensorError
from reinit_cli.initializers import Law, Move, Normal, Transform
from reinit_cli.lazy import LazyModule
from reinit_cli.planning.plan import Step
from reinit_cli.tensors.blocks import BLOCK_NUMEL, Blocks
from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.elements import Array, Elements
from reinit_cli.tensors.portions import Portions
from reinit_cli.tensors.rounding import are_beyond, in_dtype, numbers
from reinit_cli.text import plural

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_FARTHEST = 16
"""No stream has a normal that is as many deviations from its mean."""

Lose = Callable[[int], None]
"""Told of how many numbers the dtype of a tensor has none."""


def may_overflow(law: Law | None, dtype: str) -> bool:
    """Whether a law can give numbers that a dtype does not have; moved values are cast instead."""
    known = DTYPES[dtype]
    if law is None or known.kind != "float" or isinstance(law, Move):
        return False
    if isinstance(law, Normal):
        return not abs(law.mean) + _FARTHEST * law.std <= known.largest
    return not -known.largest <= law.low <= law.high <= known.largest


def too_large(count: int, dtype: str) -> str:
    """Say how many numbers are too large for a dtype."""
    are = "is" if count == 1 else "are"
    return f"{plural(count, 'number')} {are} beyond its largest, {DTYPES[dtype].largest:g}"


def refuse_overflow(step: Step, count: int) -> None:
    """Refuse a draw with numbers that are too large.

    Args:
        step: what is drawn.
        count: how many numbers of a part of it.

    Raises:
        TensorError: there are any.
    """
    if count:
        dtype = step.tensor.dtype
        raise TensorError(step.key, too_large(count, dtype), kind="overflow", of=dtype)


class Rounding:
    """Rounds a draw to the dtype of its tensor."""

    def __init__(
        self, step: Step, lose: Lose, values: Blocks | None = None, own: Blocks | None = None
    ) -> None:
        """Prepare to round.

        Args:
            step: what is drawn, and what becomes of numbers that are too large.
            lose: told how many of them there are, if they are an error.
            values: what a transform changes, where `next` rounds what it gives.
            own: the tensor's own values, where they are mixed with these.
        """
        self._dtype = step.tensor.dtype
        self._law = step.law
        self._clamps = step.overflow == "largest"
        self._looks = step.overflow != "rounded" and may_overflow(step.law, self._dtype)
        self._largest = DTYPES[self._dtype].largest
        self._lose = lose
        given = [each for each in (values, own) if each is not None]
        self._before = [_Before(each) for each in given]
        self._reached = 0

    @property
    def depends(self) -> bool:
        """Whether what is an overflow depends on the present values."""
        return self._looks and isinstance(self._law, Transform)

    def next(self, block: Elements) -> Elements:
        """Return the next elements of the tensor, rounded."""
        first, self._reached = self._reached, self._reached + block.numel
        return self._rounded(block, lambda: self._were_finite(first, block.numel))

    def some(self, block: Elements, present: Elements | None) -> Elements:
        """Return some elements, rounded.

        Args:
            block: the elements as they are drawn.
            present: what they are now, where a draw depends on that.
        """
        return self._rounded(block, lambda: self._was_finite(present))

    def _rounded(self, block: Elements, were_finite: Callable[[], Array | bool]) -> Elements:
        values = block.array
        if not self._looks or not block.numel or self._holds(values):
            return in_dtype(block, self._dtype)
        must_be_finite = self._must_be_finite(were_finite)
        is_lost = are_beyond(values, self._dtype) | (~np.isfinite(values) & must_be_finite)
        if self._clamps:
            largest = np.copysign(values.dtype.type(self._largest), values)
            block = Elements(np.where(is_lost, largest, values), block.dtype)
            is_lost &= np.isnan(values)
        if is_lost.any():
            self._lose(int(np.count_nonzero(is_lost)))
        return in_dtype(block, self._dtype)

    def _holds(self, values: Array) -> bool:
        """Whether the dtype has all of some numbers; a comparison with NaN is false."""
        return bool(-self._largest <= values.min() and values.max() <= self._largest)

    def _must_be_finite(self, were_finite: Callable[[], Array | bool]) -> Array | bool:
        """Return whether elements, or which of them, can be infinite by an overflow alone."""
        if isinstance(self._law, Transform):
            return were_finite()
        return self._law is not None and self._law.is_random and math.isfinite(self._law.std)

    def _was_finite(self, present: Elements | None) -> Array | bool:
        if isinstance(self._law, Transform) and self._law.mixes:
            return False  # those of the other checkpoint are not at hand
        return _are_finite(present) if present is not None else True

    def _were_finite(self, first: int, count: int) -> Array | bool:
        if self._law is None or not self._law.is_sequential:  # it moves or gathers them
            return all(each.are_finite for each in self._before)
        found = [each.finite(first, count) for each in self._before]
        return np.logical_and.reduce(found) if found else True


class _Before:
    """Which of the values that a transform changes are finite; read when that is first asked."""

    def __init__(self, values: Blocks) -> None:
        self._values = values
        self._portions: Portions | None = None
        self._reached = 0

    def finite(self, first: int, count: int) -> Array:
        """Return that of a run behind the last one."""
        if self._portions is None:
            self._portions = Portions(map(_are_finite, self._values()))
        while self._reached < first:
            self._take(min(first - self._reached, BLOCK_NUMEL))
        return self._take(count)

    def _take(self, count: int) -> Array:
        assert self._portions is not None
        found = np.empty(count, np.bool_)
        self._portions.take_into(found)
        self._reached += count
        return found

    @cached_property
    def are_finite(self) -> bool:
        """Whether all of them are."""
        return all(bool(_are_finite(block).all()) for block in self._values())


def _are_finite(block: Elements) -> Array:
    found: Array = np.isfinite(numbers(block.flat))
    return found
