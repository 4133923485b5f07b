"""Keep the memory that blocks of elements are worked on in."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from reinit_cli.streams.chance import Array

BLOCK_NUMEL = 1 << 16
"""The elements that are worked on together: what they take stays in the processor's cache.

With half as many, two threads took a fifth longer: each operation of numpy ends with a wait for
the interpreter's lock, and a thread that sleeps there is slow to wake.
"""


class Buffers:
    """Arrays for intermediate results of one block; what they hold is never used again."""

    def __init__(self, numel: int) -> None:
        """Allocate them.

        Args:
            numel: the elements of the largest block.
        """
        import numpy as np

        self.words: Array = np.empty(numel, "<u4")
        self.x: Array = np.empty(numel, np.float32)
        self.x_signed: Array = self.x.view(np.int32)
        self.x_unsigned: Array = self.x.view(np.uint32)
        self.slopes: Array = np.empty(numel, np.float32)
        self.places: Array = np.empty(numel, np.intp)
        self.wide: Array = np.empty(numel, "<u8")


_OF_THREAD = threading.local()


def buffers() -> Buffers:
    """Return the buffers of this thread: new memory for each block would cost page faults."""
    found: Buffers | None = getattr(_OF_THREAD, "buffers", None)
    if found is None:
        found = _OF_THREAD.buffers = Buffers(BLOCK_NUMEL)
    return found


def blocks_of(out: Array, at: int) -> Iterator[tuple[int, Array]]:
    """Yield the parts of an array that are worked on one after another, each with its index.

    They end at multiples of a block in the tensor, so that no block of Philox is made twice.

    Args:
        out: what is filled, in one dimension.
        at: the index of its first element in the tensor.
    """
    block_numel = BLOCK_NUMEL * 4 // out.itemsize
    start = 0
    while start < len(out):
        index = at + start
        numel = block_numel - index % block_numel
        yield index, out[start : start + numel]
        start += numel
