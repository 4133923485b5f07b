"""The initializers of He et al., which torch calls Kaiming."""

from __future__ import annotations

from math import sqrt

from reinit_cli.initializers.declaration import Arguments
from reinit_cli.initializers.fans import Fans
from reinit_cli.initializers.gains import DEFAULT_SLOPE, check_slope, gain_of
from reinit_cli.initializers.law import Law, Normal, Uniform
from reinit_cli.initializers.parameters import Mode, Nonlinearity, Slope
from reinit_cli.initializers.registry import register

_PAPER = (
    "He, Zhang, Ren & Sun 2015, Delving deep into rectifiers: surpassing human-level "
    "performance on ImageNet classification, ICCV"
)


def _complete(name: str, given: Arguments) -> Arguments:
    """Choose the slope: torch's 0 by default, 0.01 where leaky_relu is named."""
    nonlinearity = given.get("nonlinearity", "leaky_relu")
    check_slope(name, nonlinearity, given.get("a"))  # type: ignore[arg-type]
    if nonlinearity == "leaky_relu":
        return {"a": DEFAULT_SLOPE if "nonlinearity" in given else 0.0} | given
    return given


def _std(both: Fans, a: float | None, mode: str, nonlinearity: float | str) -> float:
    fan = both.by(mode)
    return gain_of(nonlinearity, a) / sqrt(fan) if fan else 0.0


@register(
    purpose="layers",
    law="U(-bound, bound), bound = gain·√(3 / fan)",
    example="kaiming_uniform:a=2.2360679",
    defined="2 dimensions or more; any with fan",
    paper=_PAPER,
    aliases=("he_uniform",),
    complete=_complete,
)
def kaiming_uniform(
    shape: tuple[int, ...],
    both: Fans,
    *,
    a: Slope = None,
    mode: Mode = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
) -> Law:
    """Preserve variance through ReLU, forward (fan_in) or backward."""
    del shape
    bound = sqrt(3.0) * _std(both, a, mode, nonlinearity)
    return Uniform(-bound, bound)


@register(
    purpose="layers",
    law="N(0, std²), std = gain / √fan; not truncated, unlike in Keras and JAX",
    example="kaiming_normal:relu,fan_out",
    defined="2 dimensions or more; any with fan",
    paper=_PAPER,
    aliases=("he_normal",),
    complete=_complete,
)
def kaiming_normal(
    shape: tuple[int, ...],
    both: Fans,
    *,
    a: Slope = None,
    mode: Mode = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
) -> Law:
    """Preserve variance through ReLU, forward (fan_in) or backward."""
    del shape
    return Normal(0.0, _std(both, a, mode, nonlinearity))
