"""Take the elements of arrays in other portions than they come in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule
from reinit_cli.tensors.elements import Array, Elements, stored_dtype

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")


class Portions:
    """Takes the elements of 1-D arrays of one dtype, as many at a time as are wanted."""

    def __init__(self, arrays: Iterator[Array]) -> None:
        """Take them as they come."""
        self._arrays = arrays
        self._rest: Array | None = None

    @classmethod
    def of(cls, blocks: Iterator[Elements]) -> Portions:
        """Take elements as they are stored."""
        return cls(block.flat.array for block in blocks)

    def take_into(self, flat: Array) -> None:
        """Fill a 1-D array with the next elements."""
        reached = 0
        while reached < len(flat):
            array = next(self._arrays) if self._rest is None else self._rest
            count = min(len(array), len(flat) - reached)
            flat[reached : reached + count] = array[:count]
            self._rest = array[count:] if count < len(array) else None
            reached += count

    def take(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return the next elements as an array of that shape.

        Args:
            shape: its dimensions.
            dtype: torch's name of the dtype that the elements have.
        """
        taken = np.empty(shape, stored_dtype(dtype))
        self.take_into(taken.reshape(-1))
        return taken

    def finish(self) -> None:
        """Let the arrays end, of which nothing is left."""
        assert self._rest is None
        assert not any(array.size for array in self._arrays)
