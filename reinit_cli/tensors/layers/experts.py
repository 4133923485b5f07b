"""Tell stacks of experts, and which of their dimensions are inputs."""

from __future__ import annotations

from collections.abc import Mapping

from reinit_cli.tensors.layers.modules import Module, Shape
from reinit_cli.tensors.layers.names import EXPERTS, INPUTS_FIRST_MODELS, STACKED

IN_AXIS = "in_axis"
"""Of `Layer.sizes`: the dimension of the inputs in a stack, 1 or 2, where that is known."""


def is_expert(module: Module, role: str) -> bool:
    """Whether a tensor of a module is a stack of weights or biases of experts."""
    if role == "bias" or (role == "weight" and len(module.held[role]) != 3):
        return False
    name = role.removesuffix("_bias")
    weight = module.held.get(name, ())
    if name in EXPERTS:
        return len(weight) == 3 and len(module.held[role]) == (3 if role == name else 2)
    return (
        role == "weight"
        and len(weight) == 3
        and (module.last in STACKED or "experts" in module.path.split(".", 200))
    )


def sizes_of_experts(module: Module, model_type: str) -> Mapping[str, int]:
    """Return which dimension of the stacks of a module has their inputs, where that is known."""
    if module.last in STACKED:
        return {IN_AXIS: 2}
    axis = _by_shapes(module.held.get("gate_up_proj", ()), module.held.get("down_proj", ()))
    if not axis and model_type in INPUTS_FIRST_MODELS:
        axis = 1
    return {IN_AXIS: axis} if axis else {}


def _by_shapes(gate_up: Shape, down: Shape) -> int:
    """Return the dimension of the inputs; 0 where shapes do not tell.

    What goes up is twice as wide as what comes down: (E, in, 2 * width) and (E, width, in), or
    both with the last two dimensions exchanged.
    """
    if len(gate_up) != 3 or len(down) != 3:
        return 0
    if gate_up[1] == down[2] and gate_up[2] == 2 * down[1]:
        return 1
    return 2 if gate_up[1] == 2 * down[2] and gate_up[2] == down[1] else 0
