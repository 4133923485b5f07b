"""Define the law of norms: what weight norm keeps next to a direction that is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reinit_cli.initializers.law import Law
from reinit_cli.lazy import LazyModule

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

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

    def fill(self, tensor: torch.Tensor, generator: torch.Generator) -> None:
        """Draw again, and write the norms."""
        numel = math.prod(self.shape)
        inner = numel if self.dim is None else math.prod(self.shape[self.dim + 1 :])
        sums = (_Runs if inner >= _LONG_RUN else _Cycles)(tensor.numel(), inner)
        reached = 0
        for block in self._drawn(tensor, generator):
            for some in torch.split(block, _PORTION_NUMEL):
                sums.add(some.double().square_(), reached)
                reached += some.numel()
        tensor.copy_(sums.total().sqrt_().view(tensor.shape))

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return what the draw takes, and the sums."""
        del itemsize
        drawn = 8 if self.is_wide else 4
        of = self.of.working_nbytes(self.shape, drawn)
        if of is None:
            of = _PEAK_PER_BYTE * math.prod(self.shape) * drawn
        return of + 16 * _LONG_RUN * math.prod(shape)

    def _drawn(self, tensor: torch.Tensor, generator: torch.Generator) -> Iterator[torch.Tensor]:
        dtype = torch.float64 if self.is_wide else torch.float32
        if tensor.device.type == "cpu":
            yield from self.of.blocks(self.shape, dtype, generator)
            return
        whole = torch.empty(self.shape, dtype=dtype, device=tensor.device)
        self.of.fill(whole, generator)
        # Other devices add in any order, and some know no float64.
        yield whole.view(-1).cpu()


class _Runs:
    """Sums of runs of elements that have one norm, which are long."""

    def __init__(self, count: int, inner: int) -> None:
        """Start with nothing.

        Args:
            count: the number of norms.
            inner: the elements of a run; the next run is of the next norm.
        """
        self._inner = inner
        self._sums = torch.zeros(count, dtype=torch.float64, device="cpu")

    def add(self, squares: torch.Tensor, start: int) -> None:
        """Add the squares of elements, which are lost, the first of which has a number."""
        head = min(-start % self._inner, len(squares))
        self._add_runs(squares[:head].view(1, head), start)
        whole = (len(squares) - head) // self._inner
        end = head + whole * self._inner
        self._add_runs(squares[head:end].view(whole, self._inner), start + head)
        self._add_runs(squares[end:].view(1, len(squares) - end), start + end)

    def _add_runs(self, runs: torch.Tensor, start: int) -> None:
        if runs.numel():
            first = start // self._inner
            at = torch.arange(first, first + len(runs), device="cpu")
            self._sums.index_add_(0, at.remainder_(len(self._sums)), _summed(runs.T))

    def total(self) -> torch.Tensor:
        """Return the sums."""
        return self._sums


class _Cycles:
    """The same where runs are short: all of them together make a cycle."""

    def __init__(self, count: int, inner: int) -> None:
        """Start with nothing; arguments as above."""
        self._inner = inner
        self._sums = torch.zeros(count * inner, dtype=torch.float64, device="cpu")

    def add(self, squares: torch.Tensor, start: int) -> None:
        """Add the squares of elements, which are lost, the first of which has a number."""
        cycle = len(self._sums)
        head = min(-start % cycle, len(squares))
        self._sums[start % cycle :][:head] += squares[:head]
        whole = (len(squares) - head) // cycle
        end = head + whole * cycle
        if whole:
            self._sums += _summed(squares[head:end].view(whole, cycle))
        self._sums[: len(squares) - end] += squares[end:]

    def total(self) -> torch.Tensor:
        """Return the sums."""
        return _summed(self._sums.view(-1, self._inner).T)


def _summed(rows: torch.Tensor) -> torch.Tensor:
    """Return the sum of rows, which are lost: halves are added, in one order on every machine."""
    count = len(rows)
    while count > 1:
        half = count // 2
        rows[:half] += rows[count - half : count]
        count -= half
    return rows[0]
