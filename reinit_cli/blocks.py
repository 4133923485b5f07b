"""Tensors of a source, read block by block: memory does not grow with a tensor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from reinit_cli.dtypes import DTYPES
from reinit_cli.reading import bytes_at, read
from reinit_cli.segments import Copy, Literal, View

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_NUMEL = 2**18
"""Elements that are read at once: they stay in the processor's cache while they are looked at."""

_BLOCK_NBYTES = 2**19


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


def _within(place: Copy | Literal, start: int, nbytes: int) -> Copy | Literal:
    if isinstance(place, Copy):
        return replace(place, offset=place.offset + start, nbytes=nbytes)
    return Literal(memoryview(place.data)[start : start + nbytes])
