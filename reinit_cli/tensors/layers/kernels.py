"""Tell convolutions of which nothing tells whether they are transposed.

A rule for one kind must not take them, but both kinds start alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.layers.layer import Layer
from reinit_cli.tensors.layers.modules import Module, Modules, Shape, place_of

EITHER = "Convolution"
"""The kind of a convolution that may be transposed or not."""

_LEAST, _MOST = 3, 5
"""The dimensions of a weight of one and of three spatial dimensions."""


class Kernels:
    """The convolutions of a state dict, transposed or not; nothing is computed before one is asked for."""

    def __init__(self, tensors: Sequence[TensorInfo]) -> None:
        self._tensors = tensors

    def layer(self, key: str) -> Layer | None:
        """Return the convolution of a tensor, or None where it is of none."""
        path, held = place_of(key)
        module = self._modules.at(path)
        if module is None or held not in module.held or not _is_convolution(module):
            return None
        role = module.meant(held)
        return Layer(EITHER, path, role, module.shapes) if role in ("weight", "bias") else None

    @cached_property
    def _modules(self) -> Modules:
        return Modules(self._tensors)


def _is_convolution(module: Module) -> bool:
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
