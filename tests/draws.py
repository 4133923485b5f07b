"""Draw tensors as a run draws them, before they are rounded."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from reinit_cli.execution.draw import NOTHING, There
from reinit_cli.execution.draw import draw_blocks as blocks_of
from reinit_cli.initializers import Law
from reinit_cli.tensors.rounding import torch_tensor

CPU = "cpu"


def draw_blocks(
    law: Law,
    shape: tuple[int, ...],
    dtype: str,
    seed: int,
    device: str = CPU,
    there: There = NOTHING,
    stream: str = "torch-1",
) -> Iterator[torch.Tensor]:
    """Yield 1-D tensors, each of which is gone with the next."""
    yield from map(torch_tensor, blocks_of(law, shape, dtype, seed, device, there, stream))


def draw(
    law: Law,
    shape: tuple[int, ...],
    dtype: str,
    seed: int,
    device: str = CPU,
    there: There = NOTHING,
    stream: str = "torch-1",
) -> torch.Tensor:
    """Return the whole tensor."""
    blocks = [
        block.clone() for block in draw_blocks(law, shape, dtype, seed, device, there, stream)
    ]
    return torch.cat(blocks).view(shape) if blocks else torch.empty(shape)
