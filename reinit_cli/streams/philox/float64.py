"""Draw uniform and normal numbers in float64."""

from __future__ import annotations

from reinit_cli.streams.chance import Array
from reinit_cli.streams.philox.buffers import blocks_of, buffers
from reinit_cli.streams.philox.uniform import last_before
from reinit_cli.streams.philox.words import Words

CENTER = (
    (3.3871328727963666080, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125,
     45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727),
    (1.0, 42.313330701600911252, 687.18700749205790830, 5394.1960214247511077,
     21213.794301586595867, 39307.895800092710610, 28729.085735721942674, 5226.4952788528545610),
)  # fmt: skip
TAIL = (
    (1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550,
     3.64784832476320460504, 1.27045825245236838258, 0.241780725177450611770,
     0.0227238449892691845833, 7.7454501427834140764e-4),
    (1.0, 2.05319162663775882187, 1.67638483018380384940, 0.689767334985100004550,
     0.148103976427480074590, 0.0151986665636164571966, 5.47593808499534494600e-4,
     1.05075007164441684324e-9),
)  # fmt: skip
FAR = (
    (6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580,
     0.296560571828504891230, 0.0265321895265761230930, 1.24266094738807843860e-3,
     2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 0.599832206555887937690, 0.136929880922735805310, 0.0148753612908506148525,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
     2.04426310338993978564e-15),
)  # fmt: skip
"""The coefficients of Wichura's rational functions, above and below, from the constant on."""

SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
LN2_HIGH, LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10
"""The logarithm of 2 in two parts, the first of which has few bits (as in fdlibm)."""


def fill_uniform64(out: Array, words: Words, more: Words, at: int, low: float, high: float) -> None:
    """Fill with U[low, high) in float64: the upper 53 bits of two words, scaled and moved.

    Args:
        out: in one dimension.
        words: those of the elements, as for float32.
        more: their further bits.
        at: the index of the first element.
        low: the least value.
        high: no value reaches it, unless it is `low`.
    """
    import numpy as np

    step, most = (high - low) * 2.0**-53, last_before(np.float64(high), np.float64(low))
    for index, part in blocks_of(out, at):
        bits = joined(words, more, index, len(part))
        bits >>= np.uint64(11)
        np.copyto(part, bits.view(np.int64), casting="unsafe")  # exact: below 2^53
        np.multiply(part, step, out=part)
        np.add(part, low, out=part)
        np.minimum(part, most, out=part)


def fill_normal64(out: Array, words: Words, more: Words, at: int, mean: float, std: float) -> None:
    """Fill with N(mean, std²) in float64: the quantiles of float32, to more digits.

    Args:
        out: in one dimension.
        words: those of the elements, as for float32.
        more: their further bits.
        at: the index of the first element.
        mean: added after the product.
        std: the factor of a standard normal.
    """
    import numpy as np

    for index, part in blocks_of(out, at):
        word = joined(words, more, index, len(part)).view(np.int64)
        # As in float32, the first half of the words is below the mean and grows with u, and
        # the second, read as negative numbers, mirrors it: -1 - word.
        side = word >> 63
        word ^= side
        np.copyto(part, word, casting="unsafe")
        np.add(part, 0.5, out=part)
        np.multiply(part, 2.0**-64, out=part)
        z = quantile(part)
        side <<= 63
        sign = z.view(np.int64)
        sign ^= side  # turns it where the word was mirrored
        np.multiply(z, std, out=part)
        np.add(part, mean, out=part)


def joined(words: Words, more: Words, at: int, count: int) -> Array:
    """Return 64 bits for each element: its word comes first, then its further bits.

    They lie in a buffer of the thread, until it is used again.
    """
    bits = buffers().wide[:count]
    halves = bits.view("<u4")
    halves[1::2] = words.take(at, count)
    halves[::2] = more.take(at, count)
    return bits


def quantile(p: Array) -> Array:
    """Return Φ⁻¹(p) for 0 < p ≤ 1/2, with 16 digits.

    Wichura 1988, Algorithm AS 241: The percentage points of the normal distribution, Applied
    Statistics 37(3), PPND16.
    """
    import numpy as np

    q = p - 0.5
    r = q * q
    z = _ratio(np.subtract(0.180625, r, out=r), *CENTER)
    z *= q
    (tail,) = np.nonzero(q < -0.425)
    if len(tail):
        r = np.sqrt(-logarithm(p[tail]))
        outer = -_ratio(r - 1.6, *TAIL)
        (far,) = np.nonzero(r > 5.0)
        if len(far):
            outer[far] = -_ratio(r[far] - 5.0, *FAR)
        z[tail] = outer
    return z


def logarithm(x: Array) -> Array:
    """Return the natural logarithm of positive, normal numbers, within 2 ulp.

    x = m·2^k with m in [√½, √2), and ln m = 2·atanh((m - 1) / (m + 1)), by its series.
    """
    import numpy as np

    bits = x.view(np.int64)
    exponents = (bits - SQRT_HALF_BITS) >> 52
    m = (bits - (exponents << 52)).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    square = s * s
    series = np.full_like(x, 1 / 21)
    for odd in range(19, 1, -2):
        series *= square
        series += 1 / odd
    k = exponents.astype(np.float64)
    return k * LN2_HIGH + (2.0 * s + (2.0 * s * square * series + k * LN2_LOW))


def _ratio(r: Array, above: tuple[float, ...], below: tuple[float, ...]) -> Array:
    """Return the quotient of two polynomials, each by Horner's rule."""
    top, bottom = r * above[-1], r * below[-1]
    for a, b in zip(above[-2:0:-1], below[-2:0:-1], strict=True):
        top += a
        top *= r
        bottom += b
        bottom *= r
    top += above[0]
    bottom += below[0]
    top /= bottom
    return top
