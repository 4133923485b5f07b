"""Produce the bytes of tensors that are drawn or converted, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from math import prod
from typing import TYPE_CHECKING

from reinit_cli.errors import TensorError
from reinit_cli.execution.apart import blocks_of, comes_apart, dims_of, rows_met, whole
from reinit_cli.execution.draw import Drawing, draw_fill, rounding_of
from reinit_cli.execution.fill import Fill, FillPart, Observe, Observer, Recast
from reinit_cli.execution.lay import lay
from reinit_cli.execution.overflow import too_large
from reinit_cli.execution.patches import Patchwork
from reinit_cli.execution.pieces import Piece
from reinit_cli.execution.seen import Seen
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.planning.memory import drawn_itemsize, working_nbytes
from reinit_cli.planning.plan import Step
from reinit_cli.storage.segments import Box, View
from reinit_cli.streams.stream import DEFAULT_STREAM, stream_named
from reinit_cli.tensors.blocks import blocks_row_by_row, peak_of_blocks
from reinit_cli.tensors.convert import boxed, bytes_of
from reinit_cli.tensors.dtype import itemsize_of
from reinit_cli.tensors.elements import Array, Elements
from reinit_cli.tensors.moments import BLOCK_NUMEL, Moments, moments_of
from reinit_cli.tensors.portions import Portions
from reinit_cli.tensors.rounding import recast
from reinit_cli.tensors.slice import longer_axes
from reinit_cli.tensors.spans import SPAN_NBYTES, box_nbytes
from reinit_cli.text import plural
from reinit_cli.threads import followed

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_PEAK_PER_DRAWN_BYTE = 5
"""What a draw takes at most, its values too: candidates, masks, factors in float64."""


@dataclass(frozen=True, slots=True)
class Product:
    """What is drawn or converted once.

    Attributes:
        of: what it is.
        places: the pieces that get its bytes, and which part of it each.
    """

    of: Fill | Recast
    places: tuple[tuple[Piece, FillPart], ...]

    @property
    def nbytes(self) -> int:
        """The bytes that are written."""
        return sum(piece.segment.nbytes for piece, _ in self.places)

    @property
    def is_streamed(self) -> bool:
        """Whether its blocks are written as they come."""
        return all(part.box is None and part.stride is None for _, part in self.places)

    @property
    def is_partial(self) -> bool:
        """Whether some of its elements are in no place, since others write them."""
        if not isinstance(self.of, Fill) or any(part.box is None for _, part in self.places):
            return False
        numel = sum(prod(dims_of(part.box)) for _, part in self.places if part.box is not None)
        return numel < self.of.step.tensor.numel

    @property
    def needs_torch(self) -> bool:
        """Whether torch gives its random numbers."""
        return (
            isinstance(self.of, Fill)
            and stream_named(self.of.step.stream or DEFAULT_STREAM).needs_torch
        )

    @property
    def stands_alone(self) -> bool:
        """Whether a law of this package and a stream without torch give it, and no file is read."""
        of = self.of
        if not isinstance(of, Fill) or of.shares or self.needs_torch or self.is_strided:
            return False
        is_ours = type(of.step.law).__module__.startswith("reinit_cli.")
        return is_ours and all(each is None for each in (of.before, of.values, of.own, of.zeros))

    @property
    def key(self) -> str:
        """The tensor that is drawn or cast."""
        return self.of.key if isinstance(self.of, Recast) else self.of.step.key

    def followed(self) -> AbstractContextManager[None]:
        """Let whoever watches know that this thread works on it."""
        return followed(self.places[0][0].file.progress, self.key)

    @property
    def is_strided(self) -> bool:
        """Whether its elements lie apart in one of its places."""
        return any(part.stride is not None for _, part in self.places)


def products_of(pieces: Iterable[Piece]) -> list[Product]:
    """Return what the bytes of pieces are made of, each once, by its first piece."""
    found: dict[int, tuple[Fill | Recast, list[tuple[Piece, FillPart]]]] = {}
    for piece in pieces:
        segment = piece.segment
        if isinstance(segment, FillPart):
            _, places = found.setdefault(id(segment.fill), (segment.fill, []))
            places.append((piece, segment))
        elif isinstance(segment, Fill):
            found[id(piece)] = segment, [(piece, segment.whole)]
        elif isinstance(segment, Recast):
            found[id(piece)] = segment, [(piece, FillPart(segment, segment.nbytes))]
    return [Product(of, tuple(places)) for of, places in found.values()]


class Producer:
    """Draws and converts, in any number of threads."""

    def __init__(self, device: str, observe: Observe, *, keeps_whole: bool) -> None:
        """Prepare to draw.

        Args:
            device: where to draw.
            observe: who is shown each draw.
            keeps_whole: whether what is produced is kept until all of it is there.
        """
        self.device = device
        self._keeps_whole = keeps_whole
        self.lost: dict[str, int] = {}
        self.overflown: dict[tuple[str, str], int] = {}
        self._observe = observe

    @property
    def is_refused(self) -> bool:
        """Whether a number was found for which the run fails in the end."""
        return bool(self.lost or self.overflown)

    def parts(self, product: Product) -> Iterator[tuple[Piece, memoryview]]:
        """Yield the next bytes of a piece; they are gone with the next.

        Raises:
            TensorError: the present values cannot be transformed.
        """
        blocks = self._blocks(product.of)
        if product.is_streamed:
            for block in blocks:
                for piece, _ in product.places:
                    yield piece, bytes_of(block.array)
            return
        assert isinstance(product.of, Fill)
        tensor = product.of.step.tensor
        axes = longer_axes(tensor.shape)
        shape = tuple(tensor.shape[axis] for axis in axes)
        wanted = [
            (piece, tuple((part.box or whole(tensor.shape))[axis] for axis in axes))
            for piece, part in product.places
        ]
        if product.is_partial and comes_apart(product.of):
            found = self._drawn_apart(product.of, [box for _, box in wanted], shape)
        else:
            found = _rows(blocks, shape, tensor.dtype)
        for rows_box, rows in found:
            for piece, box in wanted:
                yield piece, bytes_of(_met(rows_box, rows, box))

    def lay(self, product: Product) -> None:
        """Write what lies apart in a seekable file.

        Raises:
            TensorError: the present values cannot be transformed.
        """
        assert isinstance(product.of, Fill)
        lay(product.places, product.of.step.tensor, self._blocks(product.of))

    def flows(self, product: Product) -> bool:
        """Whether its bytes come in blocks and in the order of the one place that they have."""
        if not product.is_streamed or len(product.places) > 1:
            return False
        if isinstance(product.of, Recast):
            return True
        return self._working_nbytes(product.of) is not None

    def _blocks(self, of: Fill | Recast) -> Iterator[Elements]:
        """Yield elements in row-major order, in the dtype that is written."""
        if isinstance(of, Fill):
            yield from self._drawn(of)
            return
        for block in blocks_row_by_row(of.view):
            cast, lost = recast(block, of.dtype, saturates=of.saturates)
            self._lose(of.key, lost)
            yield cast

    def _lose(self, key: str, count: int) -> None:
        if count:
            self.lost[key] = self.lost.get(key, 0) + count

    def _overflow(self, step: Step, count: int) -> None:
        at = step.key, step.tensor.dtype
        self.overflown[at] = self.overflown.get(at, 0) + count

    def count_overflow(self, product: Product, count: int) -> None:
        """Count the numbers of a draw of another process that its dtype does not have."""
        if count:
            assert isinstance(product.of, Fill)
            self._overflow(product.of.step, count)

    def _drawn(self, fill: Fill) -> Iterator[Elements]:
        step = fill.step
        overflow = partial(self._overflow, step)
        if fill.shares:
            lose = partial(self._lose, step.key)
            patchwork = Patchwork(fill, Drawing(self.device, lose, overflow))
            seen = Seen(patchwork, self._observe)
            yield from patchwork.blocks(seen.see, lose)
            return
        observers = self._observe(step)
        if fill.before is not None and observers:
            was = partial(blocks_row_by_row, fill.before)
            before = sum(map(moments_of, was()), start=Moments())
            for observer in observers:
                observer.see_before(was, before)
        rounding = rounding_of(fill, overflow)
        for block in draw_fill(fill, self.device, partial(self._lose, step.key)):
            _show(observers, block)
            yield rounding.next(block)

    def _drawn_apart(
        self, fill: Fill, boxes: Sequence[Box], shape: tuple[int, ...]
    ) -> Iterator[tuple[Box, Array]]:
        """Draw the rows of a tensor that boxes meet, and say which they are."""
        step = fill.step
        overflow = partial(self._overflow, step)
        draw = Drawing(self.device, partial(self._lose, step.key), overflow).anywhere(fill)
        assert draw is not None
        rounding, observers = rounding_of(fill, overflow), self._observe(step)
        for first, box in rows_met(boxes, shape):
            block = draw.run(first, prod(dims_of(box)), None)
            _show(observers, block)
            yield box, rounding.next(block).array.reshape(dims_of(box))

    def peak_nbytes(self, product: Product) -> int:
        """Return the memory that a draw or a conversion may take."""
        of = product.of
        kept = product.nbytes if self._keeps_whole and not self.flows(product) else 0
        if isinstance(of, Recast):
            return kept + 4 * peak_of_blocks(of.view)
        if of.shares:
            return kept + self._peak_of_shares(of, product)
        read = [view for view in (of.before, of.values, of.zeros) if view is not None]
        together = peak_of_blocks(of.own) if of.own is not None else 0
        peak = together + max(map(peak_of_blocks, read), default=0)
        return kept + self._peak_of_draw(of, product) + peak

    def _peak_of_shares(self, fill: Fill, product: Product) -> int:
        """Return the memory that a tensor takes of which several rules fill parts."""
        draws = [share.fill for share in fill.shares if share.fill is not None]
        views = [*fill.there, *(share.values or share.mask for share in fill.shares)]
        read = [peak_of_blocks(view) for view in views if isinstance(view, View)]
        own = _PEAK_PER_DRAWN_BYTE * min(fill.step.tensor.numel, BLOCK_NUMEL) * 8
        return own + sum(read) + sum(self._peak_of_draw(draw, product) for draw in draws)

    def _peak_of_draw(self, fill: Fill, product: Product) -> int:
        tensor = fill.step.tensor
        drawn, itemsize = drawn_itemsize(fill.step), tensor.nbytes // max(1, tensor.numel)
        working = self._working_nbytes(fill)
        together = tensor.numel if working is None else min(tensor.numel, BLOCK_NUMEL)
        peak = (working or 0) + together * (_PEAK_PER_DRAWN_BYTE * drawn + itemsize)
        peak += tensor.numel * drawn if fill.is_kept else 0
        return peak + (_peak_of_boxes(product) if product.is_strided else 0)

    def _working_nbytes(self, fill: Fill) -> int | None:
        """Return what a draw takes besides its blocks; None where it comes whole."""
        if fill.shares:
            each = [self._working_nbytes(share.fill) for share in fill.shares if share.fill]
            known = [nbytes for nbytes in each if nbytes is not None]
            return sum(known) if len(known) == len(each) else None
        return working_nbytes(fill.step, self.device)


def _show(observers: Sequence[Observer], block: Elements) -> None:
    """Show a block to those who watch, if anyone does."""
    if observers:
        moments = moments_of(block)
        for observer in observers:
            observer.see(block, moments)


def refuse_lost(lost: Mapping[str, int]) -> None:
    """Refuse casts that made infinities or NaN of numbers.

    Args:
        lost: for each key, how many numbers.

    Raises:
        TensorError: there are any.
    """
    if not lost:
        return
    key, count = min(lost.items())
    more = f", and some of {plural(len(lost) - 1, 'more tensor')}," if len(lost) > 1 else ""
    raise TensorError(key, f"{plural(count, 'number')} of it{more}", kind="cast")


def refuse_overflown(overflown: Mapping[tuple[str, str], int]) -> None:
    """Refuse draws with numbers that are too large.

    Args:
        overflown: for each key and its dtype, how many numbers.

    Raises:
        TensorError: there are any.
    """
    if not overflown:
        return
    (key, dtype), count = min(overflown.items())
    others = len(overflown) - 1
    more = f", and so are some of {plural(others, 'more tensor')}" if others else ""
    raise TensorError(key, f"{too_large(count, dtype)}{more}", kind="overflow", of=dtype)


def _peak_of_boxes(product: Product) -> int:
    """Return the memory of the boxes in which a tensor is laid out."""
    assert isinstance(product.of, Fill)
    tensor = product.of.step.tensor
    stride = next(part.stride for _, part in product.places if part.stride is not None)
    largest = box_nbytes(tensor.shape, stride, itemsize_of(tensor.dtype))
    return min(tensor.nbytes, largest) + 2 * SPAN_NBYTES


def _rows(
    blocks: Iterator[Elements], shape: tuple[int, ...], dtype: str
) -> Iterator[tuple[Box, Array]]:
    """Yield a tensor by whole rows of one of its dimensions, and which they are."""
    portions = Portions.of(blocks)
    for box in blocks_of(shape):
        yield box, portions.take(dims_of(box), dtype)
    portions.finish()


def _met(box: Box, rows: Array, wanted: Box) -> Array:
    """Return the elements of some rows that lie in a box, too, contiguously.

    Args:
        box: which elements the rows are.
        rows: the elements.
        wanted: the other box.
    """
    spans = []
    for (first, last), (low, high) in zip(box, wanted, strict=True):
        start = max(low, first)
        spans.append((start - first, max(min(high, last), start) - first))
    return np.ascontiguousarray(boxed(rows, tuple(spans)))
