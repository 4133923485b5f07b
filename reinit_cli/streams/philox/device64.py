"""Draw float64 numbers of philox-1 on a GPU that has float64, by the steps of `float64.py`.

Quotients in float64 are correctly rounded there too, of tensors: where a tensor is divided by a
number, torch multiplies with its reciprocal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule
from reinit_cli.streams.philox.float64 import (
    CENTER,
    FAR,
    LN2_HIGH,
    LN2_LOW,
    SQRT_HALF_BITS,
    TAIL,
)
from reinit_cli.streams.philox.uniform import last_before

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")
    Tensor = torch


def joined(words: Tensor, more: Tensor) -> Tensor:
    """Return 64 bits for each element, as int64: its word, then its further bits."""
    return (words.to(torch.int64) << 32) | (more.to(torch.int64) & (2**32 - 1))


def _fractions(bits: Tensor) -> Tensor:
    """Return the upper 53 bits as whole numbers in float64."""
    return ((bits >> 11) & (2**53 - 1)).to(torch.float64)


def uniform(bits: Tensor, low: float, high: float) -> Tensor:
    """Return U[low, high) of 64 bits, as `fill_uniform64`."""
    import numpy as np

    most = float(last_before(np.float64(high), np.float64(low)))
    return (_fractions(bits) * ((high - low) * 2.0**-53) + low).clamp(max=most)


def normal(bits: Tensor, mean: float, std: float) -> Tensor:
    """Return N(mean, std²) of 64 bits, as `fill_normal64`."""
    side = bits >> 63
    p = ((bits ^ side).to(torch.float64) + 0.5) * 2.0**-64
    return quantile(p) * (side + side + 1).to(torch.float64) * std + mean


def quantile(p: Tensor) -> Tensor:
    """Return Φ⁻¹(p) for 0 < p ≤ 1/2, as `float64.quantile`."""
    q = p - 0.5
    z = _ratio(0.180625 - q * q, *CENTER) * q
    tail = q < -0.425
    r = _root(-logarithm(p[tail]))
    z[tail] = torch.where(r > 5.0, -_ratio(r - 5.0, *FAR), -_ratio(r - 1.6, *TAIL))
    return z


def logarithm(x: Tensor) -> Tensor:
    """Return the natural logarithm of positive, normal numbers, as `float64.logarithm`."""
    exponents = (x.view(torch.int64) - SQRT_HALF_BITS) >> 52
    m = (x.view(torch.int64) - (exponents << 52)).view(torch.float64)
    s = (m - 1.0) / (m + 1.0)
    square = s * s
    series = torch.full_like(x, 1 / 21)
    for odd in range(19, 1, -2):
        series = series * square + 1 / odd
    k = exponents.to(torch.float64)
    return k * LN2_HIGH + (2.0 * s + (2.0 * s * square * series + k * LN2_LOW))


def _root(x: Tensor) -> Tensor:
    """Return the square root, rounded correctly, of numbers neither tiny nor huge.

    On processors torch takes MKL's, which is off by an ulp at times: s + (x - s²) / 2s mends it,
    where s² is taken exactly, of two halves of s (Dekker 1971).
    """
    s = torch.sqrt(x)
    scaled = s * (2.0**27 + 1)
    upper = scaled - (scaled - s)
    lower = s - upper
    square = s * s
    beyond = (upper * upper - square) + 2.0 * upper * lower + lower * lower
    return s + ((x - square) - beyond) / (2.0 * s)


def _ratio(r: Tensor, above: tuple[float, ...], below: tuple[float, ...]) -> Tensor:
    """Return the quotient of two polynomials, each by Horner's rule."""
    top, bottom = r * above[-1], r * below[-1]
    for a, b in zip(above[-2:0:-1], below[-2:0:-1], strict=True):
        top, bottom = (top + a) * r, (bottom + b) * r
    return (top + above[0]) / (bottom + below[0])
