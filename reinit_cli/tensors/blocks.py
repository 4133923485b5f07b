"""Tensors of a source, read block by block: memory does not grow with a tensor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from reinit_cli.storage.segments import Copy, Literal, View
from reinit_cli.tensors.convert import bytes_at, read
from reinit_cli.tensors.dtype import DTYPES

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_NUMEL = 2**18
"""Elements that are read at once: they stay in the processor's cache while they are looked at."""

_BLOCK_NBYTES = 2**19

_BOX_NUMEL = 2**22
"""Elements that are gathered at once where they do not lie in row-major order."""

_LARGEST_GAP_NBYTES = 2**16
"""Bytes between elements that are read too: as many take about as long as another read."""

_LARGEST_NBYTES = 2**24
"""What is read at once with such gaps."""


def byte_blocks(place: Copy | Literal) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a place in order."""
    for start in range(0, place.nbytes, _BLOCK_NBYTES):
        yield bytes_at(_within(place, start, min(_BLOCK_NBYTES, place.nbytes - start)))


def blocks_in_order(view: View) -> Iterator[Tensor]:
    """Yield the elements of a contiguous tensor in row-major order, as 1-D tensors."""
    assert view.stride is None
    itemsize = DTYPES[view.dtype].nbits // 8
    numel = view.place.nbytes // itemsize
    for start in range(0, numel, BLOCK_NUMEL):
        count = min(BLOCK_NUMEL, numel - start)
        place = _within(view.place, start * itemsize, count * itemsize)
        yield read(View(place, view.dtype, (count,)))


def blocks_as_stored(view: View) -> Iterator[Tensor]:
    """Yield the elements of a tensor as 1-D tensors, each element once, as they lie in bytes.

    Of a transposed tensor every row spans all of it, so row-major order would read it once
    for each row.
    """
    if view.stride is None or 0 in view.shape:
        yield from blocks_in_order(replace(view, stride=None))
        return
    by_reach = sorted(zip(view.stride, view.shape, strict=True), reverse=True)
    spread = [(step, dim) for step, dim in by_reach if dim != 1]
    shape, stride = tuple(dim for _, dim in spread), tuple(step for step, _ in spread)
    yield from _slabs(View(view.place, view.dtype, shape, stride))


def _slabs(view: View) -> Iterator[Tensor]:
    """Yield a tensor whose strides descend, by slabs of its first dimension."""
    itemsize = DTYPES[view.dtype].nbits // 8
    assert view.stride is not None
    if view.place.nbytes == prod(view.shape) * itemsize:
        yield from blocks_in_order(replace(view, stride=None))
        return
    if view.place.nbytes <= BLOCK_NUMEL * itemsize:
        yield read(view).reshape(-1)
        return
    first, *inner = view.shape
    step, *inner_steps = view.stride
    inner_nbytes = (
        sum((dim - 1) * each for dim, each in zip(inner, inner_steps, strict=True)) + 1
    ) * itemsize
    rows = max(1, (BLOCK_NUMEL * itemsize - inner_nbytes) // (step * itemsize))
    for start in range(0, first, rows):
        count = min(rows, first - start)
        nbytes = (count - 1) * step * itemsize + inner_nbytes
        place = _within(view.place, start * step * itemsize, nbytes)
        if count == 1:
            yield from _slabs(View(place, view.dtype, tuple(inner), tuple(inner_steps)))
        else:
            yield read(View(place, view.dtype, (count, *inner), view.stride)).reshape(-1)


def blocks_row_by_row(view: View) -> Iterator[Tensor]:
    """Yield the elements of a tensor in row-major order, as contiguous 1-D tensors.

    Of a transposed tensor as many rows as fit into memory are gathered together.
    """
    if view.stride is None or 0 in view.shape:
        yield from blocks_in_order(replace(view, stride=None))
        return
    import torch

    for box in _boxes(view):
        gathered = torch.empty(box.shape, dtype=getattr(torch, view.dtype))
        _gather(box, gathered)
        yield from torch.split(gathered.view(-1), BLOCK_NUMEL)


def rows_of(view: View, rows: int) -> View:
    """Return the first rows of a tensor, without reading them."""
    if view.stride is not None:
        return _narrowed(view, 0, 0, rows) if rows else replace(view, shape=(0, *view.shape[1:]))
    nbytes = view.place.nbytes // max(1, view.shape[0]) * rows
    return replace(view, place=_within(view.place, 0, nbytes), shape=(rows, *view.shape[1:]))


def _boxes(view: View) -> Iterator[View]:
    """Yield parts of a tensor in row-major order that fit into memory."""
    if prod(view.shape) <= _BOX_NUMEL:
        yield view
        return
    # A dimension of one is its only row, so that every step makes the part smaller.
    rows = max(1, _BOX_NUMEL // prod(view.shape[1:]))
    for start in range(0, view.shape[0], rows):
        part = _narrowed(view, 0, start, min(rows, view.shape[0] - start))
        if rows > 1:
            yield part
        else:
            assert part.stride is not None
            yield from _boxes(replace(part, shape=part.shape[1:], stride=part.stride[1:]))


def _gather(view: View, into: Tensor) -> None:
    """Read elements that lie apart, in ranges that are worth it."""
    itemsize = DTYPES[view.dtype].nbits // 8
    assert view.stride is not None
    steps = [step if dim > 1 else 0 for dim, step in zip(view.shape, view.stride, strict=True)]
    furthest = max(steps, default=0)
    is_dense = view.place.nbytes <= prod(view.shape) * itemsize
    is_near = furthest * itemsize <= _LARGEST_GAP_NBYTES and view.place.nbytes <= _LARGEST_NBYTES
    if is_dense or is_near:
        into.copy_(read(view))
        return
    axis = steps.index(furthest)
    half = view.shape[axis] // 2
    for start, count in ((0, half), (half, view.shape[axis] - half)):
        _gather(_narrowed(view, axis, start, count), into.narrow(axis, start, count))


def _narrowed(view: View, axis: int, start: int, count: int) -> View:
    """Return some rows of a dimension, without reading them."""
    assert view.stride is not None
    itemsize = DTYPES[view.dtype].nbits // 8
    shape = (*view.shape[:axis], count, *view.shape[axis + 1 :])
    reach = sum((dim - 1) * step for dim, step in zip(shape, view.stride, strict=True)) + 1
    place = _within(view.place, start * view.stride[axis] * itemsize, reach * itemsize)
    return replace(view, place=place, shape=shape)


def _within(place: Copy | Literal, start: int, nbytes: int) -> Copy | Literal:
    if isinstance(place, Copy):
        return replace(place, offset=place.offset + start, nbytes=nbytes)
    return Literal(memoryview(place.data)[start : start + nbytes])
