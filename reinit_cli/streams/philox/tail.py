"""Draw normal numbers between two bounds in float64, however far out these are."""

from __future__ import annotations

from functools import lru_cache

from reinit_cli.streams.chance import Array
from reinit_cli.streams.philox.buffers import blocks_of
from reinit_cli.streams.philox.float64 import joined, quantile
from reinit_cli.streams.philox.words import Words

_LEAST_P = 1e-307
"""The smallest probability that is looked for: its quantile is -37.5."""

_LAST_U = 1 - 2.0**-53
"""The largest float64 below 1, which has no quantile."""


def fill_truncated64(
    out: Array,
    words: Words,
    more: Words,
    at: int,
    mean: float,
    std: float,
    low: float,
    high: float,
) -> None:
    """Fill with N(mean, std²) given [low, high]: uniform probabilities, then their quantiles.

    Args:
        out: in one dimension, float32 or float64; it is worked on in float64.
        words: those of the elements, as for float32.
        more: their further bits.
        at: the index of the first element.
        mean: that of the normal.
        std: that of the normal, over 0.
        low: the least value.
        high: the largest value.
    """
    import numpy as np

    a, b = (low - mean) / std, (high - mean) / std
    is_mirrored = a > 0
    first, width = probabilities(-b, -a) if is_mirrored else probabilities(a, b)
    # Where -0 meets a bound of 0, processors differ in which of them `clip` takes.
    center, least, most = mean + 0.0, out.dtype.type(low) + 0, out.dtype.type(high) + 0
    for index, part in blocks_of(out, at):
        bits = joined(words, more, index, len(part))
        bits >>= np.uint64(11)
        u = bits.view(np.int64).astype(np.float64)
        u += 0.5
        u *= 2.0**-53
        u *= width
        u += first
        np.minimum(u, _LAST_U, out=u)
        is_upper = u > 0.5
        z = quantile(np.where(is_upper, 1.0 - u, u))
        z *= np.where(is_upper ^ is_mirrored, -1.0, 1.0)
        z *= std
        z += center
        np.copyto(part, z, casting="same_kind")
        np.clip(part, least, most, out=part)


@lru_cache(maxsize=64)
def probabilities(a: float, b: float) -> tuple[float, float]:
    """Return Φ(a) and Φ(b) - Φ(a), of a ≤ 0 and a ≤ b."""
    first = probability(a)
    last = probability(b) if b <= 0 else 1.0 - probability(-b)
    return first, last - first


def probability(z: float) -> float:
    """Return the least p in (0, ½] whose quantile is not below z ≤ 0, by bisection of its bits."""
    import numpy as np

    low, high = (int(np.float64(p).view(np.int64)) for p in (_LEAST_P, 0.5))
    while low < high:
        middle = (low + high) // 2
        p = np.array([middle], np.int64).view(np.float64)
        low, high = (middle + 1, high) if quantile(p)[0] < z else (low, middle)
    return float(np.array([low], np.int64).view(np.float64)[0])
