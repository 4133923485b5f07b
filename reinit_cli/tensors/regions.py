"""Say which elements of a run lie in ranges of each dimension of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule
from reinit_cli.tensors.elements import Array
from reinit_cli.tensors.slice import row_major

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")


class Region:
    """The elements of a tensor that lie in a range of each dimension."""

    def __init__(self, shape: tuple[int, ...], ranges: Sequence[range]) -> None:
        """Prepare to look.

        Args:
            shape: that of the tensor.
            ranges: some elements of each dimension, in ascending order.
        """
        self._is_empty = not all(ranges)
        if self._is_empty:
            return
        strides = row_major(shape)
        self._first = sum(each[0] * step for each, step in zip(ranges, strides, strict=True))
        last = sum(each[-1] * step for each, step in zip(ranges, strides, strict=True))
        partial = [at for at, dim in enumerate(shape) if len(ranges[at]) < dim]
        # Of a part that ends with whole rows, an element stands for a row.
        self._end = partial[-1] + 1 if partial else 0
        self._inner = prod(shape[self._end :])
        self._stop = last + 1
        self._shape, self._ranges = shape[: self._end], tuple(ranges[: self._end])
        numel = prod(map(len, ranges))
        self._is_run = numel == self._stop - self._first

    def members(self, start: int, stop: int) -> Array | None:
        """Return which elements of a run are in it, as booleans; None where none is.

        Args:
            start: the index of the first element of the run, in row-major order.
            stop: that of the first after it.
        """
        if self._is_empty or stop <= self._first or start >= self._stop:
            return None
        if self._is_run:
            found = np.zeros(stop - start, np.bool_)
            found[max(0, self._first - start) : self._stop - start] = True
            return found
        low, high = start // self._inner, -(-stop // self._inner)
        found = _rows_in(self._shape, self._ranges, low, high)
        if self._inner > 1:
            found = np.repeat(found, self._inner)
        found = found[start - low * self._inner :][: stop - start]
        return found if found.any() else None


def _rows_in(shape: tuple[int, ...], ranges: Sequence[range], low: int, high: int) -> Array:
    """Return which of some elements of a tensor lie in ranges of its dimensions.

    The last dimension repeats, and dimensions before it are the same for a row of it.
    """
    if not shape:
        return np.ones(high - low, np.bool_)
    *outer, dim = shape
    *outer_ranges, last = ranges
    first_row, end_row = low // dim, -(-high // dim)
    if len(last) == dim:
        found = np.repeat(_rows_in(tuple(outer), outer_ranges, first_row, end_row), dim)
        return found[low - first_row * dim :][: high - low]
    if high - low < dim:  # a row may be longer than any run of elements
        at = np.arange(low, high)
        found = _within(last, at % dim)
        rows = _rows_in(tuple(outer), outer_ranges, first_row, end_row)
        return found & rows[at // dim - first_row]
    pattern = _within(last, np.arange(dim))
    rows = _rows_in(tuple(outer), outer_ranges, first_row, end_row)
    found = (rows[:, None] & pattern).reshape(-1)
    return found[low - first_row * dim :][: high - low]


def _within(taken: range, at: Array) -> Array:
    found = (at >= taken.start) & (at < taken.stop)
    return found if taken.step == 1 else found & ((at - taken.start) % taken.step == 0)
