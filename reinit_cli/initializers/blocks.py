"""Cut tensors into the blocks in which they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule
from reinit_cli.streams.chance import Array
from reinit_cli.streams.torch.groups import GROUP_NUMEL, whole_groups
from reinit_cli.tensors.moments import BLOCK_NUMEL

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

Take = Callable[[Array], None]
"""Fills a 1-D array with the next values that are to be changed."""

Filler = Callable[[Array, int], None]
"""Fills a 1-D run of a tensor's elements, the first of which has this index in row-major order.

Any run at any time, from any thread.
"""


def nothing(flat: Array) -> None:
    """Leave an array that replaces all values as it is."""
    del flat


def block_numels(numel: int) -> Iterator[int]:
    """Yield how many elements each block of a tensor has, in groups as torch draws them."""
    return whole_groups(numel, BLOCK_NUMEL)


def pieces(flat: Array, numel: int) -> Iterator[Array]:
    """Yield an array in pieces of some rows of it; the last may have fewer."""
    for start in range(0, len(flat), numel):
        yield flat[start : start + numel]


def evenly(blocks: Iterator[Array], numel: int) -> Iterator[Array]:
    """Yield the elements of blocks in blocks of `block_numels`; a tensor that comes whole stays so.

    The moments of a draw are those of its blocks added up, whose last bits depend on where
    they end.

    Args:
        blocks: 1-D arrays.
        numel: how many elements they have together.
    """
    counts = block_numels(numel)
    count = next(counts, 0)
    held: Array | None = None
    filled = 0
    for block in blocks:
        if block.size == numel:
            yield block
            continue
        rest = block
        while rest.size:
            if filled or rest.size < count:
                if held is None:
                    held = np.empty(BLOCK_NUMEL + GROUP_NUMEL, rest.dtype)
                some = rest[: count - filled]
                held[filled : filled + len(some)] = some
                filled += len(some)
            else:
                some = rest[:count]
                filled = count
            rest = rest[len(some) :]
            if filled == count:
                yield some if len(some) == count or held is None else held[:count]
                filled, count = 0, next(counts, 0)
