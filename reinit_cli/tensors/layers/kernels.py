"""Tell convolutions of which nothing tells whether they are transposed.

A rule for one kind must not take them, but both kinds start alike.
"""

from __future__ import annotations

from reinit_cli.tensors.layers.modules import Module, Modules, Shape
from reinit_cli.tensors.layers.names import goes_up, is_convolution, is_transposed

EITHER = "Convolution"
"""The kind of a convolution that may be transposed or not."""

_LEAST, _MOST = 3, 5
"""The dimensions of a weight of one and of three spatial dimensions."""

_LONGEST = 7
"""The longest kernel of a sequence that is taken for one where nothing but its shape tells."""


def has_kernel(module: Module) -> bool:
    """Whether a module has a kernel, and no bias but one for its outputs.

    The weight of a sequence has the dimensions of a stack of matrices, and needs a name.
    """
    weight, bias = module.shapes.get("weight", ()), module.shapes.get("bias")
    least = _LEAST if "conv" in module.name.lower() else _LEAST + 1
    return least <= len(weight) <= _MOST and (bias is None or _fits(bias, weight))


def may_be_kernel(module: Module) -> bool:
    """Whether a weight of three dimensions is more likely a kernel than a stack of matrices.

    Stacks of matrices are those of a Bilinear, and of layers of people's own.
    """
    return module.shapes["weight"][2] <= _LONGEST


def is_kernel(module: Module, modules: Modules) -> bool:
    """Whether a weight of three dimensions is a kernel, and not a stack of matrices, for certain.

    Its name tells, or its bias, or what lies next to it. A stack of matrices of one row or one
    column starts as a kernel.
    """
    name, weight = module.name, module.shapes["weight"]
    bias = module.shapes.get("bias", weight[:1])
    is_named = is_convolution(name) or is_transposed(name) or goes_up(name)
    if is_named or "conv" in name.lower() or 1 in weight[1:] or bias != weight[:1]:
        return True
    after, before = (modules.next_in_parent(module, step) for step in (1, -1))
    if after is not None and after.shapes.get("running_mean") == weight[:1]:
        return True
    return _goes_on(weight, _weight(after)) or _goes_on(_weight(before), weight)


def _weight(module: Module | None) -> Shape:
    return module.shapes.get("weight", ()) if module is not None else ()


def _goes_on(weight: Shape, following: Shape) -> bool:
    """Whether a kernel of the same length takes the channels of another."""
    is_like = len(weight) == len(following) == _LEAST and weight[2] == following[2]
    return is_like and following[1] == weight[0]


def _fits(bias: Shape, weight: Shape) -> bool:
    """Whether a convolution has the channels of a bias, or a transposed one of some groups."""
    if len(bias) != 1 or 0 in weight[:2]:
        return False
    return bias[0] == weight[0] or (
        bias[0] % weight[1] == 0 and weight[0] % (bias[0] // weight[1]) == 0
    )
