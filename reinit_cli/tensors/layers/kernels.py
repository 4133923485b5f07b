"""Tell convolutions of which nothing tells whether they are transposed.

A rule for one kind must not take them, but both kinds start alike.
"""

from __future__ import annotations

from reinit_cli.tensors.layers.modules import Module, Shape

EITHER = "Convolution"
"""The kind of a convolution that may be transposed or not."""

_LEAST, _MOST = 3, 5
"""The dimensions of a weight of one and of three spatial dimensions."""


def has_kernel(module: Module) -> bool:
    """Whether a module has a kernel, and no bias but one for its outputs.

    The weight of a sequence has the dimensions of a stack of matrices, and needs a name.
    """
    weight, bias = module.shapes.get("weight", ()), module.shapes.get("bias")
    least = _LEAST if "conv" in module.name.lower() else _LEAST + 1
    return least <= len(weight) <= _MOST and (bias is None or _fits(bias, weight))


def _fits(bias: Shape, weight: Shape) -> bool:
    """Whether a convolution has the channels of a bias, or a transposed one of some groups."""
    if len(bias) != 1 or 0 in weight[:2]:
        return False
    return bias[0] == weight[0] or (
        bias[0] % weight[1] == 0 and weight[0] % (bias[0] // weight[1]) == 0
    )
