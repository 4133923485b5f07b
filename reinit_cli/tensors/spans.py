"""Find the bytes in which elements of a tensor lie apart, and read and write them in batches.

Elements that lie close to each other are read or written together with the gaps between
them, in a span; what lies further apart has spans of its own. So a column of a matrix takes
a read for each row, and not all of the matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from math import ceil, prod
from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.storage.segments import Box
from reinit_cli.tensors.convert import bytes_of, strided
from reinit_cli.tensors.elements import Array

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

GAP_NBYTES = 2**12
"""Bytes between elements that are read too: a page, which a disk reads as a whole."""

SPAN_NBYTES = 2**22
"""The most that one read takes, and the memory of a batch of spans."""

BOX_NBYTES = 2**24
"""Elements that are gathered or laid out together where they do not lie in row-major order."""

LARGEST_BOX_NBYTES = 2**28
"""The same where less would leave only short runs of bytes to each row of the file."""

_LEAST_RUN_NBYTES = 2**10
"""Runs below this take longer to read or write than a larger box is worth."""

Transfer = Callable[[int, memoryview], None]
"""Reads or writes bytes at an offset from the tensor's first element."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Spans of one length, and the elements in them.

    Attributes:
        offsets: where each starts, in bytes from the first element of the tensor.
        reach: the elements that a span could hold, gaps included.
        values: the elements, one row for each span.
        stride: the distances of the elements of a row within its span, in elements.
    """

    offsets: range
    reach: int
    values: Array
    stride: tuple[int, ...]

    @property
    def is_dense(self) -> bool:
        """Whether spans have no gaps."""
        return bool(prod(self.values.shape[1:]) == self.reach)

    def read(self, read: Transfer) -> None:
        """Fill the elements with what lies in the spans."""
        if self.is_dense and _is_row_major(self.values, self.stride):
            self._each(read, bytes_of(self.values))
            return
        buffer = self._buffer()
        self._each(read, bytes_of(buffer))
        self.values[...] = self._within(buffer)

    def write(self, write: Transfer, read: Transfer) -> None:
        """Put the elements into the spans, between the bytes that lie there already."""
        buffer = self._buffer()
        if not self.is_dense:
            self._each(read, bytes_of(buffer))
        self._within(buffer)[...] = self.values
        self._each(write, bytes_of(buffer))

    def put_under(self, under: Transfer, read: Transfer, write: Transfer) -> None:
        """Put other bytes into the gaps, and leave the elements as they are."""
        if self.is_dense:
            return
        lower, upper = self._buffer(), self._buffer()
        self._each(under, bytes_of(lower))
        self._each(read, bytes_of(upper))
        self._within(lower)[...] = self._within(upper)
        self._each(write, bytes_of(lower))

    def _buffer(self) -> Array:
        return np.empty(len(self.offsets) * self.reach, self.values.dtype)

    def _within(self, buffer: Array) -> Array:
        return strided(buffer, self.values.shape, (self.reach, *self.stride))

    def _each(self, transfer: Transfer, data: memoryview) -> None:
        nbytes = len(data) // len(self.offsets)
        for at, offset in enumerate(self.offsets):
            transfer(offset, data[at * nbytes : (at + 1) * nbytes])


def spans_of(array: Array, stride: tuple[int, ...], start: int = 0) -> Iterator[Spans]:
    """Yield the spans of a tensor in the order of the file, in batches that take little memory.

    Args:
        array: its elements, which lie in the file a stride apart.
        stride: the distances there, in elements.
        start: where its first element lies there, in bytes.
    """
    if 0 in array.shape:
        return
    axes = [axis for axis, dim in enumerate(array.shape) if dim != 1]
    axes.sort(key=lambda axis: -stride[axis])
    single = [axis for axis, dim in enumerate(array.shape) if dim == 1]
    far_to_near = array.transpose(*axes, *single).reshape([array.shape[axis] for axis in axes])
    yield from _batches(far_to_near, tuple(stride[axis] for axis in axes), start)


def fill_gaps(
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    itemsize: int,
    under: Transfer,
    read: Transfer,
    write: Transfer,
) -> None:
    """Write what lies between the elements of a tensor, and leave these as they are.

    Args:
        shape: its dimensions.
        stride: how its elements lie, in elements.
        itemsize: the bytes of an element.
        under: reads the bytes that are to lie between them.
        read: reads the bytes that lie there now.
        write: writes bytes there.
    """
    alike = np.empty(1, f"V{itemsize}")
    nowhere = strided(alike, shape, (0,) * len(shape))
    reached = 0
    for spans in spans_of(nowhere, stride):
        for offset in spans.offsets:
            _copy(reached, offset, under, write)
            reached = offset + spans.reach * itemsize
        spans.put_under(under, read, write)


def _copy(start: int, stop: int, read: Transfer, write: Transfer) -> None:
    """Copy bytes in pieces that take little memory."""
    for first in range(start, stop, SPAN_NBYTES):
        data = memoryview(bytearray(min(SPAN_NBYTES, stop - first)))
        read(first, data)
        write(first, data)


def _batches(array: Array, stride: tuple[int, ...], start: int) -> Iterator[Spans]:
    """Yield the spans of a tensor whose strides in the file descend."""
    itemsize = array.itemsize
    outer, reach = _split(array.shape, stride, itemsize)
    if not outer:
        yield Spans(range(start, start + 1), reach, array[None], stride)
        return
    *before, dim = array.shape[:outer]
    step = stride[outer - 1]
    # All of the next dimension may be too long for a span: some of its rows are not.
    near = (SPAN_NBYTES // itemsize - reach) // max(1, step) + 1
    is_cut = near > 1 and _is_near(step, reach, itemsize)
    rows = near if is_cut else max(1, SPAN_NBYTES // (reach * itemsize))
    for index in product(*map(range, before)):
        offset = start + sum(map(int.__mul__, index, stride)) * itemsize
        for first in range(0, dim, rows):
            part = array[index][first : first + rows]
            at, count = offset + first * step * itemsize, len(part)
            if is_cut:
                longer = (count - 1) * step + reach
                yield Spans(range(at, at + 1), longer, part[None], stride[outer - 1 :])
            else:
                distance = step * itemsize
                offsets = range(at, at + count * distance, distance)
                yield Spans(offsets, reach, part, stride[outer:])


def _split(shape: tuple[int, ...], stride: tuple[int, ...], itemsize: int) -> tuple[int, int]:
    """Return how many dimensions are outside of the spans, and how far a span reaches."""
    outer, reach = len(shape), 1
    while outer and _is_near(stride[outer - 1], reach, itemsize):
        longer = (shape[outer - 1] - 1) * stride[outer - 1] + reach
        if longer * itemsize > SPAN_NBYTES:
            break
        outer, reach = outer - 1, longer
    return outer, reach


def _is_near(step: int, reach: int, itemsize: int) -> bool:
    return (step - reach) * itemsize <= GAP_NBYTES


def _is_row_major(values: Array, stride: tuple[int, ...]) -> bool:
    """Whether elements lie in memory as in their spans, which follow each other."""
    steps = tuple(step * values.itemsize for step in stride)
    return values.flags.c_contiguous and values.strides[1:] == steps


def boxes_of(shape: tuple[int, ...], stride: tuple[int, ...], itemsize: int) -> Iterator[Box]:
    """Yield boxes in row-major order that hold all elements of a tensor and fit into memory.

    Args:
        shape: its dimensions.
        stride: how its elements lie in the file, in elements.
        itemsize: the bytes of an element.
    """
    largest = box_nbytes(shape, stride, itemsize)
    if not shape or prod(shape) * itemsize <= largest:
        yield tuple((0, dim) for dim in shape)
        return
    # A dimension of one is its only row, so that every step makes the box smaller.
    rows = max(1, largest // (prod(shape[1:]) * itemsize))
    for start in range(0, shape[0], rows):
        span = start, min(start + rows, shape[0])
        if rows > 1:
            yield span, *((0, dim) for dim in shape[1:])
        else:
            yield from ((span, *inner) for inner in boxes_of(shape[1:], stride[1:], itemsize))


def box_nbytes(shape: tuple[int, ...], stride: tuple[int, ...], itemsize: int) -> int:
    """Return how large the largest box of a tensor may be."""
    row_nbytes = prod(shape[1:]) * itemsize
    distance = stride[0] * itemsize if stride else 0
    wanted = 0
    if 0 < distance <= GAP_NBYTES:  # rows lie next to each other in every run
        wanted = ceil(_LEAST_RUN_NBYTES / distance) * row_nbytes
    return max(BOX_NBYTES, min(wanted, LARGEST_BOX_NBYTES))
