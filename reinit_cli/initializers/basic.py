"""The plain laws: uniform, normal, truncated normal."""

from __future__ import annotations

from typing import cast

from reinit_cli.errors import ArgumentError
from reinit_cli.initializers.declaration import Arguments
from reinit_cli.initializers.kinds import NonNegative, Real
from reinit_cli.initializers.laws import Constant, Law, Normal, TruncatedNormal, Uniform
from reinit_cli.initializers.registry import register


def _ordered(name: str, low: float, high: float) -> None:
    if low > high:
        raise ArgumentError(name, f"a={low:g} is above b={high:g}")


def _complete_uniform(name: str, given: Arguments) -> Arguments:
    bounds = cast("dict[str, float]", {"a": 0.0, "b": 1.0} | given)
    _ordered(name, bounds["a"], bounds["b"])
    return given


def _complete_trunc_normal(name: str, given: Arguments) -> Arguments:
    law = trunc_normal((), **cast("dict[str, float]", given))
    if isinstance(law, TruncatedNormal):
        _ordered(name, law.low, law.high)
        if not law.is_drawable:
            problem = "the bounds are too far from the mean, or too wide, to draw by rejection"
            raise ArgumentError(name, problem)
    return given


@register(
    law="U(a, b)",
    example="uniform:a=-0.1,b=0.1",
    lone=("a=-{0},b={0}", "a=0,b={0}"),
    complete=_complete_uniform,
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
    complete=_complete_trunc_normal,
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
