"""Tensors that pass their input through."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from reinit_cli.initializers.fans import UndefinedError, need_ndim
from reinit_cli.initializers.kinds import Integer
from reinit_cli.initializers.laws import Law
from reinit_cli.initializers.registry import register

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True, slots=True)
class Identity:
    """A convolution or a matrix that passes its input through: ones among zeros.

    Attributes:
        shape: (out, in, *kernel); no kernel for a matrix.
        groups: the first dimension falls into that many equal parts, each an identity.
    """

    shape: tuple[int, ...]
    groups: int = 1
    low = 0.0
    high = 1.0
    is_random = False
    is_sequential = False
    statistics = ()
    spread = 0.5
    identity = "ones"

    @property
    def _ones_per_group(self) -> int:
        return min(self.shape[0] // self.groups, self.shape[1])

    @property
    def mean(self) -> float:
        """The share of ones."""
        return self.groups * self._ones_per_group / max(1, math.prod(self.shape))

    @property
    def std(self) -> float:
        """That of ones among zeros."""
        return math.sqrt(self.mean * (1 - self.mean))

    def fill(self, tensor: Tensor, generator: Generator) -> None:
        """Write the ones at the kernel's centre."""
        import torch

        del generator
        tensor.zero_()
        centre = tuple(dim // 2 for dim in self.shape[2:])
        inputs = torch.arange(self._ones_per_group, device=tensor.device)
        for group in range(self.groups):
            outputs = inputs + group * (self.shape[0] // self.groups)
            tensor[(outputs, inputs, *centre)] = 1  # type: ignore[index]  # a tuple of tensors and ints

    def cdf(self, x: float) -> float:
        """Zeros, and the share of ones."""
        return 0.0 if x < 0 else 1 - self.mean if x < 1 else 1.0

    def misfit(self, values: Tensor) -> tuple[float, float]:
        """Count the ones that are missing and what is not zero beside them."""
        if not values.numel():
            return 0.0, 0.0
        # (groups, out / groups, in, *kernel)
        grouped = values.view(self.groups, -1, *self.shape[1:])
        for dim in self.shape[2:]:
            grouped = grouped.select(3, dim // 2)
        ones = grouped.diagonal(dim1=1, dim2=2)
        beside = values.count_nonzero() - ones.count_nonzero()
        return float((ones != 1).count_nonzero() + beside), 0.0


@register(law="ones on the diagonal, zeros elsewhere", example="eye", defined="2 dimensions")
def eye(shape: tuple[int, ...]) -> Law:
    """Make a linear layer pass its input through."""
    need_ndim(shape, 2, 2)
    return Identity(shape)


@register(
    law="1 where output = input at the kernel's centre, zeros elsewhere",
    example="dirac:groups=2",
    defined="3 to 5 dimensions; shape[0] divisible by groups",
)
def dirac(shape: tuple[int, ...], *, groups: Annotated[int, Integer(minimum=1)] = 1) -> Law:
    """Make a convolution pass its input through."""
    need_ndim(shape, 3, 5)
    if shape[0] % groups:
        raise UndefinedError(
            f"its first dimension, {shape[0]}, is not divisible by {groups} groups"
        )
    return Identity(shape, groups)
