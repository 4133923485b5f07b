"""Compute exponentials and logarithms by steps that give the same bits on every machine.

Each step is one operation of float64 that IEEE 754 defines: additions, multiplications, divisions,
and moves of an exponent's bits. What numpy, torch and the C library return for `exp` and `log`
depends on the processor and the version in the last bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule
from reinit_cli.streams.chance import Array
from reinit_cli.streams.philox.float64 import LN2_HIGH, LN2_LOW, logarithm

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

__all__ = ["exponential", "logarithm", "softplus_inverted"]

_LN2 = 0.6931471805599453
_TERMS = 14
"""Of the series at most: with |r| ≤ ln 2 / 2 the next one is below 2^-58 of the sum."""

_LEAST, _MOST = -708.0, 709.0
"""Between these, powers of e are normal numbers."""


def exponential(x: Array) -> Array:
    """Return e^x of float64, within 2 ulp; x is limited to [-708, 709]."""
    power, rest = _parts(np.clip(x, _LEAST, _MOST))
    rest += 1.0
    rest *= power
    return rest


def softplus_inverted(y: Array) -> Array:
    """Return the x of which ln(1 + e^x) is y, for positive, normal y in float64.

    x = y + ln(1 - e^-y), where 1 - e^-y keeps the digits of a small y.
    """
    power, rest = _parts(np.maximum(-y, _LEAST))
    with np.errstate(under="ignore"):
        rest *= power
    rest += power - 1.0
    return y + logarithm(-rest)


def _parts(x: Array) -> tuple[Array, Array]:
    """Return 2^k and e^r - 1, where x = k·ln 2 + r and |r| ≤ ln 2 / 2."""
    k = np.rint(x / _LN2)
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    rest = r / _TERMS
    for divisor in range(_TERMS - 1, 0, -1):
        rest += 1.0
        rest *= r
        rest /= divisor
    bits = (k.astype(np.int64) + 1023) << 52
    return bits.view(np.float64), rest
