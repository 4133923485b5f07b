"""The plain laws: uniform, normal, truncated normal."""

from __future__ import annotations

from reinit_cli.errors import ArgumentError
from reinit_cli.initializers.declaration import Arguments
from reinit_cli.initializers.kinds import NonNegative, Real
from reinit_cli.initializers.laws import Constant, Law, Normal, TruncatedNormal, Uniform
from reinit_cli.initializers.registry import register


def _ordered(name: str, given: Arguments, a: float, b: float) -> Arguments:
    low, high = given.get("a", a), given.get("b", b)
    if not isinstance(low, str) and not isinstance(high, str) and low > high:  # type: ignore[operator]
        raise ArgumentError(name, f"a={low:g} is above b={high:g}")
    return given


@register(
    law="U(a, b)",
    example="uniform:a=-0.1,b=0.1",
    lone=("a=-{0},b={0}", "a=0,b={0}"),
    complete=lambda name, given: _ordered(name, given, 0.0, 1.0),
)
def uniform(shape: tuple[int, ...], *, a: Real = 0.0, b: Real = 1.0) -> Law:
    """Draw every element evenly between two bounds."""
    del shape
    return Uniform(a, b)


@register(
    law="N(mean, std²)",
    example="normal:std=0.02",
    lone=("std={0}", "mean={0}"),
)
def normal(shape: tuple[int, ...], *, mean: Real = 0.0, std: NonNegative = 1.0) -> Law:
    """Draw every element from a normal distribution."""
    del shape
    return Normal(mean, std)


@register(
    law="N(mean, std²) given that it lies in [a, b]; a and b are absolute, not in std",
    example="trunc_normal:std=0.02",
    lone=("std={0}", "mean={0}"),
    complete=lambda name, given: _ordered(name, given, -2.0, 2.0),
)
def trunc_normal(
    shape: tuple[int, ...],
    *,
    mean: Real = 0.0,
    std: NonNegative = 1.0,
    a: Real = -2.0,
    b: Real = 2.0,
) -> Law:
    """Draw from a normal distribution whose tails are cut off at two absolute bounds."""
    del shape
    if std == 0 or a == b:
        return Constant(max(a, min(b, mean)))
    return TruncatedNormal(mean, std, a, b)
