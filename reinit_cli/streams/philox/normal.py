"""Draw normal numbers in float32, by the inverse of their distribution.

The method is that of Marsaglia, Zaman & Marsaglia (1994, Rapid evaluation of the inverse of the
normal distribution function, Statistics & Probability Letters 19): a Taylor polynomial at the
nearest point of a grid that is the finer, the further out in the tails. Here the grid consists
of the bfloat16 numbers, so that the nearest one is found by an addition and a mask.

A word, read as a signed integer x, stands for the probability u = (x + 1/2) / 2^32 if x ≥ 0, and
for 1 + (x + 1/2) / 2^32 otherwise. Its normal is √2·y(x), where y = erf⁻¹(2u - 1), and

    f  = x as a float32
    x₀ = the bfloat16 that is nearest to f, of two equally near ones that further from 0
    e  = (f - x₀) · y′(x₀)
    y(x) ≈ y(x₀) + (e·y(x₀) + 1)·e

with y(x₀) and y′(x₀) from tables: since y″ = 2·y·y′², these are the first three terms.

Over all 2^32 words the distribution function is within 4.5e-8 of the normal's, the density
within 1.5e-5 out to 6.2 standard deviations, and the largest number is 6.34.
"""

from __future__ import annotations

import math
from hashlib import sha256
from statistics import NormalDist
from typing import TYPE_CHECKING

from reinit_cli.errors import PackageError
from reinit_cli.lazy import LazyModule
from reinit_cli.streams.chance import Array
from reinit_cli.streams.philox.buffers import Buffers, blocks_of, buffers
from reinit_cli.streams.philox.words import Words
from reinit_cli.threads import made_once

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_TABLES_SHA256 = "87adad22c8d2e1658b0c877f8e056bb89fb067a372080bbfaf76549314aaed00"

_ONE, _LAST = 0x3F80, 0x4F00
"""The upper halves of 1 and of 2^31 as float32: the bfloat16 that positive integers are near."""

_NEGATIVE = 0x8000
"""The sign in the upper half of a float32."""

_NEVER_ZERO = 1e-30
"""With a factor above it no normal becomes 0: the smallest one is 2.9e-10."""


@made_once
def tables() -> tuple[Array, Array]:
    """Return y(x₀) and y′(x₀) for each bfloat16 x₀ that a word can be near.

    They are float32, and their indices the 16 bits of the bfloat16. Each is the float32 nearest
    to the true value, and none is so near the middle of two that another maths library could
    round it differently. That is checked.

    Raises:
        PackageError: this Python makes others.
    """
    import numpy as np

    values, slopes = np.zeros((2, 2**16), np.float32)
    places = np.array([0, *range(_ONE, _LAST + 1)], np.uint32)
    numbers = (places << np.uint32(16)).view(np.float32)
    for place, x in zip(places.tolist(), numbers.tolist(), strict=True):
        values[place], slopes[place] = _value_and_slope((x + 0.5) / 2**32)
        if x:
            value, slopes[place | _NEGATIVE] = _value_and_slope((x - 0.5) / 2**32)
            values[place | _NEGATIVE] = -value
    _check(values, slopes)
    return values, slopes


def _value_and_slope(u: float) -> tuple[float, float]:
    """Return erf⁻¹(2u - 1), and how much it grows with the next word."""
    z = _STANDARD.inv_cdf(u)
    return z / math.sqrt(2), math.sqrt(math.pi) * math.exp(z * z / 2) / 2**32


_STANDARD = NormalDist()


def _check(values: Array, slopes: Array) -> None:
    made = sha256(values.astype("<f4").tobytes() + slopes.astype("<f4").tobytes()).hexdigest()
    if made != _TABLES_SHA256:
        problem = f"its table of normals has the SHA-256 {made}, not {_TABLES_SHA256}"
        raise PackageError("philox-1", problem, kind="stream")


@made_once
def fine_tables() -> tuple[Array, Array]:
    """Return y(x₀), and y′(x₀) for steps of another size, for the upper 17 bits of a float32 f.

    These tell which bfloat16 is nearest, and in which units f is further from 0 than that: 2^16
    of them are the lower 16 bits of f, shifted to the left and read as a signed integer. So

        e = (f - x₀) · y′(x₀) = (bits of f << 16) · (y′(x₀) · unit / 2^16)

    where all factors but y′(x₀) are integers of 16 bits and powers of 2, so that both products are
    rounded to the same number. It takes fewer steps of numpy than to find x₀ and subtract it.
    """
    import numpy as np

    values, slopes = tables()
    upper = np.arange(2**17, dtype=np.uint32)
    nearest = (upper + np.uint32(1) >> np.uint32(1)) & np.uint32(0xFFFF)
    exponents = np.minimum(upper >> np.uint32(8) & np.uint32(0xFF), np.uint32(_LAST >> 7))
    # A float32 of this exponent and no other bits is 2^23 units.
    units = (exponents << np.uint32(23)).view(np.float32) * np.float32(2.0 ** -(23 + 16))
    signs = np.where(upper >> np.uint32(16), np.float32(-1), np.float32(1))
    return values[nearest], slopes[nearest] * units * signs


def fill_normal(out: Array, words: Words, at: int, mean: float, std: float) -> None:
    """Fill with N(mean, std²) in float32.

    Args:
        out: in one dimension.
        words: those of the elements.
        at: the index of the first element.
        mean: added as a float32.
        std: multiplied with √2 in float64, then rounded to float32.
    """
    import numpy as np

    scratch, scale, center = buffers(), scale_of(std), np.float32(mean)
    changes_nothing = center == 0 and scale > _NEVER_ZERO
    for index, part in blocks_of(out, at):
        erfinv_of_words(words.take(index, len(part)), part, scratch)
        np.multiply(part, scale, out=part)
        if not changes_nothing:
            np.add(part, center, out=part)


def scale_of(std: float) -> np.float32:
    """Return the factor that turns erf⁻¹(2u - 1) into a normal."""
    import numpy as np

    return np.float32(std * math.sqrt(2))


def erfinv_of_words(words: Array, y: Array, scratch: Buffers) -> None:
    """Write erf⁻¹(2u - 1) of words.

    Args:
        words: at most a block of them.
        y: what is filled.
        scratch: the buffers; those of `x`, `slopes` and `places` are overwritten.
    """
    import numpy as np

    numel = len(words)
    x, bits, unsigned = scratch.x[:numel], scratch.x_signed[:numel], scratch.x_unsigned[:numel]
    slopes, places, upper = scratch.slopes[:numel], scratch.places[:numel], y.view(np.uint32)
    values_at, slopes_at = fine_tables()
    np.copyto(x, words.view("<i4"), casting="unsafe")
    np.right_shift(unsigned, 15, out=upper)
    np.copyto(places, upper, casting="unsafe")
    # No index is out of range; with mode="raise", numpy would copy the result.
    values_at.take(places, None, y, "wrap")
    slopes_at.take(places, None, slopes, "wrap")
    np.left_shift(bits, 16, out=bits)
    np.copyto(x, bits, casting="unsafe")  # exact
    e = np.multiply(x, slopes, out=x)
    term = np.multiply(e, y, out=slopes)
    np.add(term, 1.0, out=term)
    np.multiply(term, e, out=term)
    np.add(y, term, out=y)
