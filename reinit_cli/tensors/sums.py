"""Sum up elements where the values of a transform depend on the sums, to their last bit.

What is only shown is measured faster, in `moments`, and may differ in the last digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule
from reinit_cli.tensors.elements import Array, Elements
from reinit_cli.tensors.moments import BLOCK_NUMEL, LEAST_SCALE, Moments
from reinit_cli.tensors.rounding import torch_tensor

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
else:
    np = LazyModule("numpy")


def by_halves(values: Array) -> float:
    """Return a sum in float64 that is the same on every machine.

    The second half is added to the first, element by element, until one element is left; of an
    odd number the middle one stays as it is.

    Args:
        values: in one dimension, at least one; of any real dtype.
    """
    left = len(values)
    half = (left + 1) // 2
    sums = values[:half].astype(np.float64)
    with np.errstate(all="ignore"):
        while left > 1:
            half = (left + 1) // 2
            upper = values[half:left] if left == len(values) else sums[half:left]
            sums[: left - half] += upper
            left = half
    return float(sums[0])


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
