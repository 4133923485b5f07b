"""Measure the elements of tensors block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from reinit_cli.text import number, plural

if TYPE_CHECKING:
    from torch import Tensor


def square(value: float) -> float:
    """Return the square of a number; infinity where float64 has none."""
    try:
        return value**2
    except OverflowError:
        return math.inf


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean, standard deviation and range of the elements of one or more tensors.

    Attributes:
        numel: the number of elements.
        mean: their mean.
        squares: the sum of squared deviations from the mean.
        low, high: the smallest and the largest element.
    """

    numel: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    @property
    def std(self) -> float:
        """The standard deviation over the elements, not of a sample."""
        return math.sqrt(self.squares / self.numel) if self.numel else math.nan

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both together (Chan, Golub & LeVeque 1979)."""
        if not self.numel or not other.numel:
            return other if not self.numel else self
        numel = self.numel + other.numel
        apart = other.mean - self.mean
        share = other.numel / numel
        return Moments(
            numel,
            self.mean + apart * share,
            self.squares + other.squares + apart * apart * self.numel * share,
            min(self.low, other.low),
            max(self.high, other.high),
        )


BLOCK_NUMEL = 2**18
"""The elements that are drawn and measured together: they stay in the processor's cache."""

_LEAST_SCALE = 2.0**-40
"""In float32, squares of much smaller elements vanish, and of much larger ones overflow."""


def real_numbers(tensor: Tensor) -> Tensor:
    """Return elements as a flat tensor that torch computes with; complex ones by their real part."""
    import torch

    values = (tensor.real if tensor.is_complex() else tensor).reshape(-1)
    return values if values.dtype in (torch.float32, torch.float64) else values.to(torch.float32)


def moments_of(tensor: Tensor) -> Moments:
    """Return the moments of a tensor; of a complex one those of its real part."""
    import torch

    blocks = torch.split(tensor.reshape(-1), BLOCK_NUMEL)
    return sum(map(_moments_of_block, blocks), start=Moments())


def _moments_of_block(block: Tensor) -> Moments:
    import torch

    if not block.numel():
        return Moments()
    block = real_numbers(block)
    low, high = torch.aminmax(block)
    scale = max(-low.item(), high.item())
    if block.dtype == torch.float32 and scale and not _LEAST_SCALE < scale < 1 / _LEAST_SCALE:
        block = block.double()
    mean = block.mean()
    # var_mean would take as long as the draw itself.
    squares = (block - mean).square_().sum()
    return Moments(block.numel(), mean.item(), squares.item(), low.item(), high.item())


@dataclass(frozen=True, slots=True, repr=False)
class Statistics:
    """Statistics of the elements of tensors; for complex ones, of their magnitudes.

    Attributes:
        numel: the number of elements.
        nan: how many are NaN.
        inf: how many are infinite.
        zeros: how many are zero.
        finite: the moments of all finite elements, in float64.
    """

    numel: int = 0
    nan: int = 0
    inf: int = 0
    zeros: int = 0
    finite: Moments = field(default_factory=Moments)

    def __repr__(self) -> str:
        """Show the most telling numbers."""
        return f"<Statistics of {plural(self.numel, 'element')}: {self.summary}>"

    @property
    def summary(self) -> str:
        """The moments of the finite elements, and the number of NaN and infinite ones."""
        found = self.finite
        named = {"mean": found.mean, "std": found.std, "min": found.low, "max": found.high}
        numbers = [f"{name} {number(value)}" for name, value in named.items() if found.numel]
        others = {"NaN": self.nan, "infinite": self.inf}
        counts = [f"{count:,} {name}" for name, count in others.items() if count]
        return ", ".join((*numbers, *counts)) or "no elements"

    def __add__(self, other: Statistics) -> Statistics:
        """Return those of both together."""
        return Statistics(
            self.numel + other.numel,
            self.nan + other.nan,
            self.inf + other.inf,
            self.zeros + other.zeros,
            self.finite + other.finite,
        )

    @property
    def norm(self) -> float:
        """The Euclidean norm of the finite elements."""
        mean = self.finite.mean  # a power of it would overflow with an error
        return math.sqrt(self.finite.squares + self.finite.numel * mean * mean)

    @property
    def is_finite(self) -> bool:
        """Whether it has neither NaN nor infinities."""
        return not self.nan and not self.inf


def statistics_of(blocks: Iterable[Tensor]) -> Statistics:
    """Return what the elements of blocks are like together."""
    return sum(map(_statistics_of_block, blocks), start=Statistics())


def magnitudes(block: Tensor) -> Tensor:
    """Return elements in float64; complex ones by their magnitudes."""
    import torch

    return block.to(torch.complex128).abs() if block.is_complex() else block.to(torch.float64)


def _statistics_of_block(block: Tensor) -> Statistics:
    import torch

    numel = block.numel()
    values = magnitudes(block)
    nan = inf = 0
    total = values.sum().item()
    if not math.isfinite(total):
        nan = int(values.isnan().sum())
        values = values[values.isfinite()]
        inf = numel - nan - values.numel()
    if not values.numel():
        return Statistics(numel, nan, inf)
    zeros = values.numel() - int(torch.count_nonzero(values))
    low, high = torch.aminmax(values)
    mean = values.mean()
    # In place where the values are a copy: new memory would take as long as all the rest.
    apart = values - mean if values is block else values.sub_(mean)
    squares = apart.square_().sum()
    moments = Moments(values.numel(), *(each.item() for each in (mean, squares, low, high)))
    if block.dtype in (torch.int64, torch.uint64):
        smallest, largest = _exact_range(block)
        moments = replace(moments, low=smallest, high=largest)
    return Statistics(numel, nan, inf, zeros, moments)


def _exact_range(block: Tensor) -> tuple[int, int]:
    """Return the extremes of integers that float64 might round."""
    import torch

    shift = 0
    if block.dtype == torch.uint64:
        # torch orders no uint64; with its top bit turned it is in the order of int64.
        shift = 2**63
        block = block.view(torch.int64) ^ torch.iinfo(torch.int64).min
    low, high = torch.aminmax(block)
    return int(low) + shift, int(high) + shift
