"""Follow the law of a value through arithmetic, where the result has a law of ours too."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal

from reinit_cli.initializers import Law
from reinit_cli.initializers.law import Constant, Normal, Uniform
from reinit_cli.initializers.truncated import TruncatedNormal
from reinit_cli.lazy import dataclass

_SQRT_HALF = math.sqrt(0.5)

_NEVER = 1e-12
"""A probability so small that no tensor shows it."""

_DIGITS = 15
"""Significant digits of what float64 computes: the last one or two are noise."""

Name = Literal["scale", "divide", "shift", "erfinv", "clamp"]


@dataclass(frozen=True, slots=True)
class Change:
    """One step of arithmetic with every element of a tensor.

    Attributes:
        name: what is done.
        a: its number: the factor, the divisor, what is added, or the lower bound.
        b: the upper bound.
    """

    name: Name
    a: float | None = None
    b: float | None = None

    def law(self, law: Law) -> Law | None:
        """Return the law of the result; None where it is not one of ours."""
        if self.name == "erfinv":
            return _erfinv(law)
        if self.name == "clamp":
            low = -math.inf if self.a is None else self.a
            high = math.inf if self.b is None else self.b
            return _clamped(law, low, high)
        assert self.a is not None
        if self.name == "shift":
            return _affine(law, 1.0, self.a)
        if self.name == "divide":
            return _divided(law, self.a)
        return _affine(law, self.a, 0.0)


def _divided(law: Law, divisor: float) -> Law | None:
    if not divisor or not math.isfinite(divisor):
        return None
    if isinstance(law, Normal):  # rather than by 1 / divisor, which would be rounded twice
        return Normal(law.mean / divisor, law.std / abs(divisor))
    if isinstance(law, Uniform):
        ends = sorted((law.low / divisor, law.high / divisor))
        return Uniform(*ends)
    return _affine(law, 1 / divisor, 0.0)


def _affine(law: Law, factor: float, added: float) -> Law | None:
    """Return the law of factor · X + added."""
    if not (math.isfinite(factor) and math.isfinite(added)):
        return None
    if isinstance(law, Constant):
        return Constant(factor * law.value + added)
    if isinstance(law, (Normal, Uniform, TruncatedNormal)) and not factor:
        return Constant(added)
    if isinstance(law, Normal):
        return Normal(factor * law.mean + added, abs(factor) * law.std)
    if isinstance(law, Uniform):
        ends = sorted((factor * law.low + added, factor * law.high + added))
        return Uniform(*ends)
    if isinstance(law, TruncatedNormal):
        numbers = (_tidy(factor * each + added) for each in (law.center, law.low, law.high))
        center, *ends = numbers
        low, high = sorted(ends)
        return TruncatedNormal(center, _tidy(abs(factor) * law.scale), low, high)
    return None


def _erfinv(law: Law) -> Law | None:
    """Return the law of erf⁻¹(X): √2 times it is a standard normal where X is U(-1, 1)."""
    if not isinstance(law, Uniform) or not -1 <= law.low < law.high <= 1:
        return None
    low, high = (_SQRT_HALF * _quantile((end + 1) / 2) for end in (law.low, law.high))
    if math.isinf(low) and math.isinf(high):
        return Normal(0.0, _SQRT_HALF)
    return TruncatedNormal(0.0, _SQRT_HALF, low, high)


def _quantile(p: float) -> float:
    if p <= 0 or p >= 1:
        return math.copysign(math.inf, p - 0.5)
    return NormalDist().inv_cdf(p)


def _clamped(law: Law, low: float, high: float) -> Law | None:
    """Return the law of X between two bounds, where it is hardly ever outside them."""
    if isinstance(law, Constant):
        return Constant(max(low, min(high, law.value)))
    if not isinstance(law, (Normal, Uniform, TruncatedNormal)) or not low < high:
        return None
    outside = law.cdf(low) + 1 - law.cdf(high)
    is_flush = isinstance(law, TruncatedNormal) and _is_near(law, low, high)
    if not (outside <= _NEVER or is_flush):
        return None
    if isinstance(law, Uniform):
        return Uniform(max(low, law.low), min(high, law.high))
    if isinstance(law, TruncatedNormal):
        return TruncatedNormal(law.center, law.scale, max(low, law.low), min(high, law.high))
    is_open = math.isinf(low) and math.isinf(high)
    return law if is_open else TruncatedNormal(_tidy(law.mean), _tidy(law.std), low, high)


def _is_near(law: TruncatedNormal, low: float, high: float) -> bool:
    """Whether bounds are those of a truncated normal, but for the rounding of a draw."""
    room = 1e-6 * law.scale
    return low <= law.low + room and high >= law.high - room


def _tidy(value: float) -> float:
    """Return a number without the noise of its last digits: 0.02, not 0.020000000000000004."""
    return float(f"{value:.{_DIGITS}g}")
