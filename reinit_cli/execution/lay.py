"""Write tensors whose elements do not lie in row-major order, box by box."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import Self

from reinit_cli.execution.fill import FillPart
from reinit_cli.execution.pieces import Piece
from reinit_cli.lazy import dataclass
from reinit_cli.storage.crc32 import crc32
from reinit_cli.storage.segments import Box, Copy
from reinit_cli.tensors.convert import boxed
from reinit_cli.tensors.dtype import itemsize_of
from reinit_cli.tensors.elements import Array, Elements
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.portions import Portions
from reinit_cli.tensors.slice import longer_axes, row_major
from reinit_cli.tensors.spans import SPAN_NBYTES, Transfer, boxes_of, fill_gaps, spans_of
from reinit_cli.threads import stop_here


@dataclass(frozen=True, slots=True)
class _Place:
    """Where elements of a tensor lie in a file.

    Attributes:
        piece: the bytes there.
        box: which elements they are.
        stride: how they lie, in elements.
        under: what lies between them; None where there are no gaps.
    """

    piece: Piece
    box: Box
    stride: tuple[int, ...]
    under: Copy | None

    @classmethod
    def of(cls, piece: Piece, part: FillPart, shape: tuple[int, ...]) -> Self:
        """Return the place of a part of a tensor of some shape, without its dimensions of one."""
        box = part.box if part.box is not None else tuple((0, dim) for dim in shape)
        stride = part.stride or row_major(_dims(box))
        axes = longer_axes(shape)
        longer = tuple(box[axis] for axis in axes)
        return cls(piece, longer, tuple(stride[axis] for axis in axes), part.under)

    def put(self, box: Box, values: Array) -> None:
        """Write the elements of a box that lie here, too."""
        met = tuple((max(*lows), min(*highs)) for lows, highs in self._corners(box))
        if any(low >= high for low, high in met):
            return
        itemsize = values.itemsize
        firsts = [low for low, _ in box]
        own = tuple(
            (low - first, high - first) for (low, high), first in zip(met, firsts, strict=True)
        )
        distances = zip(met, self.box, self.stride, strict=True)
        start = sum((low - first) * step for (low, _), (first, _), step in distances)
        for spans in spans_of(boxed(values, own), self.stride, start * itemsize):
            spans.write(_writing(self.piece), _reading(self.piece))
        self.piece.file.progress(prod(_dims(met)) * itemsize)

    def _corners(self, box: Box) -> Iterator[Iterable[tuple[int, int]]]:
        return (zip(mine, theirs, strict=True) for mine, theirs in zip(self.box, box, strict=True))

    def fill_gaps(self, itemsize: int) -> None:
        """Write what lies between the elements, if anything does."""
        if self.under is not None:
            read, write = _reading(self.piece), _writing(self.piece)
            under = _reading_copy(self.under)
            fill_gaps(_dims(self.box), self.stride, itemsize, under, read, write)
        gaps = self.piece.segment.nbytes - prod(_dims(self.box)) * itemsize
        self.piece.file.progress(gaps)


def _dims(box: Box) -> tuple[int, ...]:
    return tuple(stop - start for start, stop in box)


def lay(
    parts: Sequence[tuple[Piece, FillPart]], tensor: TensorInfo, blocks: Iterator[Elements]
) -> None:
    """Write a tensor into seekable files where its elements lie a stride apart.

    Args:
        parts: where they lie.
        tensor: what is known of it.
        blocks: its elements in row-major order, in the dtype that it has there.
    """
    itemsize = itemsize_of(tensor.dtype)
    shape = tuple(dim for dim in tensor.shape if dim != 1)
    places = [_Place.of(piece, part, tensor.shape) for piece, part in parts]
    stride = next(
        place.stride
        for place, (_, part) in zip(places, parts, strict=True)
        if part.stride is not None
    )
    for place in places:
        place.fill_gaps(itemsize)
    portions = Portions.of(blocks)
    for box in boxes_of(shape, stride, itemsize):
        _put(places, box, portions.take(_dims(box), tensor.dtype))
    portions.finish()
    for place in places:
        _note_digest(place.piece)


def _put(places: Iterable[_Place], box: Box, values: Array) -> None:
    for place in places:
        place.put(box, values)


def _reading(piece: Piece) -> Transfer:
    """Return what reads from a file that is written; where nothing is yet, zeros."""

    def read(offset: int, buffer: memoryview) -> None:
        stop_here()
        found = piece.file.writer.read(piece.offset + offset, len(buffer))
        buffer[: len(found)] = found
        buffer[len(found) :] = bytes(len(buffer) - len(found))

    return read


def _writing(piece: Piece) -> Transfer:
    def write(offset: int, data: memoryview) -> None:
        stop_here()
        piece.file.writer.write_at(piece.offset + offset, data)

    return write


def _reading_copy(data: Copy) -> Transfer:
    def read(offset: int, buffer: memoryview) -> None:
        data.file.read_into(buffer, data.offset + offset)

    return read


def _note_digest(piece: Piece) -> None:
    """Digest what was written out of order, where other bytes depend on that."""
    if not piece.file.wants_digest(piece):
        return
    crc = 0
    read = _reading(piece)
    nbytes = piece.segment.nbytes
    buffer = memoryview(bytearray(min(nbytes, SPAN_NBYTES)))
    for start in range(0, nbytes, SPAN_NBYTES):
        data = buffer[: nbytes - start]
        read(start, data)
        crc = crc32(data, crc)
    piece.file.note(piece, crc)
