"""Sparse connections."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from reinit_cli.initializers.blocks import Take, nothing
from reinit_cli.initializers.fans import need_ndim
from reinit_cli.initializers.law import Law, Normal, Statistic, normal_mass, normal_words
from reinit_cli.initializers.parameters import NonNegative, Number
from reinit_cli.initializers.registry import register
from reinit_cli.streams.mersenne import is_known, later
from reinit_cli.tensors.moments import BLOCK_NUMEL

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor

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

    def misfit(self, values: Tensor) -> tuple[float, float]:
        """Count the columns with too few zeros; a normal may be 0 by chance."""
        zeros = (values == 0).sum(dim=0)
        return float((zeros < self.zeros).count_nonzero()), 0.0

    def fill(self, tensor: Tensor, generator: Generator) -> None:
        """Draw the normals, then the zeros of each column in turn, from one generator.

        torch's own `sparse_` takes the zeros from the global generator.
        """
        import torch

        tensor.normal_(0, self.scale, generator=generator)
        for column in range(tensor.shape[1]):
            rows = torch.randperm(self.rows, generator=generator, device=tensor.device)
            tensor[rows[: self.zeros], column] = 0

    def blocks(
        self,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        generator: Generator,
        take: Take = nothing,
    ) -> Iterator[Tensor]:
        """Yield what `fill` writes; of a large tensor the zeros are drawn first, and kept as bits."""
        rows, columns = shape
        words = normal_words(rows * columns, dtype.itemsize)
        if rows * columns <= _WHOLE_NUMEL or words is None or not is_known(generator):
            yield from Law.blocks(self, shape, dtype, generator, take)
            return
        normals = generator.clone_state()
        generator.set_state(later(normals, words).get_state())
        zeros = self._zeros(columns, generator)
        reached = 0
        for block in Normal(0.0, self.scale).blocks(shape, dtype, normals):
            flat = block
            while flat.numel():
                mask = _unpacked(zeros, columns, reached, flat.numel())
                flat[: mask.numel()].masked_fill_(mask, 0)
                flat = flat[mask.numel() :]
                reached += mask.numel()
            yield block

    def _zeros(self, columns: int, generator: Generator) -> Tensor:
        """Return which elements are zero, (rows, columns / 8), as the bits of bytes."""
        import torch

        zeros = torch.zeros(self.rows, -(-columns // 8), dtype=torch.uint8, device="cpu")
        byte = torch.empty(self.rows, dtype=torch.uint8, device="cpu")
        for at in range(0, columns, 8):
            byte.zero_()
            for bit in range(min(8, columns - at)):
                rows = torch.randperm(self.rows, generator=generator, device="cpu")[: self.zeros]
                byte[rows] += 1 << bit
            zeros[:, at // 8] = byte
        return zeros

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return what the zeros of a large tensor take, or a small tensor and its permutations."""
        rows, columns = shape
        if rows * columns <= _WHOLE_NUMEL:
            return rows * columns * itemsize + 8 * rows
        return rows * (-(-columns // 8) + 9)


def _unpacked(bits: Tensor, columns: int, start: int, numel: int) -> Tensor:
    """Return the bits of some elements, as many as one piece of the matrix has of them.

    Args:
        bits: (rows, columns / 8).
        columns: those of the matrix.
        start: the first element.
        numel: how many there are.
    """
    row, column = divmod(start, columns)
    if column or numel < columns:  # a part of one row
        numel = min(numel, columns - column)
        bits = bits[row : row + 1, column // 8 : -(-(column + numel) // 8)]
        return _as_bool(bits).view(-1)[column % 8 :][:numel]
    rows = min(numel, BLOCK_NUMEL) // columns or 1
    return _as_bool(bits[row : row + rows])[:, :columns].reshape(-1)


def _as_bool(bits: Tensor) -> Tensor:
    """Return (rows, n) bytes as (rows, 8·n) truth values, the lowest bit of each first."""
    import torch

    places = torch.tensor([1 << bit for bit in range(8)], dtype=torch.uint8, device="cpu")
    return bits.unsqueeze(-1).bitwise_and(places).ne(0).flatten(1)


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
