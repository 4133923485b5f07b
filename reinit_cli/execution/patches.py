"""Draw tensors of which several rules fill parts, over the values that they have.

Every element has the value that it would have if its own rule had filled all of the tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING

from reinit_cli.execution.draw import Anywhere, Drawing, rounding_of
from reinit_cli.execution.fill import Fill, Share
from reinit_cli.execution.overflow import Lose, Rounding
from reinit_cli.lazy import LazyModule
from reinit_cli.storage.segments import View
from reinit_cli.tensors.blocks import BLOCK_NUMEL, blocks_row_by_row
from reinit_cli.tensors.elements import Array, Elements, stored_dtype
from reinit_cli.tensors.masks import mask_blocks
from reinit_cli.tensors.portions import Portions
from reinit_cli.tensors.regions import Region
from reinit_cli.tensors.rounding import recast

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

Members = Array | slice | None
"""Which elements of a block: booleans, a slice that means all of them, or None for none."""

See = Callable[[int, Elements], None]
"""Is shown elements that one of the shares decided, before they are rounded."""


class Patchwork:
    """The draw of a tensor by several rules."""

    def __init__(self, fill: Fill, drawing: Drawing) -> None:
        """Prepare to draw.

        Args:
            fill: what is drawn, which has shares.
            drawing: how.
        """
        self.fill = fill
        self._drawing = drawing
        self._shape = fill.step.tensor.shape
        self._numel = prod(self._shape)

    def blocks(self, see: See, lose: Lose) -> Iterator[Elements]:
        """Yield the tensor in row-major order, as it is written, each block gone with the next.

        Args:
            see: shown what each share fills.
            lose: told how many of the kept numbers the tensor's dtype does not have.
        """
        fill = self.fill
        dtype = fill.step.tensor.dtype
        runs = [self._run(share) for share in fill.shares]
        roundings = [Rounding(share.step, self._drawing.overflow) for share in fill.shares]
        there = self._there(lose)
        for start, owned in self._owned():
            count = min(BLOCK_NUMEL, self._numel - start)
            present = there.take(start, count) if there is not None else None
            block = np.empty(count, stored_dtype(dtype))
            for at, (share, run, mine) in enumerate(zip(fill.shares, runs, owned, strict=True)):
                if mine is None:
                    continue
                some = _taken(run, start, present, mine, count)
                is_drawn = share.step.action == "fill"
                if is_drawn:
                    see(at, some)
                if share.fill is None:
                    block[mine] = self._cast(some, lose).array
                else:
                    was = _picked(present, mine) if roundings[at].depends else None
                    block[mine] = roundings[at].some(some, was).array
            yield Elements(block, dtype)

    def present(self, at: int) -> Iterator[Elements]:
        """Yield the present values of the elements that a share decides, block by block."""
        there = self._there(_ignored)
        assert there is not None
        for start, owned in self._owned():
            present = there.take(start, min(BLOCK_NUMEL, self._numel - start))
            mine = owned[at]
            if mine is not None:
                yield Elements(present.array[mine], present.dtype)

    def _run(self, share: Share) -> _Run | Anywhere | None:
        """Return what a share is filled with; None where that are the present values."""
        if share.fill is not None:
            anywhere = self._drawing.anywhere(share.fill)
            return anywhere or _Run(self._drawing.blocks(share.fill))
        return _Run(blocks_row_by_row(share.values)) if share.values is not None else None

    def _cast(self, some: Elements, lose: Lose) -> Elements:
        """Return elements in the dtype of the tensor, which may lack their numbers."""
        dtype = self.fill.step.tensor.dtype
        if some.dtype == dtype:
            return some
        cast, lost = recast(some, dtype, saturates=self.fill.saturates)
        lose(lost)
        return cast

    def _there(self, lose: Lose) -> _Run | None:
        """Return the present values; None where none of them are needed."""
        there = self.fill.there
        if len(there) == 1 and isinstance(there[0], View):
            return _Run(blocks_row_by_row(there[0]))
        blocks = (block for each in there for block in self._blocks_of(each, lose))
        return _Run(blocks) if there else None

    def _blocks_of(self, there: View | Fill, lose: Lose) -> Iterator[Elements]:
        """Yield present values, or those of new rows, in the dtype of the tensor."""
        if isinstance(there, View):
            return (self._cast(block, lose) for block in blocks_row_by_row(there))
        rounding = rounding_of(there, self._drawing.overflow)
        return map(rounding.next, self._drawing.blocks(there))

    def _owned(self) -> Iterator[tuple[int, list[Members]]]:
        """Yield where each block starts, and which elements of it each share decides."""
        owners = [_Owner(share, self._shape) for share in self.fill.shares]
        for start in range(0, self._numel, BLOCK_NUMEL):
            count = min(BLOCK_NUMEL, self._numel - start)
            covered = [owner.members(start, count) for owner in owners]
            yield start, _last_of(covered)


def _last_of(covered: Sequence[Members]) -> list[Members]:
    """Return which elements each share decides: those that it covers, and no later one does."""
    left: Members = slice(None)
    decided: list[Members] = []
    for members in reversed(covered):
        mine = _both(members, left)
        decided.append(mine)
        if mine is not None:
            left = _without(left, mine)
    return decided[::-1]


def _both(one: Members, other: Members) -> Members:
    if one is None or other is None:
        return None
    if isinstance(one, slice):
        return other
    found = one if isinstance(other, slice) else one & other
    return found if found.any() else None


def _without(left: Members, mine: Array | slice) -> Members:
    if isinstance(mine, slice):
        return None
    rest = ~mine if left is None or isinstance(left, slice) else left & ~mine
    return rest if rest.any() else None


def _picked(present: Elements | None, mine: Array | slice) -> Elements | None:
    return Elements(present.array[mine], present.dtype) if present is not None else None


def _taken(
    run: _Run | Anywhere | None,
    start: int,
    present: Elements | None,
    mine: Array | slice,
    count: int,
) -> Elements:
    """Return the elements of a block that a share decides, before they are rounded.

    Args:
        run: what draws them; None where they are the present ones.
        start: the index of the block's first element.
        present: the block as it is now; None where nothing depends on it.
        mine: which elements.
        count: those of the block.
    """
    if not isinstance(run, Anywhere):
        found = run.take(start, count) if run is not None else present
        assert found is not None
        return Elements(found.array[mine], found.dtype)
    low, high = 0, count
    if not isinstance(
        mine, slice
    ):  # what is before the first of them and after the last is not drawn
        low, high = int(mine.argmax()), count - int(mine[::-1].argmax())
        mine = mine[low:high]
    there = Elements(present.array[low:high], present.dtype) if present is not None else None
    found = run.run(start + low, high - low, there)
    return Elements(found.array[mine], found.dtype)


class _Owner:
    """A share of a tensor, and which elements it covers."""

    def __init__(self, share: Share, shape: tuple[int, ...]) -> None:
        self._is_all = share.step.part is None
        self._region = Region(shape, share.step.ranges or tuple(map(range, shape)))
        self._mask = Portions(mask_blocks(share.mask)) if share.mask is not None else None

    def members(self, start: int, count: int) -> Members:
        """Return which elements of the next run it covers."""
        if self._is_all:
            return slice(None)
        if self._mask is None:
            members = self._region.members(start, start + count)
        else:
            members = np.empty(count, np.bool_)
            self._mask.take_into(members)
        if members is None or not members.any():
            return None
        return slice(None) if members.all() else members


class _Run:
    """The elements of a whole tensor, of which runs are taken in order."""

    def __init__(self, blocks: Iterator[Elements]) -> None:
        self._blocks = blocks
        self._start = 0
        self._block: Elements | None = None

    def take(self, start: int, count: int) -> Elements:
        """Return the elements from one on; those before them are passed."""
        block = self._at(start)
        first = start - self._start
        if block.numel - first >= count:
            return Elements(block.array[first : first + count], block.dtype)
        # The next block may take the place of this one.
        found, reached = [block.array[first:].copy()], start + block.numel - first
        while reached < start + count:
            block = self._at(reached)
            found.append(block.array[: start + count - reached].copy())
            reached += len(found[-1])
        return Elements(np.concatenate(found), block.dtype)

    def _at(self, index: int) -> Elements:
        """Return the block that has an element."""
        while self._block is None or index >= self._start + self._block.numel:
            self._start += self._block.numel if self._block is not None else 0
            self._block = next(self._blocks).flat
        return self._block


def _ignored(count: int) -> None:
    """Take no notice of lost numbers, which are counted when they are written."""
    del count
