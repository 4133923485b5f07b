"""What can be told of the elements of tensors: their moments, taken block by block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Moments:
    """What can be told of the elements of some tensors, and merged.

    Attributes:
        numel: how many elements.
        mean: their mean.
        squares: the sum of the squares of their distances from the mean.
        low, high: the smallest and the largest.
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
"""What is drawn and measured at once: it stays in the processor's cache."""

_LEAST_SCALE = 2.0**-40
"""Squares of much smaller elements vanish in float32, of much larger ones they overflow."""


def moments_of(tensor: Tensor) -> Moments:
    """Return the moments of a tensor; of a complex one those of its real part."""
    import torch

    values = (tensor.real if tensor.is_complex() else tensor).reshape(-1)
    blocks = torch.split(values, BLOCK_NUMEL)
    return sum(map(_moments_of_block, blocks), start=Moments())


def _moments_of_block(block: Tensor) -> Moments:
    import torch

    if not block.numel():
        return Moments()
    if block.dtype not in (torch.float32, torch.float64):
        block = block.to(torch.float32)
    low, high = torch.aminmax(block)
    scale = max(-low.item(), high.item())
    if block.dtype == torch.float32 and scale and not _LEAST_SCALE < scale < 1 / _LEAST_SCALE:
        block = block.double()
    mean = block.mean()
    # var_mean would take as long as the draw itself.
    squares = (block - mean).square_().sum()
    return Moments(block.numel(), mean.item(), squares.item(), low.item(), high.item())
