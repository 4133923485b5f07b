"""Read tensors of a source block by block, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule
from reinit_cli.storage.segments import Copy, Literal, View
from reinit_cli.tensors.convert import boxed, read, read_into
from reinit_cli.tensors.dtype import itemsize_of
from reinit_cli.tensors.elements import Array, Elements, stored_dtype
from reinit_cli.tensors.slice import (
    narrowed,
    row_major,
    selected,
    within,
    without_first,
    without_ones,
)
from reinit_cli.tensors.spans import SPAN_NBYTES, box_nbytes, boxes_of, spans_of

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

BLOCK_NUMEL = 2**18
"""Elements of a block: they stay in the processor's cache while they are looked at."""

_BLOCK_NBYTES = 2**19

_PART_NUMEL = 2**22
"""Elements of a tensor in another order after which a block ends."""

Blocks = Callable[[], Iterator[Elements]]
"""Gives the elements of a tensor in row-major order, as 1-D arrays; from the start each time."""


def peak_of_blocks(view: View) -> int:
    """Return the memory that it takes at most to read a tensor row by row."""
    itemsize = itemsize_of(view.dtype)
    if view.contiguous is not None:
        return 3 * min(view.nbytes, BLOCK_NUMEL * itemsize)
    largest = box_nbytes(view.shape, _stride(view), itemsize)
    return min(prod(view.shape) * itemsize, largest) + 2 * SPAN_NBYTES


def _stride(view: View) -> tuple[int, ...]:
    """Return the stride of a tensor; of one in several parts the one that it has in memory."""
    sole = view.sole
    return sole.stride if sole is not None and sole.stride is not None else row_major(view.shape)


def byte_blocks(data: Copy | Literal) -> Iterator[bytearray]:
    """Yield the bytes of a run in order, each block in the place of the one before."""
    buffer = bytearray(min(_BLOCK_NBYTES, data.nbytes))
    for start in range(0, data.nbytes, _BLOCK_NBYTES):
        if data.nbytes - start < len(buffer):
            buffer = bytearray(data.nbytes - start)
        read_into(memoryview(buffer), within(data, start, len(buffer)))
        yield buffer


def blocks_as_stored(view: View) -> Iterator[Elements]:
    """Yield the elements of a tensor as 1-D arrays, each element once, as they lie in bytes.

    Of a transposed tensor every row spans all of it, so row-major order would read it once
    for each row.
    """
    for _, part in view.apart():
        if (data := part.contiguous) is not None:
            yield from _run(data, view.dtype)
        elif 0 not in part.shape:
            yield from _slabs(_by_reach(part))


def blocks_row_by_row(view: View) -> Iterator[Elements]:
    """Yield the elements of a tensor in row-major order, as contiguous 1-D arrays.

    Of a tensor that lies otherwise, as many rows as fit into memory are gathered together.
    """
    if (data := view.contiguous) is not None:
        yield from _run(data, view.dtype)
    elif 0 not in view.shape:
        boxes = boxes_of(view.shape, _stride(view), itemsize_of(view.dtype))
        there = (gathered(selected(view, tuple(range(*span) for span in box))) for box in boxes)
        numels = (
            min(BLOCK_NUMEL, part - at) for part in _parts(view.shape) for at in _starts(part)
        )
        for portion in _portioned((each.array for each in there), numels):
            yield Elements(portion, view.dtype)


def _parts(shape: tuple[int, ...]) -> Iterator[int]:
    """Yield how many elements of a tensor in another order lie between two ends of blocks.

    Sums over blocks, and so the values of some transforms, depend in their last bits on where
    these end: there, whatever is read together.
    """
    if prod(shape) <= _PART_NUMEL:
        yield prod(shape)
        return
    row = prod(shape[1:])
    rows = max(1, _PART_NUMEL // row)
    for start in range(0, shape[0], rows):
        if rows > 1:
            yield min(rows, shape[0] - start) * row
        else:
            yield from _parts(shape[1:])


def _starts(numel: int) -> range:
    return range(0, numel, BLOCK_NUMEL)


def _portioned(parts: Iterator[Array], numels: Iterator[int]) -> Iterator[Array]:
    """Yield the elements of 1-D arrays in portions of given lengths."""
    rest: Array | None = None
    for numel in numels:
        pieces = []
        missing = numel
        while missing:
            if rest is None:
                rest = next(parts)
            piece = rest[:missing]
            missing -= len(piece)
            rest = rest[len(piece) :] if len(piece) < len(rest) else None
            # Whoever still has the last piece of a box must not hold all of it.
            pieces.append(piece if rest is not None else piece.copy())
            del piece
        yield np.concatenate(pieces) if len(pieces) > 1 else pieces.pop()


def _run(data: Copy | Literal, dtype: str) -> Iterator[Elements]:
    """Yield the elements of a run."""
    itemsize = itemsize_of(dtype)
    numel = data.nbytes // itemsize
    for start in range(0, numel, BLOCK_NUMEL):
        count = min(BLOCK_NUMEL, numel - start)
        yield read(View.of(within(data, start * itemsize, count * itemsize), dtype, (count,)))


def _by_reach(part: View) -> View:
    """Return a tensor of one part with its dimensions in the order of their strides."""
    sole = part.sole
    assert sole is not None
    assert sole.stride is not None
    by_reach = sorted(zip(sole.stride, part.shape, strict=True), reverse=True)
    spread = [(step, dim) for step, dim in by_reach if dim != 1]
    shape, stride = tuple(dim for _, dim in spread), tuple(step for step, _ in spread)
    return View.of(sole.data, part.dtype, shape, stride)


def _slabs(view: View) -> Iterator[Elements]:
    """Yield a tensor of one part whose strides descend, by slabs of its first dimension."""
    sole = view.sole
    assert sole is not None
    assert sole.stride is not None
    itemsize = itemsize_of(view.dtype)
    if sole.data.nbytes == prod(view.shape) * itemsize:
        yield from _run(sole.data, view.dtype)
        return
    if sole.data.nbytes <= BLOCK_NUMEL * itemsize:
        yield read(view).flat
        return
    step, *inner_steps = sole.stride
    inner = zip(view.shape[1:], inner_steps, strict=True)
    reach = sum((dim - 1) * each for dim, each in inner) + 1
    rows = max(1, (BLOCK_NUMEL - reach) // step)
    for start in range(0, view.shape[0], rows):
        slab = narrowed(view, 0, start, min(rows, view.shape[0] - start))
        if rows > 1:
            yield read(slab).flat
        else:
            yield from blocks_as_stored(without_first(slab))


def gathered(view: View) -> Elements:
    """Return a tensor in one dimension, whichever parts it lies in; little else is read.

    Raises:
        UnreadableSourceError, SourceChangedError: as they say.
    """
    view = without_ones(view)
    if 0 in view.shape:
        return Elements(np.empty(0, stored_dtype(view.dtype)), view.dtype)
    whole = np.empty(view.shape, stored_dtype(view.dtype))
    for box, part in view.apart():
        _gather(part, boxed(whole, box))
    return Elements(whole, view.dtype).flat


def _gather(view: View, into: Array) -> None:
    """Read elements of one part that may lie apart."""
    sole = view.sole
    assert sole is not None
    data = sole.data
    strides = sole.stride if sole.stride is not None else row_major(view.shape)

    def read_span(offset: int, buffer: memoryview) -> None:
        read_into(buffer, within(data, offset, len(buffer)))

    for spans in spans_of(into, strides):
        spans.read(read_span)
