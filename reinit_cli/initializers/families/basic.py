"""Uniform, normal and truncated normal."""

from __future__ import annotations

from typing import Annotated, Any, cast

from reinit_cli.errors import ArgumentError
from reinit_cli.initializers.declaration import Arguments
from reinit_cli.initializers.law import Constant, Law, Normal, Uniform
from reinit_cli.initializers.parameters import Choice, NonNegative, Real
from reinit_cli.initializers.registry import register
from reinit_cli.initializers.truncated import TruncatedNormal


def _ordered(name: str, low: float, high: float) -> None:
    if low > high:
        raise ArgumentError(name, f"a={low:g} is above b={high:g}")


def _complete_uniform(name: str, given: Arguments) -> Arguments:
    bounds = cast("dict[str, float]", {"a": 0.0, "b": 1.0} | given)
    _ordered(name, bounds["a"], bounds["b"])
    return given


def _complete_trunc_normal(name: str, given: Arguments) -> Arguments:
    law = trunc_normal((), **cast("dict[str, Any]", given))
    if isinstance(law, TruncatedNormal):
        ends = cast("dict[str, float]", {"a": -2.0, "b": 2.0} | given)
        _ordered(name, ends["a"], ends["b"])
        if not law.is_drawable:
            problem = "the bounds are too far from the mean, or too wide, to draw between them"
            raise ArgumentError(name, problem)
    return given


@register(
    purpose="plain",
    law="U(a, b)",
    example="uniform:a=-0.1,b=0.1",
    lone=("a=-{0},b={0}", "a=0,b={0}"),
    complete=_complete_uniform,
)
def uniform(shape: tuple[int, ...], *, a: Real = 0.0, b: Real = 1.0) -> Law:
    """Draw from a uniform distribution between a and b."""
    del shape
    return Uniform(a, b)


@register(
    purpose="plain",
    law="N(mean, std²)",
    example="normal:std=0.02",
    lone=("std={0}", "mean={0}"),
)
def normal(shape: tuple[int, ...], *, mean: Real = 0.0, std: NonNegative = 1.0) -> Law:
    """Draw from a normal distribution."""
    del shape
    return Normal(mean, std)


@register(
    purpose="plain",
    law="N(mean, std²) restricted to [a, b]; a and b are absolute, as in PyTorch, or with in_std "
    "multiples of std from the mean: [mean + a·std, mean + b·std]",
    example="trunc_normal:std=0.02,in_std",
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
    bounds: Annotated[str, Choice(("absolute", "in_std"))] = "absolute",
) -> Law:
    """Draw from a normal distribution truncated to [a, b]."""
    del shape
    low, high = (a, b) if bounds == "absolute" else (mean + a * std, mean + b * std)
    if std == 0 or low == high:
        return Constant(max(low, min(high, mean)))
    return TruncatedNormal(mean, std, low, high)
