"""Tell recurrent layers and attention from the names of their tensors."""

from __future__ import annotations

import re

from reinit_cli.tensors.layers.modules import Module

_GATES = {4: "LSTM", 3: "GRU", 1: "RNN"}

RECURRENT = re.compile(r"(?:weight|bias)_(?:ih|hh|hr)(?:_l[0-9]{1,4}(?:_reverse)?)?")
"""The names of the tensors of torch's recurrent layers."""

ATTENTION = frozenset(
    (
        *("in_proj_weight", "in_proj_bias", "bias_k", "bias_v"),
        *("q_proj_weight", "k_proj_weight", "v_proj_weight"),
    )
)
"""The names of the own tensors of `torch.nn.MultiheadAttention`."""


def recurrent(module: Module) -> tuple[str, int]:
    """Return the kind of a recurrent layer or cell and its hidden size; "" of anything else."""
    for end in ("_l0", ""):
        inputs, hidden = (module.held.get(f"weight_{each}{end}", ()) for each in ("ih", "hh"))
        if len(inputs) != 2 or len(hidden) != 2 or inputs[0] != hidden[0]:
            continue
        projected = module.held.get(f"weight_hr{end}", ())
        size = projected[1] if len(projected) == 2 else hidden[1]
        kind = _GATES.get(hidden[0] // size, "") if size and hidden[0] % size == 0 else ""
        return (kind if end else f"{kind}Cell") if kind else "", size
    return "", 0


def is_attention(module: Module) -> bool:
    """Whether a module is a `MultiheadAttention`."""
    joint = module.held.get("in_proj_weight", ())
    separate = [module.held.get(f"{each}_proj_weight", ()) for each in "qkv"]
    return (len(joint) == 2 and joint[0] == 3 * joint[1]) or all(
        len(shape) == 2 and shape[0] == separate[0][0] for shape in separate
    )
