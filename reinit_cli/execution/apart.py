"""Draw some rows of a tensor alone, as the whole would have them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product as indices
from math import prod
from typing import TypeGuard

from reinit_cli.execution.fill import Fill, Recast
from reinit_cli.initializers import Transform
from reinit_cli.storage.segments import Box, Range
from reinit_cli.streams.stream import DEFAULT_STREAM, stream_named
from reinit_cli.tensors.moments import BLOCK_NUMEL
from reinit_cli.tensors.slice import row_major


def comes_apart(of: Fill | Recast) -> TypeGuard[Fill]:
    """Whether any rows can be drawn alone, in the time that they take within the whole.

    Of a stream that is not indexed, everything before them would be drawn too. A law such as
    orthogonal, a test of the draw, the values before it and several rules need all elements.
    """
    if not isinstance(of, Fill) or of.is_tested or of.is_kept or of.shares:
        return False
    if any(view is not None for view in (of.before, of.values, of.own, of.zeros)):
        return False
    step = of.step
    is_indexed = stream_named(step.stream or DEFAULT_STREAM).is_indexed
    is_elementwise = step.law is not None and step.law.is_elementwise
    return (
        is_indexed
        and is_elementwise
        and not (isinstance(step.law, Transform) or step.first_element)
    )


def run_of(box: Box | None, shape: tuple[int, ...]) -> Range:
    """Return the elements, counted in row-major order, of all rows that a box meets.

    Args:
        box: elements of a tensor; None means all.
        shape: that of the tensor.
    """
    return _numbers(_rows_of(box if box is not None else whole(shape), shape), shape)


def whole(shape: tuple[int, ...]) -> Box:
    """Return the box of all elements."""
    return tuple((0, dim) for dim in shape)


def dims_of(box: Box) -> tuple[int, ...]:
    """Return the shape of a box."""
    return tuple(stop - start for start, stop in box)


def rows_met(boxes: Iterable[Box], shape: tuple[int, ...]) -> Iterator[tuple[int, Box]]:
    """Yield all rows that boxes meet, each once, as boxes of no more than a block.

    Args:
        boxes: elements of a tensor; the rows that two of them meet are the same, or apart.
        shape: that of the tensor, without dimensions of one.

    Yields:
        The number of the first element, in row-major order, and the box.
    """
    rows = {_numbers(each, shape): each for each in (_rows_of(box, shape) for box in boxes)}
    for _, each in sorted(rows.items()):
        for inner in blocks_of(dims_of(each)):
            pairs = zip(inner, each, strict=True)
            box = tuple((low + first, high + first) for (low, high), (first, _) in pairs)
            yield _numbers(box, shape)[0], box


def blocks_of(shape: tuple[int, ...]) -> Iterator[Box]:
    """Yield a tensor in whole rows of one of its dimensions, in row-major order.

    It is the first whose rows are no larger than a block. What of such rows a box meets lies
    together in the box.
    """
    fitting = (axis for axis in range(len(shape)) if prod(shape[axis + 1 :]) <= BLOCK_NUMEL)
    axis = next(fitting, 0)
    count, inner = prod(shape[axis : axis + 1]), shape[axis + 1 :]
    at_once = max(1, BLOCK_NUMEL // max(1, prod(inner)))
    outermost = () if 0 in shape else indices(*map(range, shape[:axis]))
    for first in outermost:
        for start in range(0, count, at_once):
            stop = min(start + at_once, count)
            outer = (*((at, at + 1) for at in first), (start, stop))[: len(shape)]
            yield *outer, *((0, dim) for dim in inner)


def _rows_of(box: Box, shape: tuple[int, ...]) -> Box:
    """Return the rows that a box meets, of the first dimension of which it has several."""
    several = (axis for axis, (start, stop) in enumerate(box) if stop - start != 1)
    axis = next(several, len(box))
    return *box[: axis + 1], *whole(shape[axis + 1 :])


def _numbers(rows: Box, shape: tuple[int, ...]) -> Range:
    """Return where rows start and end, counted in elements."""
    start = sum(first * step for (first, _), step in zip(rows, row_major(shape), strict=True))
    return start, start + prod(dims_of(rows))
