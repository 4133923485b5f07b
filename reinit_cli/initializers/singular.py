"""Define the law of the vectors that spectral norm keeps next to a weight that is drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from reinit_cli.initializers.drawing import drawn_blocks
from reinit_cli.initializers.law import Law
from reinit_cli.initializers.norm import summed
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array, Chance
from reinit_cli.streams.shifted import Shifted

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_ITERATIONS = 15
"""As many as torch.nn.utils.parametrizations.spectral_norm starts with."""

_LEAST_NORM = 1e-12
"""What torch divides by at least."""

_MATRICES = 4
"""How many matrices of float64 there are at once: two ways round, a product, and the draw."""


@dataclass(frozen=True, slots=True)
class SingularVector(Law):
    """The first singular vector of another draw, which is made again from the same stream.

    It is found as torch finds it, by 15 steps of the power method from a random vector. Products
    are added in float64 in one order, so that they depend on neither threads nor a machine.

    Attributes:
        of: the law of that draw.
        shape: the shape of its tensor.
        is_wide: whether it is drawn in float64.
        dim: the dimension of the rows of the matrix; all others are its columns.
        is_left: whether the vector has an element for each row.
    """

    of: Law
    shape: tuple[int, ...]
    is_wide: bool
    dim: int
    is_left: bool
    mean = math.nan
    std = math.nan
    low = -1.0
    high = 1.0
    is_sequential = False

    @property
    def is_random(self) -> bool:
        """Whether the draw is."""
        return self.of.is_random

    @property
    def library(self) -> str:
        """That of the draw."""
        return self.of.library

    def fill(self, values: Array, chance: Chance) -> None:
        """Draw again, and write the vector."""
        rows = self._matrix(chance)
        columns = np.ascontiguousarray(rows.T)
        right = np.empty(len(columns), np.float32)
        # The random numbers of the start follow those of the draw.
        following = Shifted(chance, math.prod(self.shape)) if chance.is_indexed else chance
        following.normal(right, 0.0, 1.0)
        right = _unit(right.astype(np.float64))
        left = right
        for _ in range(_ITERATIONS):
            left = _unit(summed(columns * right[:, np.newaxis]))
            right = _unit(summed(rows * left[:, np.newaxis]))
        values[...] = left if self.is_left else right

    def _matrix(self, chance: Chance) -> Array:
        """Return the draw as a matrix."""
        dtype = np.dtype(np.float64 if self.is_wide else np.float32)
        drawn = np.empty(math.prod(self.shape), np.float64)
        reached = 0
        for block in drawn_blocks(self.of, self.shape, dtype, chance):
            drawn[reached : reached + block.size] = block
            reached += block.size
        turned = np.moveaxis(drawn.reshape(self.shape), self.dim, 0)
        return np.ascontiguousarray(turned.reshape(self.shape[self.dim], -1))

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int | None:
        """Return what the draw takes, and the matrices."""
        del shape, itemsize
        return self._nbytes(self.of.working_nbytes(self.shape, self._itemsize))

    def filling_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int | None:
        """Return what the draw takes, and the matrices."""
        del shape, itemsize
        return self._nbytes(self.of.filling_nbytes(self.shape, self._itemsize))

    @property
    def _itemsize(self) -> int:
        return 8 if self.is_wide else 4

    def _nbytes(self, of: int | None) -> int | None:
        return None if of is None else of + _MATRICES * 8 * math.prod(self.shape)


def _unit(vector: Array) -> Array:
    """Return a vector of norm one."""
    norm = math.sqrt(float(summed(np.square(vector))))
    return vector / max(norm, _LEAST_NORM)
