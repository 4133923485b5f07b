"""Draw normal numbers between two bounds in float64, however far out these are."""

from __future__ import annotations

from functools import lru_cache, partial

from reinit_cli.streams.chance import Array
from reinit_cli.streams.philox.buffers import blocks_of
from reinit_cli.streams.philox.float64 import joined, logarithm, quantile
from reinit_cli.streams.philox.words import Words

_LEAST_P = 1e-307
"""The smallest probability that is looked for: its quantile is -37.5."""

_LAST_U = 1 - 2.0**-53
"""The largest float64 below 1, which has no quantile."""

_FAR_OUT = 30.0
"""From here on, in standard deviations, probabilities come near to the smallest float64."""

_FLAT = 1e-5
"""An interval over which the density falls by less of itself is filled uniformly."""


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

    # Where -0 meets a bound of 0, processors differ in which of them `clip` takes.
    mean, low, high = mean + 0.0, low + 0.0, high + 0.0
    a, b = (low - mean) / std, (high - mean) / std
    if a > _FAR_OUT:
        standard, origin, scale = partial(_beyond, a=a, b=b), low, std
    elif b < -_FAR_OUT:
        standard, origin, scale = partial(_beyond, a=-b, b=-a), high, -std
    else:
        standard, origin, scale = partial(_between, a=a, b=b), mean, std
    for index, part in blocks_of(out, at):
        z = standard(_fractions(words, more, index, len(part)))
        z *= scale
        z += origin
        np.copyto(part, z, casting="same_kind")
        np.clip(part, out.dtype.type(low), out.dtype.type(high), out=part)


def _fractions(words: Words, more: Words, at: int, count: int) -> Array:
    """Return uniform numbers in (0, 1): the upper 53 bits of two words, and a half."""
    import numpy as np

    bits = joined(words, more, at, count)
    np.right_shift(bits, np.uint64(11), out=bits)
    u = bits.view("<i8").astype(np.float64)
    u += 0.5
    u *= 2.0**-53
    return u


def _between(u: Array, a: float, b: float) -> Array:
    """Return the normals in [a, b] that lie a share `u` of their probability above `a`."""
    import numpy as np

    is_mirrored = a > 0
    first, width = probabilities(-b, -a) if is_mirrored else probabilities(a, b)
    u *= width
    u += first
    np.minimum(u, _LAST_U, out=u)
    is_upper = u > 0.5
    z = quantile(np.where(is_upper, 1.0 - u, u))
    z *= np.where(is_upper ^ is_mirrored, -1.0, 1.0)
    return z


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


# --- where probabilities are too small ---------------------------------------------------------


def _beyond(u: Array, a: float, b: float) -> Array:
    """Return t, such that a + t is normal given [a, b]; a ≥ 30.

    With the cumulated hazard H(t) = -ln(Q(a + t) / Q(a)), where Q is the upper tail of the normal,
    H of the normal is exponential, given that it is below H(b - a). It is inverted by Newton's
    method, from the solution for a²/2 + H = (a + t)²/2; two steps leave an error below 1e-15.
    """
    import numpy as np

    if a == np.inf:
        return np.zeros_like(u)
    most = float(_hazard(np.array([b - a]), a)[0]) if b < np.inf else np.inf
    if most < _FLAT:
        return u * (b - a)
    rest = 1.0 - u * (1.0 - _exponential(-most))
    np.maximum(rest, 2.0**-54, out=rest)
    hazard = -logarithm(rest)
    t = 2.0 * hazard / (a + np.sqrt(a * a + 2.0 * hazard))
    for _ in range(2):
        z = a + t
        t += (hazard - _hazard(t, a)) * (_tail_factor(z) / z)
    return t


def _hazard(t: Array, a: float) -> Array:
    """Return -ln(Q(a + t) / Q(a)), with Q(z) = exp(-z²/2) / √(2π) / z · `_tail_factor`(z)."""
    import numpy as np

    z = a + t
    ratio = (a / z) * (_tail_factor(z) / _tail_factor(np.array([a])))
    return t * (a + 0.5 * t) - logarithm(ratio)


def _tail_factor(z: Array) -> Array:
    """Return 1 - 1/z² + 1·3/z⁴ - 1·3·5/z⁶ …, up to the term for which z ≥ 30 leaves an error of 3e-16."""
    import numpy as np

    w = 1.0 / (z * z)
    total = np.ones_like(w)
    for odd in (11.0, 9.0, 7.0, 5.0, 3.0, 1.0):
        total = 1.0 - odd * w * total
    return total


def _exponential(x: float) -> float:
    """Return the least float64 whose logarithm is not below x ≤ 0, or 0, by bisection."""
    import numpy as np

    low, high = (int(np.float64(p).view(np.int64)) for p in (_LEAST_P, 1.0))
    while low < high:
        middle = (low + high) // 2
        power = np.array([middle], np.int64).view(np.float64)
        low, high = (middle + 1, high) if logarithm(power)[0] < x else (low, middle)
    return float(np.array([low], np.int64).view(np.float64)[0])
