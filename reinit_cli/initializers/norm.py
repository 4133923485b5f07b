"""Define the law of norms: what weight norm keeps next to a direction that is drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from reinit_cli.initializers.blocks import pieces
from reinit_cli.initializers.drawing import drawn_blocks
from reinit_cli.initializers.law import Law
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array, Chance

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_LONG_RUN = 64
"""The elements from which on a run of one norm is summed by itself."""

_PORTION_NUMEL = 2**16
"""What is squared together: its sums stay in a processor's cache."""

_PEAK_PER_BYTE = 5
"""What a draw takes that says nothing of its memory."""


@dataclass(frozen=True, slots=True)
class NormOf(Law):
    """The norms of another draw, which is made again from the same stream.

    Squares are added in float64, element by element, so that the sums depend on neither threads
    nor the width of a machine's vectors.

    Attributes:
        of: the law of that draw.
        shape: the shape of its tensor.
        is_wide: whether it is drawn in float64.
        dim: the dimension that has a norm for each index; None for one norm of everything.
    """

    of: Law
    shape: tuple[int, ...]
    is_wide: bool
    dim: int | None
    mean = math.nan
    std = math.nan
    low = 0.0
    is_sequential = False

    @property
    def is_random(self) -> bool:
        """Whether the draw is."""
        return self.of.is_random

    @property
    def library(self) -> str:
        """That of the draw."""
        return self.of.library

    def fill(self, values: Array, chance: Chance) -> None:
        """Draw again, and write the norms."""
        numel = math.prod(self.shape)
        inner = numel if self.dim is None else math.prod(self.shape[self.dim + 1 :])
        sums = (_Runs if inner >= _LONG_RUN else _Cycles)(values.size, inner)
        dtype = np.dtype(np.float64 if self.is_wide else np.float32)
        reached = 0
        for block in drawn_blocks(self.of, self.shape, dtype, chance):
            for some in pieces(block, _PORTION_NUMEL):
                sums.add(np.square(some, dtype=np.float64), reached)
                reached += some.size
        values[...] = np.sqrt(sums.total()).reshape(values.shape)

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return what the draw takes, and the sums."""
        del itemsize
        return self._nbytes(self.of.working_nbytes(self.shape, self._itemsize), shape)

    def filling_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return what the draw takes, and the sums."""
        del itemsize
        return self._nbytes(self.of.filling_nbytes(self.shape, self._itemsize), shape)

    @property
    def _itemsize(self) -> int:
        return 8 if self.is_wide else 4

    def _nbytes(self, of: int | None, shape: tuple[int, ...]) -> int:
        if of is None:
            of = _PEAK_PER_BYTE * math.prod(self.shape) * self._itemsize
        return of + 16 * _LONG_RUN * math.prod(shape)


class _Runs:
    """Sums of runs of elements that have one norm, which are long."""

    def __init__(self, count: int, inner: int) -> None:
        """Start with nothing.

        Args:
            count: the number of norms.
            inner: the elements of a run; the next run is of the next norm.
        """
        self._inner = inner
        self._sums = np.zeros(count)

    def add(self, squares: Array, start: int) -> None:
        """Add the squares of elements, which are lost, the first of which has a number."""
        head = min(-start % self._inner, len(squares))
        self._add_runs(squares[:head].reshape(1, head), start)
        whole = (len(squares) - head) // self._inner
        end = head + whole * self._inner
        self._add_runs(squares[head:end].reshape(whole, self._inner), start + head)
        self._add_runs(squares[end:].reshape(1, len(squares) - end), start + end)

    def _add_runs(self, runs: Array, start: int) -> None:
        if runs.size:
            first = start // self._inner
            at = np.arange(first, first + len(runs)) % len(self._sums)
            np.add.at(self._sums, at, summed(runs.T))

    def total(self) -> Array:
        """Return the sums."""
        return self._sums


class _Cycles:
    """The same where runs are short: all of them together make a cycle."""

    def __init__(self, count: int, inner: int) -> None:
        """Start with nothing; arguments as above."""
        self._inner = inner
        self._sums = np.zeros(count * inner)

    def add(self, squares: Array, start: int) -> None:
        """Add the squares of elements, which are lost, the first of which has a number."""
        cycle = len(self._sums)
        head = min(-start % cycle, len(squares))
        self._sums[start % cycle :][:head] += squares[:head]
        whole = (len(squares) - head) // cycle
        end = head + whole * cycle
        if whole:
            self._sums += summed(squares[head:end].reshape(whole, cycle))
        self._sums[: len(squares) - end] += squares[end:]

    def total(self) -> Array:
        """Return the sums."""
        return summed(self._sums.reshape(-1, self._inner).T)


def summed(rows: Array) -> Array:
    """Return the sum of rows, which are lost: halves are added, in one order on every machine."""
    count = len(rows)
    while count > 1:
        half = count // 2
        rows[:half] += rows[count - half : count]
        count -= half
    total: Array = rows[0]
    return total
