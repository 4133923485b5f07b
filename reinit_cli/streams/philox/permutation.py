"""Choose orders and places by sorting words of 64 bits."""

from __future__ import annotations

from reinit_cli.streams.chance import Array
from reinit_cli.streams.philox.buffers import BLOCK_NUMEL, blocks_of
from reinit_cli.streams.philox.words import Words


def permutation(words: Words, at: int, numel: int) -> Array:
    """Return 0, 1, …, numel - 1 in the order of their words, in int64.

    The low bits of each word are replaced by its own number, so that all of them differ and
    every way of sorting gives the same order.

    Args:
        words: those of a lane for places.
        at: the index of the first of them that is taken.
        numel: how many.
    """
    import numpy as np

    mask = np.uint64(2 ** max(1, (numel - 1).bit_length()) - 1)
    ranked = np.empty(numel, np.uint64)
    for start, part in blocks_of(ranked, 0):
        np.bitwise_and(words.take(at + start, len(part), 64), ~mask, out=part)
        np.bitwise_or(part, np.arange(start, start + len(part), dtype=np.uint64), out=part)
    ranked.sort()
    for start in range(0, numel, BLOCK_NUMEL):
        ranked[start : start + BLOCK_NUMEL] &= mask
    return ranked.view(np.int64)
