"""Read tensors of a source block by block, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import TYPE_CHECKING

from reinit_cli.storage.segments import Copy, Literal, View
from reinit_cli.tensors.convert import boxed, bytes_at, read
from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.slice import narrowed, row_major, within, without_first

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_NUMEL = 2**18
"""Elements of a block: they stay in the processor's cache while they are looked at."""

_BLOCK_NBYTES = 2**19

_BOX_NUMEL = 2**22
"""Elements that are gathered together where they do not lie in row-major order."""

_LARGEST_GAP_NBYTES = 2**16
"""Bytes between elements that are read too: as many take about as long as another read."""

_LARGEST_NBYTES = 2**24
"""What one read takes with such gaps."""


Blocks = Callable[[], Iterator["Tensor"]]
"""Gives the elements of a tensor in row-major order, as 1-D tensors; from the start each time."""


def peak_of_blocks(view: View) -> int:
    """Return the memory that it takes at most to read a tensor row by row."""
    itemsize = DTYPES[view.dtype].nbits // 8
    if view.contiguous is not None:
        return 3 * min(view.nbytes, BLOCK_NUMEL * itemsize)
    return 3 * min(max(view.nbytes, prod(view.shape) * itemsize), _BOX_NUMEL * itemsize)


def byte_blocks(data: Copy | Literal) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a run in order."""
    for start in range(0, data.nbytes, _BLOCK_NBYTES):
        yield bytes_at(within(data, start, min(_BLOCK_NBYTES, data.nbytes - start)))


def blocks_as_stored(view: View) -> Iterator[Tensor]:
    """Yield the elements of a tensor as 1-D tensors, each element once, as they lie in bytes.

    Of a transposed tensor every row spans all of it, so row-major order would read it once
    for each row.
    """
    for _, part in view.apart():
        if (data := part.contiguous) is not None:
            yield from _run(data, view.dtype)
        elif 0 not in part.shape:
            yield from _slabs(_by_reach(part))


def blocks_row_by_row(view: View) -> Iterator[Tensor]:
    """Yield the elements of a tensor in row-major order, as contiguous 1-D tensors.

    Of a tensor that lies otherwise, as many rows as fit into memory are gathered together.
    """
    if (data := view.contiguous) is not None:
        yield from _run(data, view.dtype)
    elif 0 not in view.shape:
        import torch

        for box in _boxes(view):
            yield from torch.split(_gathered(box).view(-1), BLOCK_NUMEL)


def _run(data: Copy | Literal, dtype: str) -> Iterator[Tensor]:
    """Yield the elements of a run."""
    itemsize = DTYPES[dtype].nbits // 8
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


def _slabs(view: View) -> Iterator[Tensor]:
    """Yield a tensor of one part whose strides descend, by slabs of its first dimension."""
    sole = view.sole
    assert sole is not None
    assert sole.stride is not None
    itemsize = DTYPES[view.dtype].nbits // 8
    if sole.data.nbytes == prod(view.shape) * itemsize:
        yield from _run(sole.data, view.dtype)
        return
    if sole.data.nbytes <= BLOCK_NUMEL * itemsize:
        yield read(view).reshape(-1)
        return
    step, *inner_steps = sole.stride
    inner = zip(view.shape[1:], inner_steps, strict=True)
    reach = sum((dim - 1) * each for dim, each in inner) + 1
    rows = max(1, (BLOCK_NUMEL - reach) // step)
    for start in range(0, view.shape[0], rows):
        slab = narrowed(view, 0, start, min(rows, view.shape[0] - start))
        if rows > 1:
            yield read(slab).reshape(-1)
        else:
            yield from blocks_as_stored(without_first(slab))


def _boxes(view: View) -> Iterator[View]:
    """Yield boxes of a tensor in row-major order that fit into memory."""
    if prod(view.shape) <= _BOX_NUMEL:
        yield view
        return
    # A dimension of one is its only row, so that every step makes the box smaller.
    rows = max(1, _BOX_NUMEL // prod(view.shape[1:]))
    for start in range(0, view.shape[0], rows):
        box = narrowed(view, 0, start, min(rows, view.shape[0] - start))
        if rows > 1:
            yield box
        else:
            yield from _boxes(without_first(box))


def _gathered(view: View) -> Tensor:
    """Return a tensor contiguously, whichever parts it lies in."""
    import torch

    gathered = torch.empty(view.shape, dtype=getattr(torch, view.dtype))
    for box, part in view.apart():
        _gather(part, boxed(gathered, box))
    return gathered


def _gather(view: View, into: Tensor) -> None:
    """Read elements of one part that lie apart, in ranges that are worth it."""
    sole = view.sole
    assert sole is not None
    itemsize = DTYPES[view.dtype].nbits // 8
    strides = sole.stride if sole.stride is not None else row_major(view.shape)
    steps = [step if dim > 1 else 0 for dim, step in zip(view.shape, strides, strict=True)]
    furthest = max(steps, default=0)
    is_dense = sole.data.nbytes <= prod(view.shape) * itemsize
    is_near = furthest * itemsize <= _LARGEST_GAP_NBYTES and sole.data.nbytes <= _LARGEST_NBYTES
    if is_dense or is_near:
        into.copy_(read(view))
        return
    axis = steps.index(furthest)
    half = view.shape[axis] // 2
    for start, count in ((0, half), (half, view.shape[axis] - half)):
        _gather(narrowed(view, axis, start, count), into.narrow(axis, start, count))
