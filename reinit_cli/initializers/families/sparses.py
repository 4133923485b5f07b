"""Sparse connections."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from reinit_cli.initializers.blocks import Filler, Take, nothing
from reinit_cli.initializers.fans import need_ndim
from reinit_cli.initializers.law import Dtype, Law, Normal, Statistic
from reinit_cli.initializers.parameters import NonNegative, Number
from reinit_cli.initializers.registry import register
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array, Chance
from reinit_cli.streams.normals import normal_mass
from reinit_cli.streams.philox.places import choice_nbytes
from reinit_cli.streams.torch.chance import set_apart
from reinit_cli.streams.torch.groups import normal_words
from reinit_cli.tensors.moments import BLOCK_NUMEL

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_WHOLE_NUMEL = 2**22
"""Tensors of up to this many elements are drawn whole, and the zeros written into them."""


@dataclass(frozen=True, slots=True)
class SparseNormal(Law):
    """N(0, scale²) with `zeros` of the `rows` elements of every column set to 0."""

    rows: int
    zeros: int
    scale: float
    mean = 0.0
    statistics: ClassVar[tuple[Statistic, ...]] = ("mean", "std", "distribution")
    identity = "zeros"

    @property
    def std(self) -> float:
        """scale·√(the share that is not zero)."""
        return self.scale * math.sqrt(1 - self.zeros / self.rows) if self.rows else 0.0

    @property
    def spread(self) -> float:
        """The std of the normals, as zeros do not stray from the mean."""
        return self.scale

    def cdf(self, x: float) -> float:
        """That of the normals, with a step at 0."""
        share = self.zeros / self.rows if self.rows else 1.0
        normal = normal_mass(-math.inf, x / self.scale) if self.scale else float(x >= 0)
        return (1 - share) * normal + share * (x >= 0)

    def misfit(self, values: Array) -> tuple[float, float]:
        """Count the columns with too few zeros; a normal may be 0 by chance."""
        zeros = np.count_nonzero(values == 0, axis=0)
        return float(np.count_nonzero(zeros < self.zeros)), 0.0

    def fill(self, values: Array, chance: Chance) -> None:
        """Draw the normals, then the zeros of each column in turn.

        torch's own `sparse_` takes the zeros from the global generator.
        """
        if chance.is_indexed:
            zeros = chance.chosen(self.rows, values.shape[1], self.zeros)
            chance.normal(values, 0.0, self.scale)
            np.putmask(values, zeros.mask(0, values.size), 0)
            return
        chance.normal(values, 0.0, self.scale)
        for column in range(values.shape[1]):
            values[chance.permutation(self.rows)[: self.zeros], column] = 0

    def filler(self, shape: tuple[int, ...], dtype: Dtype, chance: Chance) -> Filler:
        """Return what fills runs: the zeros of each column were chosen, and are chosen again."""
        del dtype
        rows, columns = shape
        zeros = chance.chosen(rows, columns, self.zeros)

        def fill(run: Array, at: int) -> None:
            chance.at(at).normal(run, 0.0, self.scale)
            np.putmask(run, zeros.mask(at, len(run)), 0)

        return fill

    def blocks(
        self, shape: tuple[int, ...], dtype: Dtype, chance: Chance, take: Take = nothing
    ) -> Iterator[Array]:
        """Yield what `fill` writes; of a large tensor the zeros are drawn first, and kept as bits."""
        rows, columns = shape
        is_large = rows * columns > _WHOLE_NUMEL
        words = normal_words(rows * columns, dtype.itemsize) if is_large else None
        normals = set_apart(chance, words)
        if normals is None:
            yield from Law.blocks(self, shape, dtype, chance, take)
            return
        zeros = self._zeros(columns, chance)
        reached = 0
        for block in Normal(0.0, self.scale).blocks(shape, dtype, normals):
            flat = block
            while flat.size:
                mask = _unpacked(zeros, columns, reached, flat.size)
                flat[: mask.size][mask] = 0
                flat = flat[mask.size :]
                reached += mask.size
            yield block

    def _zeros(self, columns: int, chance: Chance) -> Array:
        """Return which elements are zero, (rows, columns / 8), as the bits of bytes."""
        zeros = np.zeros((self.rows, -(-columns // 8)), np.uint8)
        byte = np.empty(self.rows, np.uint8)
        for at in range(0, columns, 8):
            byte[:] = 0
            for bit in range(min(8, columns - at)):
                byte[chance.permutation(self.rows)[: self.zeros]] += 1 << bit
            zeros[:, at // 8] = byte
        return zeros

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return what the zeros of a large tensor take, or a small tensor and its permutations."""
        rows, columns = shape
        if rows * columns <= _WHOLE_NUMEL:
            return rows * columns * itemsize + 8 * rows
        return rows * (-(-columns // 8) + 9)

    def filling_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return what is kept of each column until its zeros are known."""
        del itemsize
        rows, columns = shape
        return choice_nbytes(rows, columns, self.zeros)


def _unpacked(bits: Array, columns: int, start: int, numel: int) -> Array:
    """Return the bits of some elements, as many as one piece of the matrix has of them.

    Args:
        bits: (rows, columns / 8), the lowest bit of each byte first.
        columns: those of the matrix.
        start: the first element.
        numel: how many there are.
    """
    row, column = divmod(start, columns)
    if column or numel < columns:  # a part of one row
        numel = min(numel, columns - column)
        some = bits[row, column // 8 : -(-(column + numel) // 8)]
        return np.unpackbits(some, bitorder="little")[column % 8 :][:numel].view(np.bool_)
    rows = min(numel, BLOCK_NUMEL) // columns or 1
    unpacked = np.unpackbits(bits[row : row + rows], axis=1, count=columns, bitorder="little")
    return unpacked.reshape(-1).view(np.bool_)


@register(
    purpose="structure",
    law="N(0, std²), then ⌈sparsity·rows⌉ elements of every column set to 0",
    example="sparse:0.1",
    defined="2 dimensions",
    paper="Martens 2010, Deep learning via Hessian-free optimization, ICML",
)
def sparse(
    shape: tuple[int, ...],
    *,
    sparsity: Annotated[float, Number(minimum=0, maximum=1)],
    std: NonNegative = 0.01,
) -> Law:
    """Draw normal values and set a share of each column to zero."""
    need_ndim(shape, 2, 2)
    return SparseNormal(shape[0], math.ceil(sparsity * shape[0]), std)
