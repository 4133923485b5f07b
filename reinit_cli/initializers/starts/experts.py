"""Say how stacks of experts start: each expert as a Linear of its own."""

from __future__ import annotations

import math

from reinit_cli.initializers.families.kaiming import kaiming_uniform
from reinit_cli.initializers.fans import Fans, UndefinedError
from reinit_cli.initializers.law import Law
from reinit_cli.initializers.starts.linear import within_root_of
from reinit_cli.initializers.starts.roles import shape_of
from reinit_cli.tensors.layers.layer import Layer

_BIAS = "_bias"


def start(layer: Layer, shape: tuple[int, ...]) -> Law:
    """Return the start of a stack of weights, or of the biases next to one.

    Raises:
        UndefinedError: which dimension of the weights has the inputs is not known.
    """
    axis = layer.sizes.get("in_axis")
    if axis is None:
        raise UndefinedError("a stack of experts of which nothing tells the inputs and outputs")
    if layer.role.endswith(_BIAS):
        return within_root_of(shape_of(layer, layer.role.removesuffix(_BIAS))[axis])
    inputs, outputs = shape[axis], shape[3 - axis]
    return kaiming_uniform(shape, Fans(inputs, outputs), a=math.sqrt(5))
