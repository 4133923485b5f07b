"""Draw some elements of a tensor alone, as the whole would have them."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING

from reinit_cli.execution.draw import NOTHING, computed_dtype, draw_blocks
from reinit_cli.initializers import Law
from reinit_cli.initializers.blocks import Filler
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array
from reinit_cli.streams.stream import stream_named
from reinit_cli.tensors.elements import Elements, stored_dtype
from reinit_cli.tensors.portions import Portions
from reinit_cli.tensors.slice import row_major

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

Taken = tuple[range, ...]
"""The elements that are wanted of each dimension, from the first on."""

_CALL_NUMEL = 1 << 13
"""The elements that are drawn in the time that it takes to begin a run."""

_SPAN_NUMEL = 1 << 18
"""The most elements that are drawn in one run to pick some of them."""


def draw_box(
    law: Law,
    shape: tuple[int, ...],
    dtype: str,
    seed: int,
    stream: str,
    device: str,
    taken: Taken,
) -> Elements:
    """Return some elements of a tensor, before they are rounded.

    Args:
        law: what to draw; not one that changes present values.
        shape: that of the whole tensor.
        dtype: the tensor's dtype.
        seed: the seed of the key's stream.
        stream: the name of that stream; of one that is not indexed, everything up to the last
            element that is wanted is drawn, and the rest passed over.
        device: where to draw.
        taken: which elements; steps are positive.
    """
    computed = computed_dtype(dtype)
    out = np.empty(tuple(map(len, taken)), stored_dtype(computed))
    if not out.size:
        return Elements(out, computed)
    chance = stream_named(stream).chance(seed, device)
    if chance.is_indexed:
        fill = law.filler(shape, out.dtype, chance)
    else:
        blocks = draw_blocks(law, shape, dtype, seed, device, NOTHING, stream)
        fill = _Passing(block.array for block in blocks).fill
    fill_box(out, fill, shape, taken)
    return Elements(out, computed)


def fill_box(out: Array, fill: Filler, shape: tuple[int, ...], taken: Taken) -> None:
    """Fill an array with some elements of a tensor, in runs from the first to the last.

    Elements between those that are wanted are drawn too, where that is faster than to begin
    another run.

    Args:
        out: as many elements as are taken in each dimension, at least one.
        fill: fills any run of the tensor.
        shape: that of the tensor.
        taken: which elements.
    """
    if not shape:
        fill(out.reshape(-1), 0)
        return
    ways = [_Runs.along(axis, shape, taken) for axis in range(len(shape))]
    way = min(ways, key=lambda each: each.cost)
    scratch = np.empty(way.span(way.rows), out.dtype) if way.picks else out[:0]
    for start, target in way.runs(out):
        if way.picks:
            fill(scratch[: way.span(len(target))], start)
            target[...] = np.lib.stride_tricks.as_strided(
                scratch, target.shape, [step * out.itemsize for step in way.steps]
            )
        else:
            fill(target.reshape(-1), start)


@dataclass(frozen=True, slots=True)
class _Runs:
    """A way to draw a box: for each place in the first dimensions, runs over the others.

    Attributes:
        taken: the elements that are wanted.
        strides: those of the tensor.
        axis: the dimension whose rows make a run.
        rows: how many of them do, at most.
        row_span: the elements from the first to the last that is wanted of a row.
        picks: whether a run has elements that are not wanted.
    """

    taken: Taken
    strides: tuple[int, ...]
    axis: int
    rows: int
    row_span: int
    picks: bool

    @classmethod
    def along(cls, axis: int, shape: tuple[int, ...], taken: Taken) -> _Runs:
        """Return the way whose runs are made of rows of a dimension."""
        strides = row_major(shape)
        inner = zip(taken[axis + 1 :], strides[axis + 1 :], strict=True)
        row_span = 1 + sum((part[-1] - part[0]) * stride for part, stride in inner)
        count, step = len(taken[axis]), taken[axis].step
        is_dense = row_span == math.prod(map(len, taken[axis + 1 :]))
        if is_dense and (count == 1 or step * strides[axis] == row_span):
            return cls(taken, strides, axis, count, row_span, picks=False)
        rows = min(count, 1 + max(0, _SPAN_NUMEL - row_span) // (step * strides[axis]))
        if is_dense and step * strides[axis] - row_span > _CALL_NUMEL:
            rows = 1
        return cls(taken, strides, axis, rows, row_span, not is_dense or rows > 1)

    @property
    def steps(self) -> tuple[int, ...]:
        """The elements from one that is wanted to the next, in each dimension of a run."""
        found = zip(self.taken, self.strides, strict=True)
        return tuple(part.step * stride for part, stride in found)[self.axis :]

    def span(self, rows: int) -> int:
        """Return the elements that are drawn in a run of some rows."""
        return (rows - 1) * self.steps[0] + self.row_span

    @property
    def cost(self) -> int:
        """The time it takes, in elements drawn; a run that memory has no room for takes forever."""
        runs = math.prod(map(len, self.taken[: self.axis]))
        runs *= -(-len(self.taken[self.axis]) // self.rows)
        span = self.span(self.rows)
        if self.picks and span > _SPAN_NUMEL:
            return sys.maxsize
        return runs * (_CALL_NUMEL + span)

    def runs(self, out: Array) -> Iterator[tuple[int, Array]]:
        """Yield the index of the first element of each run, and the part of `out` that it fills."""
        firsts = sum(
            part[0] * stride for part, stride in zip(self.taken, self.strides, strict=True)
        )
        along, outer = self.taken[self.axis], self.taken[: self.axis]
        for place in product(*(range(len(part)) for part in outer)):
            found = zip(place, outer, self.strides[: self.axis], strict=True)
            start = firsts + sum(at * part.step * stride for at, part, stride in found)
            for at in range(0, len(along), self.rows):
                yield start + at * self.steps[0], out[place][at : at + self.rows]


class _Passing:
    """Fills runs of a tensor that is drawn once, from its first element to its last."""

    def __init__(self, blocks: Iterator[Array]) -> None:
        self._blocks = Portions(blocks)
        self._reached = 0

    def fill(self, run: Array, at: int) -> None:
        """Fill a run that begins at an element behind the last run."""
        scratch = np.empty(min(at - self._reached, _SPAN_NUMEL), run.dtype)
        while self._reached < at:
            passed = scratch[: at - self._reached]
            self._blocks.take_into(passed)
            self._reached += len(passed)
        self._blocks.take_into(run)
        self._reached += len(run)
