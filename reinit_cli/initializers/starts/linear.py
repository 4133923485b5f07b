"""Say how linear layers and convolutions start."""

from __future__ import annotations

import math

from reinit_cli.initializers.families.kaiming import kaiming_uniform
from reinit_cli.initializers.fans import UndefinedError, fans
from reinit_cli.initializers.law import Constant, Law, Uniform
from reinit_cli.initializers.starts.roles import shape_of
from reinit_cli.tensors.layers.layer import Layer
from reinit_cli.text import shape as written


def weight(layer: Layer, shape: tuple[int, ...]) -> Law:
    """Return the start of the weight of a Linear or of a convolution: kaiming_uniform with a=√5.

    torch counts the fans of transposed and grouped convolutions as those of all others
    (`_calculate_fan_in_and_fan_out`), and so does this.

    Raises:
        UndefinedError: it has fewer than two dimensions.
    """
    del layer
    return of_weight(shape)


def of_weight(shape: tuple[int, ...]) -> Law:
    """Return the start of a weight, whichever layer of these it is of.

    Raises:
        UndefinedError: it has fewer than two dimensions.
    """
    return kaiming_uniform(shape, fans(shape), a=math.sqrt(5))


def bias(layer: Layer, shape: tuple[int, ...]) -> Law:
    """Return the start of the bias of a Linear or of a convolution: U(±1/√fan_in) of its weight.

    Raises:
        UndefinedError: the weight is not known, or its outputs are not as many.
    """
    of = shape_of(layer, "weight")
    if not _fits(layer, shape, of):
        raise UndefinedError(f"it is not the bias of the weight next to it, {written(of)}")
    return within_root_of(fans(of).fan_in)


def _fits(layer: Layer, shape: tuple[int, ...], of: tuple[int, ...]) -> bool:
    """Whether a bias has the outputs of a weight; a quantized one may be packed."""
    if len(shape) != 1:
        return False
    is_plain = shape[0] == of[0]
    if layer.kind.startswith("Conv"):  # transposed, its outputs are these times the groups
        return is_plain or (bool(of[1]) and shape[0] % of[1] == 0)
    return is_plain


def within_root_of(count: int) -> Law:
    """Return U(±1/√count); zeros where there is none, of which torch makes zeros or nothing."""
    if not count:
        return Constant(0.0)
    bound = 1 / math.sqrt(count)
    return Uniform(-bound, bound)


def bilinear(layer: Layer, shape: tuple[int, ...]) -> Law:
    """Return the start of a Bilinear, weight and bias: U(±1/√in1_features).

    Raises:
        UndefinedError: the weight is not known.
    """
    del shape
    return within_root_of(shape_of(layer, "weight")[1])
