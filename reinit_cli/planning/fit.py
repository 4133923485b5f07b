"""Say what a dtype can hold."""

from __future__ import annotations

import math

from reinit_cli.initializers import Law, Move
from reinit_cli.initializers.complexes import Complex
from reinit_cli.tensors.dtype import FLOAT32_MAX, FLOAT64_MAX, Dtype

_TOO_LARGE = "cannot hold values as large as"


def can_clamp(law: Law, dtype: Dtype, reason: str) -> bool:
    """Whether a reason of `unholdable` is that numbers are too large, and clamping them helps."""
    return _TOO_LARGE in reason and not unholdable(law, dtype, saturates=True)


def unholdable(law: Law, dtype: Dtype, *, saturates: bool = False) -> str:
    """Say why a dtype cannot hold what a law gives, or "".

    Args:
        law: what is drawn.
        dtype: that of the tensor.
        saturates: whether numbers that are too large become its largest.
    """
    if isinstance(law, Move):
        return ""
    fixed = law.low == law.high or law.low != law.low
    if law.is_whole and dtype.kind in ("integer", "bool"):
        is_within = dtype.smallest <= law.low <= law.high <= dtype.largest
        return "" if is_within else f"{dtype.name} cannot hold {law.high:g} exactly"
    if law.identity == "values" and dtype.kind == "complex":
        return ""
    if dtype.kind == "complex" and not (fixed or isinstance(law, Complex)):
        return f"{dtype.name} takes constants and the laws of normal and uniform only"
    if dtype.kind not in ("float", "complex") and not fixed:
        return f"{dtype.name} takes zeros, ones and constant only"
    if dtype.kind in ("integer", "bool"):
        exact = math.isfinite(law.low) and law.low == int(law.low)
        if not exact or not dtype.smallest <= law.low <= dtype.largest:
            return f"{dtype.name} cannot hold {law.low:g} exactly"
        return ""
    if fixed and math.isinf(law.low):
        return "" if dtype.has_infinity else f"{dtype.name} has no infinity"
    drawn_in = FLOAT64_MAX if dtype.largest > FLOAT32_MAX else FLOAT32_MAX
    is_bounded = math.isfinite(law.low) and math.isfinite(law.high)
    if law.is_random and is_bounded and law.high - law.low > drawn_in:
        return f"{dtype.name} cannot be drawn from {law.low:g} to {law.high:g}: too wide"
    # Of a law without bounds one element in two million lies beyond five deviations. Where they are
    # clamped, only the factor of the draw must be finite: √2 deviations.
    clamps = saturates and dtype.kind == "float"
    reach = 0.0 if math.isfinite(law.high) else abs(law.mean) + (1.5 if clamps else 5) * law.std
    parts = (law.low, law.high, law.mean, reach)
    scale = max((abs(part) for part in parts if math.isfinite(part)), default=0.0)
    if scale > (drawn_in if saturates else min(dtype.largest, drawn_in)):
        return f"{dtype.name} {_TOO_LARGE} {scale:g}"
    return ""
