"""Fill tensors as a user's program does."""

from __future__ import annotations

import torch

from reinit_cli import apply_


def made(
    init: str,
    shape: tuple[int, ...],
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    stream: str = "philox-1",
) -> torch.Tensor:
    """Return a tensor that a rule has filled."""
    state = {"weight": torch.full(shape, 7, dtype=dtype)}
    apply_(state, {"weight": init}, seed=seed, stream=stream)
    return state["weight"]
