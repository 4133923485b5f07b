"""Compute parameters of laws with decimals: `math.log` and powers of floats differ by machine.

Python's decimals are computed with whole numbers, the same everywhere. Results are rounded to
float64 once, from more than twice its digits.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Context


def _exact() -> Context:
    """Return how decimals are computed, whatever the caller of the process has set."""
    from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Overflow

    return Context(
        prec=_DIGITS, rounding=ROUND_HALF_EVEN, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[Overflow]
    )


_DIGITS = 40


@lru_cache(maxsize=64)
def log_ratio(low: float, high: float) -> float:
    """Return ln(high / low)."""
    from decimal import Decimal, localcontext

    with localcontext(_exact()):
        return float((Decimal(high) / Decimal(low)).ln())


@lru_cache(maxsize=64)
def geometric_mean(low: float, high: float) -> float:
    """Return the geometric mean of two numbers."""
    from decimal import Decimal, localcontext

    with localcontext(_exact()):
        return float((Decimal(high) * Decimal(low)).sqrt())


def power(factor: float, base: float, n: float, exponent: float) -> float:
    """Return factor · (base / n)^exponent.

    Raises:
        OverflowError: it is too large for a float.
    """
    from decimal import Decimal, Overflow, localcontext

    with localcontext(_exact()):
        try:
            found = float(Decimal(factor) * (Decimal(base) / Decimal(n)) ** Decimal(exponent))
        except Overflow as error:
            raise OverflowError from error
    if math.isinf(found):
        raise OverflowError
    return found
