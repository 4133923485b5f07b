"""Measure moments with torch, as transforms of the stream torch-1 do that depend on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reinit_cli.tensors.elements import Elements
from reinit_cli.tensors.moments import BLOCK_NUMEL, LEAST_SCALE, Moments
from reinit_cli.tensors.rounding import torch_tensor

if TYPE_CHECKING:
    from torch import Tensor


def torch_moments(elements: Elements) -> Moments:
    """Return moments as torch sums them up, which depends on the processor."""
    import torch

    blocks = torch.split(torch_tensor(elements).reshape(-1), BLOCK_NUMEL)
    return sum(map(_torch_moments_of_block, blocks), start=Moments())


def _torch_moments_of_block(block: Tensor) -> Moments:
    import torch

    if not block.numel():
        return Moments()
    block = block if block.dtype in (torch.float32, torch.float64) else block.to(torch.float32)
    low, high = torch.aminmax(block)
    scale = max(-low.item(), high.item())
    if block.dtype == torch.float32 and scale and not LEAST_SCALE < scale < 1 / LEAST_SCALE:
        block = block.double()
    mean = block.mean()
    squares = (block - mean).square_().sum()
    return Moments(block.numel(), mean.item(), squares.item(), low.item(), high.item())
