"""The layers of modules of torch, and what torch fills them with."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from reinit_cli.tensors.layers.layer import Layer

SIZES = ("groups", "padding_idx", "num_heads")


def layers_of_module(module: nn.Module) -> Iterator[tuple[str, Layer]]:
    """Yield each key of a module's state dict, and the layer that its class says it is of."""
    for path, each in module.named_modules():
        if isinstance(each, nn.MultiheadAttention):
            held = each.state_dict(keep_vars=True)
        elif path.endswith("out_proj") and "MultiheadAttention" in str(type(module)):
            continue
        else:
            held = {
                **dict(each.named_parameters(recurse=False)),
                **dict(each.named_buffers(recurse=False)),
            }
        shapes = {role: tuple(value.shape) for role, value in held.items() if value is not None}
        sizes = {
            name: getattr(each, name)
            for name in SIZES
            if isinstance(getattr(each, name, None), int)
        }
        for role in shapes:
            key = f"{path}.{role}" if path else role
            yield key, Layer(type(each).__name__, path, role, shapes, sizes, "architecture")


def reset(module: nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """The state dict of a module after the `reset_parameters` of each of its layers.

    The module itself is left as it is.
    """
    import copy

    fresh = copy.deepcopy(module)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for each in reversed(list(fresh.modules())):  # MultiheadAttention changes its out_proj
            for name in ("reset_parameters", "_reset_parameters"):
                getattr(each, name, lambda: None)()
    return fresh.state_dict()
