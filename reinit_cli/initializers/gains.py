"""Compute the gains of nonlinearities: `torch.nn.init.calculate_gain`, and more."""

from __future__ import annotations

from math import sqrt
from typing import Any

from reinit_cli.errors import ArgumentError

_TORCH_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3,
    "relu": sqrt(2.0),
    "selu": 3.0 / 4,  # empirical, as torch has it; self-normalizing networks use linear
}

# Not in torch: the second-moment gain 1 / √E f(z)², z ~ N(0, 1), by quadrature. The second
# moment of a signal is then the same before a layer and after its nonlinearity, as He et al.
# 2015 have it for rectifiers.
_SECOND_MOMENT_GAINS = {
    "gelu": 1.5335304411955353,
    "silu": 1.676532470331091,
    "mish": 1.486847581273208,
    "elu": 1.2451983007007066,
    "softplus": 1.0418668355353018,
    "hardswish": 1.7366572127665416,
    "hardtanh": 1.3920361404483097,
    "softsign": 2.3375333631085398,
    "relu6": 1.4142135650950736,
}

_CONSTANT_GAINS = _TORCH_GAINS | _SECOND_MOMENT_GAINS

NONLINEARITIES = (*_TORCH_GAINS, "leaky_relu", *_SECOND_MOMENT_GAINS)
"""The nonlinearities that have a gain."""

DEFAULT_SLOPE = 0.01
"""The negative slope of a leaky_relu that is named without one."""


_LARGEST_SQUARED = 1e150
"""The squares of larger numbers overflow."""


def calculate_gain(nonlinearity: str, slope: float | None = None) -> float:
    """Return the gain recommended for a nonlinearity.

    Args:
        nonlinearity: one of `NONLINEARITIES`.
        slope: the negative slope of a leaky_relu; None means `DEFAULT_SLOPE`.
    """
    if nonlinearity == "leaky_relu":
        negative_slope = DEFAULT_SLOPE if slope is None else slope
        if abs(negative_slope) > _LARGEST_SQUARED:
            return sqrt(2.0) / abs(negative_slope)
        return sqrt(2.0 / (1 + negative_slope**2))
    return _CONSTANT_GAINS[nonlinearity]


def gain_of(gain: float | str, slope: float | None = None) -> float:
    """Return a gain that is given as a number or as a nonlinearity's name."""
    return calculate_gain(gain, slope) if isinstance(gain, str) else gain


def check_slope(initializer: str, nonlinearity: Any, slope: float | None) -> None:
    """Refuse a slope where no leaky_relu would use it.

    Raises:
        ArgumentError: `a` is given and the nonlinearity is another.
    """
    if slope is not None and nonlinearity != "leaky_relu":
        raise ArgumentError(
            initializer, f"a is the slope of leaky_relu, and {nonlinearity} has none"
        )


def check_gain(initializer: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the given arguments of an initializer with a gain, once they agree.

    Raises:
        ArgumentError: a slope is given and the gain is not that of leaky_relu.
    """
    check_slope(initializer, given.get("gain", 1.0), given.get("a"))
    return given
