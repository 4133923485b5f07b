"""Keep the zeros of a tensor in what is drawn over it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.tensors.blocks import Blocks
from reinit_cli.tensors.elements import Array, Elements, stored_dtype
from reinit_cli.tensors.portions import Portions
from reinit_cli.tensors.rounding import in_dtype, numbers

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")


@dataclass(frozen=True, slots=True)
class Zeros:
    """The zeros of a tensor, which stay as they are.

    Attributes:
        blocks: the tensor as it is now.
        version: 1 writes positive zeros, and transforms move and measure all elements; in 2 a
            zero keeps its sign, and they move and measure only what is not zero.
    """

    blocks: Blocks
    version: int

    @property
    def are_set_apart(self) -> bool:
        """Whether transforms neither move nor measure them."""
        return self.version > 1

    def restored(self, dtype: str) -> RestoredZeros:
        """Return what writes them into a draw of a dtype, block after block."""
        return RestoredZeros(self, dtype)

    def others(self, values: Blocks) -> Iterator[Elements]:
        """Yield those of some values, in one dimension, that lie where the tensor is not zero."""
        marks = Portions(map(_are_zero, self.blocks()))
        for block in values():
            are_zero = np.empty(block.numel, np.bool_)
            marks.take_into(are_zero)
            yield Elements(block.flat.array[~are_zero], block.dtype)

    def count_others(self) -> int:
        """Return how many elements are not zero."""
        return sum(int(np.count_nonzero(~_are_zero(block))) for block in self.blocks())

    def among(self, others: Iterator[Array], dtype: str) -> Iterator[Array]:
        """Yield the whole tensor, with other values in their order where it is not zero.

        Args:
            others: as many elements as are not zero, in one dimension.
            dtype: the dtype that they have, by torch's name.
        """
        portions = Portions(others)
        for block in self.blocks():
            whole = in_dtype(block.flat, dtype).array.copy()
            are_others = ~_are_zero(block)
            drawn = np.empty(np.count_nonzero(are_others), whole.dtype)
            portions.take_into(drawn)
            whole[are_others] = drawn
            yield whole


class RestoredZeros:
    """Writes the zeros of a tensor into a draw, from its first element to its last."""

    def __init__(self, zeros: Zeros, dtype: str) -> None:
        self._dtype = dtype
        self._version = zeros.version
        self._pairs = Portions(map(self._paired, zeros.blocks()))
        self._kind = np.dtype([("is_zero", np.bool_), ("value", stored_dtype(dtype))])

    def into(self, flat: Array) -> None:
        """Write those of the next elements into a 1-D array."""
        pairs = np.empty(flat.shape, self._kind)
        self._pairs.take_into(pairs)
        np.copyto(flat, pairs["value"], where=pairs["is_zero"])

    def _paired(self, block: Elements) -> Array:
        pairs = np.empty(block.numel, self._kind)
        pairs["is_zero"], pairs["value"] = _found(block, self._dtype, self._version)
        return pairs


def write_zeros(run: Array, present: Elements, dtype: str, version: int) -> None:
    """Write the zeros of present elements into a run of a draw.

    Args:
        run: the draw, in one dimension.
        present: what its elements are now.
        dtype: that of the draw, by torch's name.
        version: that of `Zeros`.
    """
    are_zero, values = _found(present, dtype, version)
    np.copyto(run, values, where=are_zero)


def _found(block: Elements, dtype: str, version: int) -> tuple[Array, Array]:
    """Return which elements are zero, and what they are in the dtype of a draw."""
    values = in_dtype(block.flat, dtype)
    if version > 1:
        return _are_zero(block), values.array
    return _are_zero(values), np.zeros(values.numel, values.array.dtype)


def _are_zero(block: Elements) -> Array:
    are_zero: Array = numbers(block.flat) == 0
    return are_zero
