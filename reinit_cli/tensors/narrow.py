"""Round float32 to the floats of 16 and 8 bits by arithmetic on bits, and widen these exactly."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from reinit_cli.lazy import LazyModule
from reinit_cli.tensors.elements import Array

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_PORTION = 1 << 16
"""Elements that are rounded together, so that what lies in between stays in the cache."""


class _Eight(NamedTuple):
    """One float of 8 bits: a sign, the bits of an exponent, and those of a fraction.

    Attributes:
        fraction_nbits: bits of the fraction.
        bias: what is subtracted from the exponent.
        last: the code of the largest number.
        beyond: the code of what is larger.
        nan: the code of a NaN.
        is_signed: whether zero and NaN have a sign.
    """

    fraction_nbits: int
    bias: int
    last: int
    beyond: int
    nan: int
    is_signed: bool

    def value(self, code: int) -> float:
        """Return the number of a code without its sign, also of those past the last."""
        exponent, fraction = divmod(code, 1 << self.fraction_nbits)
        if exponent:
            fraction += 1 << self.fraction_nbits
        return float(fraction) * 2.0 ** (max(exponent, 1) - self.bias - self.fraction_nbits)


# Overflow is torch's: its e4m3fn saturates, infinities too (since 2.13); the others do not.
_EIGHTS = {
    "float8_e4m3fn": _Eight(3, 7, last=0x7E, beyond=0x7E, nan=0x7F, is_signed=True),
    "float8_e5m2": _Eight(2, 15, last=0x7B, beyond=0x7C, nan=0x7F, is_signed=True),
    "float8_e4m3fnuz": _Eight(3, 8, last=0x7F, beyond=0x80, nan=0x80, is_signed=False),
    "float8_e5m2fnuz": _Eight(2, 16, last=0x7F, beyond=0x80, nan=0x80, is_signed=False),
}

NARROW = frozenset({"float16", "bfloat16", *_EIGHTS})
"""Floats that are computed with as float32."""


def widened(codes: Array, dtype: str) -> Array:
    """Return floats of 16 or 8 bits, as they are stored, as float32: exactly."""
    if dtype == "float16":
        return codes.astype(np.float32)
    if dtype == "bfloat16":
        return (codes.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.take(_values(dtype), codes, mode="wrap")  # the fastest: no index is out of range


def narrowed(values: Array, dtype: str) -> Array:
    """Return float32 rounded to floats of 16 or 8 bits, as they are stored: to nearest even."""
    if dtype == "float16":
        with np.errstate(all="ignore"):  # infinity is what too large a number becomes
            return values.astype("<f2")
    store = _store_bfloat16 if dtype == "bfloat16" else _Store(_codes(dtype))
    codes = np.empty(values.shape, "<u2" if dtype == "bfloat16" else "u1")
    flat, out = np.ascontiguousarray(values).reshape(-1), codes.reshape(-1)
    for start in range(0, flat.size, _PORTION):
        store(flat[start : start + _PORTION], out[start : start + _PORTION])
    return codes


def _store_bfloat16(values: Array, out: Array) -> None:
    """Add just under half of the last place, and one more where the kept half is odd."""
    bits = values.view(np.uint32)
    raised = bits >> np.uint32(16)
    raised &= np.uint32(1)
    raised += np.uint32(0x7FFF)
    raised += bits
    raised >>= np.uint32(16)
    np.copyto(out, raised, casting="unsafe")
    nans = np.isnan(values)
    if nans.any():
        out[nans] = 0x7FC0


class _Store:
    """Looks up codes by the upper half of a float32, the last bit of which stands for the rest.

    Of a number between two bfloat16 the odd one is taken ("round to odd"), from which rounding
    to fewer bits gives what it gives from the number itself.
    """

    def __init__(self, codes: Array) -> None:
        self._codes = codes

    def __call__(self, values: Array, out: Array) -> None:
        bits = values.view(np.uint32)
        odd = bits & np.uint32(0xFFFF)
        odd += np.uint32(0xFFFF)
        odd |= bits
        odd >>= np.uint32(16)
        np.take(self._codes, odd, out=out, mode="wrap")


@cache
def _values(dtype: str) -> Array:
    """Return the number of every code of 8 bits."""
    eight = _EIGHTS[dtype]
    numbers = [eight.value(code) for code in range(eight.last + 1)]
    numbers += [np.inf] * (eight.beyond == eight.last + 1 and eight.is_signed)
    half = np.full(128, np.nan, np.float32)
    half[: len(numbers)] = numbers
    return _frozen(np.concatenate((half, _negative(half, eight))))


def _negative(half: Array, eight: _Eight) -> Array:
    negative = -half
    if not eight.is_signed:
        negative[0] = np.nan
    return negative


@cache
def _codes(dtype: str) -> Array:
    """Return the code of every bfloat16, which is exact or stands for what lies beside it."""
    eight = _EIGHTS[dtype]
    numbers = widened(np.arange(0x8000, dtype="<u2"), "bfloat16")
    half = _nearest(numbers, eight).astype(np.uint8)
    half[np.isnan(numbers)] = eight.nan
    negative = half | np.uint8(0x80)
    if not eight.is_signed:
        negative[half == 0] = 0
    return _frozen(np.concatenate((half, negative)))


def _nearest(numbers: Array, eight: _Eight) -> Array:
    """Return the codes nearest to numbers that are not negative; of two, the even one."""
    middles = [(eight.value(c) + eight.value(c + 1)) / 2 for c in range(eight.last + 1)]
    limits = np.array(middles, np.float32)  # exactly
    below, up_to = (np.searchsorted(limits, numbers, side) for side in ("left", "right"))
    codes = np.where(below % 2 == 0, below, up_to)
    return np.where(codes > eight.last, eight.beyond, codes)


def _frozen(table: Array) -> Array:
    table.flags.writeable = False
    return table
