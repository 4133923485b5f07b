"""Sparse connections."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from reinit_cli.initializers.fans import need_ndim
from reinit_cli.initializers.law import Law, Statistic, normal_mass
from reinit_cli.initializers.parameters import NonNegative, Number
from reinit_cli.initializers.registry import register

if TYPE_CHECKING:
    from torch import Generator, Tensor


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


@register(
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
    """Connect every unit to few others: normal values among zeros."""
    need_ndim(shape, 2, 2)
    return SparseNormal(shape[0], math.ceil(sparsity * shape[0]), std)
