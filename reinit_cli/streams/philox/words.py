"""Turn a Philox key and a counter into random words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from reinit_cli.lazy import LazyModule
from reinit_cli.streams.chance import Array

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

VALUES, MORE_BITS, PLACES = range(3)
"""The lanes: the first words of elements, their further bits, and the choices of places."""

_BLOCK_NBYTES = 32
"""What Philox4x64 makes of one counter: four words of 64 bits."""

_MOST_BLOCKS = 2**64
"""The blocks of a lane: its counter is the lowest of the four words that Philox encrypts."""


class Words:
    """The words of one lane of a key, any of which can be read.

    Block b is the Philox4x64-10 of the counter (b, lane, 0, 0). In little-endian order its 32
    bytes are the words 8b to 8b + 7 of 32 bits, and the words 4b to 4b + 3 of 64 bits.

    To read on where the last call ended, at the boundary of a block, costs nothing; anywhere
    else it takes some microseconds to start.
    """

    def __init__(self, key: int, lane: int) -> None:
        """Prepare to read; no numbers are made yet.

        Args:
            key: the Philox key, of 128 bits.
            lane: `VALUES`, `MORE_BITS` or `PLACES`.
        """
        self._key = key
        self._lane = lane
        self._source: np.random.Philox | None = None
        self._following = -1

    def reread(self) -> Words:
        """Return another reader of the same words, for another thread."""
        return Words(self._key, self._lane)

    def take(self, at: int, count: int, nbits: Literal[32, 64] = 32) -> Array:
        """Return words from one on, as little-endian unsigned integers, in new memory.

        Args:
            at: the index of the first.
            count: how many.
            nbits: the size of each.

        Raises:
            ValueError: the lane does not have that many.
        """
        per_block = 8 * _BLOCK_NBYTES // nbits
        first = at // per_block
        end = -(-(at + count) // per_block)
        words = self._blocks(first, end).view(f"<u{nbits // 8}")
        skipped = at - first * per_block
        return words[skipped : skipped + count]

    def _blocks(self, first: int, end: int) -> Array:
        """Return whole blocks, as the 64-bit words of which they consist."""
        import numpy as np

        if end > _MOST_BLOCKS:
            raise ValueError(f"a lane has {_MOST_BLOCKS} blocks, fewer than {end}")
        if self._source is None or self._following != first:
            # numpy counts up before it encrypts.
            counter = (first + (self._lane << 64) - 1) % 2**256
            self._source = np.random.Philox(key=self._key, counter=counter)
        self._following = end
        return self._source.random_raw(4 * (end - first)).astype("<u8", copy=False)
