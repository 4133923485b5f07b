"""The initializers of Glorot & Bengio, which torch calls Xavier."""

from __future__ import annotations

from math import sqrt

from reinit_cli.initializers.fans import Fans
from reinit_cli.initializers.gains import check_gain, gain_of
from reinit_cli.initializers.law import Law, Normal, Uniform
from reinit_cli.initializers.parameters import NonNegativeGain, Slope
from reinit_cli.initializers.registry import register

_PAPER = (
    "Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward neural "
    "networks, AISTATS"
)


def _std(both: Fans, gain: float | str, a: float | None) -> float:
    total = both.fan_in + both.fan_out
    return gain_of(gain, a) * sqrt(2.0 / total) if total else 0.0


@register(
    purpose="layers",
    law="U(-bound, bound), bound = gain·√(6 / (fan_in + fan_out))",
    example="xavier_uniform:relu",
    defined="2 dimensions or more; any with fan",
    paper=_PAPER,
    aliases=("glorot_uniform",),
    complete=check_gain,
)
def xavier_uniform(
    shape: tuple[int, ...], both: Fans, *, gain: NonNegativeGain = 1.0, a: Slope = None
) -> Law:
    """Preserve variance forward and backward (Glorot), uniform."""
    del shape
    bound = sqrt(3.0) * _std(both, gain, a)
    return Uniform(-bound, bound)


@register(
    purpose="layers",
    law="N(0, std²), std = gain·√(2 / (fan_in + fan_out)); not truncated, unlike in Keras and JAX",
    example="xavier_normal:tanh",
    defined="2 dimensions or more; any with fan",
    paper=_PAPER,
    aliases=("glorot_normal",),
    complete=check_gain,
)
def xavier_normal(
    shape: tuple[int, ...], both: Fans, *, gain: NonNegativeGain = 1.0, a: Slope = None
) -> Law:
    """Preserve variance forward and backward (Glorot), normal."""
    del shape
    return Normal(0.0, _std(both, gain, a))
