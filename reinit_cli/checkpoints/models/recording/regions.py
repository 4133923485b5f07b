"""Compute with regions: some elements of a storage, or of a tensor in row-major order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from reinit_cli.initializers.families.replays import Region
from reinit_cli.tensors.slice import row_major

if TYPE_CHECKING:
    from torch import Tensor

Place = tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]
"""Where a region begins in another, as an index, and how each of its steps changes that."""


def region_of(tensor: Tensor) -> Region:
    """Return where a tensor lies in its storage."""
    return Region(int(tensor.storage_offset()), tuple(tensor.shape), tuple(tensor.stride()))


def whole(shape: Sequence[int]) -> Region:
    """Return all elements of a tensor of that shape, in row-major order."""
    return Region(0, tuple(shape), row_major(tuple(shape)))


def run(numel: int, offset: int = 0) -> Region:
    """Return elements that lie one after the other."""
    return Region(offset, (numel,), (1,))


def extent(region: Region) -> tuple[int, int]:
    """Return the first element of a region, and the one after its last."""
    reach = sum((dim - 1) * step for dim, step in zip(region.shape, region.stride, strict=True))
    return region.offset, region.offset + reach + 1


def repeats(region: Region) -> bool:
    """Whether one element occurs in it again and again, as in an expanded tensor."""
    return any(dim > 1 and not step for dim, step in zip(region.shape, region.stride, strict=True))


def is_dense(region: Region) -> bool:
    """Whether it has all elements between its first and its last, each once."""
    first, last = extent(region)
    return last - first == region.numel and not repeats(region)


def covers(region: Region, other: Region) -> bool:
    """Whether a region has all elements of another, as far as that is easily told."""
    (start, end), (first, last) = extent(region), extent(other)
    return is_dense(region) and start <= first and last <= end


def meet(region: Region, other: Region) -> bool:
    """Whether two regions may have common elements."""
    (start, end), (first, last) = extent(region), extent(other)
    return bool(region.numel and other.numel) and start < last and first < end


def located(inner: Region, outer: Region) -> Place | None:
    """Return where a region lies in another; None where it does not, or across its dimensions."""
    start = _index(inner.offset - outer.offset, outer)
    moves = [
        _index(step, outer) if dim > 1 else (0,) * len(outer.shape)
        for dim, step in zip(inner.shape, inner.stride, strict=True)
    ]
    if start is None or any(move is None for move in moves):
        return None
    found = tuple(move for move in moves if move is not None)
    for at, dim in enumerate(outer.shape):
        steps = ((count - 1) * move[at] for count, move in zip(inner.shape, found, strict=True))
        if start[at] + sum(steps) >= dim:
            return None
    return start, found


def _index(elements: int, region: Region) -> tuple[int, ...] | None:
    """Return the index in a region that lies so many elements from its first."""
    index = [0] * len(region.shape)
    dims = sorted(range(len(region.shape)), key=lambda at: -region.stride[at])
    for at in dims:
        if region.shape[at] > 1 and region.stride[at] and elements >= 0:
            index[at], elements = divmod(elements, region.stride[at])
    return None if elements else tuple(index)


def placed(place: Place, inner: Region, outer: Region) -> Region:
    """Return the elements of a region that stand at a place in it.

    Args:
        place: where `inner` lies in a region of the shape of `outer`.
        inner: gives the shape.
        outer: the region.
    """
    start, moves = place
    offset = outer.offset + _sum(start, outer.stride)
    return Region(offset, inner.shape, tuple(_sum(move, outer.stride) for move in moves))


def _sum(index: Sequence[int], stride: Sequence[int]) -> int:
    return sum(at * step for at, step in zip(index, stride, strict=True))


def within(inner: Region, outer: Region) -> Region | None:
    """Return a region as elements of another, which are counted in row-major order."""
    if outer.is_run:
        first, last = extent(inner)
        start, end = extent(outer)
        is_inside = start <= first and last <= end
        moved = Region(inner.offset - outer.offset, inner.shape, inner.stride)
        return moved if is_inside else None
    if simplified(inner) == simplified(outer):
        return whole(inner.shape)
    place = located(inner, outer)
    return None if place is None else placed(place, inner, whole(outer.shape))


def part_of(inner: Region, outer: Region, image: Region) -> Region | None:
    """Return the elements of an image that correspond to a part of a region.

    Args:
        inner: the part.
        outer: the region.
        image: what corresponds to it, element by element, in the same shape.
    """
    merged, merged_image = _merged(outer, image)
    place = located(inner, merged)
    return None if place is None else placed(place, inner, merged_image)


def _merged(region: Region, image: Region) -> tuple[Region, Region]:
    """Return two regions of one shape with as few dimensions as both can have."""
    dims: list[tuple[int, int, int]] = []
    for dim, step, other in zip(region.shape, region.stride, image.stride, strict=True):
        if dim == 1:
            continue
        if dims and dims[-1][1] == dim * step and dims[-1][2] == dim * other:
            dims[-1] = (dims[-1][0] * dim, step, other)
        else:
            dims.append((dim, step, other))
    shape = tuple(each[0] for each in dims)
    first = Region(region.offset, shape, tuple(each[1] for each in dims))
    return first, Region(image.offset, shape, tuple(each[2] for each in dims))


def simplified(region: Region) -> Region:
    """Return a region with as few dimensions as it can have, in the same order."""
    return _merged(region, region)[0]


def clipped(region: Region, other: Region) -> Region | None:
    """Return the rows of a region that lie in another, which has no gaps; None if some lie across."""
    if not is_dense(other) or not region.shape:
        return None
    first, last = extent(other)
    outer = max(range(len(region.shape)), key=lambda at: region.stride[at])
    step = region.stride[outer]
    start, end = extent(replace(region, shape=_with(region.shape, outer, 1)))
    reach = end - start
    if not 0 < reach <= step:
        return None
    low = max(0, -((start - first) // step))
    high = min(region.shape[outer], (last - end) // step + 1)
    is_across = start + high * step < last if high < region.shape[outer] else False
    is_across = is_across or (low > 0 and end + (low - 1) * step > first)
    if is_across or high <= low:
        return None
    return Region(start + low * step, _with(region.shape, outer, high - low), region.stride)


def _with(shape: tuple[int, ...], at: int, dim: int) -> tuple[int, ...]:
    return (*shape[:at], dim, *shape[at + 1 :])


def overlap_as_runs(region: Region, other: Region) -> Region | None:
    """Return the common elements of two regions without gaps, in the order of the storage."""
    if not (is_dense(region) and is_dense(other)):
        return None
    (start, end), (first, last) = extent(region), extent(other)
    low, high = max(start, first), min(end, last)
    return run(max(0, high - low), low)
