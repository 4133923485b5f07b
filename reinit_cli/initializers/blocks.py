"""Cut tensors into the blocks in which they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule
from reinit_cli.tensors.moments import BLOCK_NUMEL

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

GROUP_NUMEL = 16
"""The elements that `Tensor.normal_` draws together; the last group ends with the tensor."""

Take = Callable[["torch.Tensor"], None]
"""Fills a 1-D tensor with the next values that are to be changed."""


def nothing(flat: torch.Tensor) -> None:
    """Leave a tensor that replaces all values as it is."""
    del flat


class Taker:
    """Takes the elements of blocks in other portions."""

    def __init__(self, blocks: Iterator[torch.Tensor]) -> None:
        self._blocks = blocks
        self._rest: torch.Tensor | None = None

    def take_into(self, flat: torch.Tensor) -> None:
        """Fill a 1-D tensor with the next elements, in its dtype."""
        reached = 0
        while reached < len(flat):
            block = next(self._blocks).view(-1) if self._rest is None else self._rest
            count = min(len(block), len(flat) - reached)
            flat[reached : reached + count] = block[:count]
            self._rest = block[count:] if count < len(block) else None
            reached += count

    def take(self, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
        """Return the next elements as a tensor."""
        import torch

        taken = torch.empty(shape, dtype=getattr(torch, dtype), device="cpu")
        self.take_into(taken.view(-1))
        return taken

    def finish(self) -> None:
        """Let the blocks end, of which nothing is left."""
        assert self._rest is None
        assert not any(block.numel() for block in self._blocks)


def block_numels(numel: int) -> Iterator[int]:
    """Yield how many elements each block of a tensor has.

    A rest of less than a group would be drawn in another way: it joins the last block.
    """
    while numel:
        count = numel if numel < BLOCK_NUMEL + GROUP_NUMEL else BLOCK_NUMEL
        yield count
        numel -= count


def evenly(blocks: Iterator[torch.Tensor], numel: int) -> Iterator[torch.Tensor]:
    """Yield the elements of blocks in blocks of `block_numels`; a tensor that comes whole stays so.

    The moments of a draw are those of its blocks added up, whose last bits depend on where
    they end.

    Args:
        blocks: 1-D tensors.
        numel: how many elements they have together.
    """
    import torch

    counts = block_numels(numel)
    count = next(counts, 0)
    held = torch.empty(0, device="cpu")
    filled = 0
    for block in blocks:
        if block.numel() == numel:
            yield block
            continue
        rest = block
        while rest.numel():
            if filled or rest.numel() < count:
                if not held.numel():
                    held = rest.new_empty(BLOCK_NUMEL + GROUP_NUMEL)
                some = rest[: count - filled]
                held[filled : filled + len(some)] = some
                filled += len(some)
            else:
                some = rest[:count]
                filled = count
            rest = rest[len(some) :]
            if filled == count:
                yield some if len(some) == count else held[:count]
                filled, count = 0, next(counts, 0)
