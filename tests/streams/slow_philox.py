"""An oracle for philox-1: its published definitions by the standard library alone, a word at a time.

Philox4x64-10 is that of Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as
1, 2, 3". Exact values are fractions, each rounded once: not a line is shared with the package.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from statistics import NormalDist

_ALL = 2**64 - 1


def philox4x64(key: tuple[int, int], counter: tuple[int, int, int, int]) -> tuple[int, ...]:
    """Return ten rounds of Philox4x64 (figure 4 and section 4.3 of the paper)."""
    first, second = key
    l0, r0, l1, r1 = counter
    for _ in range(10):
        low, high = 0xD2E7470EE14C6C93 * l0, 0xCA5A826395121157 * l1
        l0, r0 = (high >> 64) ^ r0 ^ first, high & _ALL
        l1, r1 = (low >> 64) ^ r1 ^ second, low & _ALL
        first = (first + 0x9E3779B97F4A7C15) & _ALL
        second = (second + 0xBB67AE8584CAA73B) & _ALL
    return l0, r0, l1, r1


def block(key: int, index: int, lane: int = 0) -> bytes:
    return struct.pack("<4Q", *philox4x64((key & _ALL, key >> 64), (index, lane, 0, 0)))


def word(key: int, element: int, lane: int = 0) -> int:
    return struct.unpack_from("<I", block(key, element // 8, lane), 4 * (element % 8))[0]


def long_word(key: int, index: int, lane: int = 2) -> int:
    return struct.unpack_from("<Q", block(key, index // 4, lane), 8 * (index % 4))[0]


def f32(value: Fraction) -> Fraction:
    """Return the nearest float32 to an exact value, ties to the even one."""
    if not value:
        return Fraction(0)
    size = abs(value)
    exponent = max(math.floor(math.log2(size)) - 25, -150)
    while size / Fraction(2) ** exponent >= 2**24:
        exponent += 1
    exponent = max(exponent, -149)
    rounded = round(size / Fraction(2) ** exponent) * Fraction(2) ** exponent
    return rounded if value > 0 else -rounded


def nearest_bfloat16(value: Fraction) -> Fraction:
    """Return the nearest number of 8 significant bits; of two the one that is further from 0."""
    if not value:
        return value
    unit = Fraction(2) ** (abs(value).numerator.bit_length() - 8)  # value is an integer
    size = math.floor(abs(value) / unit + Fraction(1, 2)) * unit
    return size if value > 0 else -size


def normal_of_word(bits: int, mean: float, std: float) -> float:
    f = f32(Fraction(bits - 2**32 if bits >= 2**31 else bits))
    near = nearest_bfloat16(f)
    u = abs(near + Fraction(1, 2)) / 2**32
    z = NormalDist().inv_cdf(float(u))
    y = f32(Fraction((z if near >= 0 else -z) / math.sqrt(2)))
    slope = f32(Fraction(math.sqrt(math.pi) * math.exp(z * z / 2) / 2**32))
    e = f32((f - near) * slope)
    y = f32(y + f32(f32(f32(e * y) + 1) * e))
    return float(f32(f32(y * f32(Fraction(std * math.sqrt(2)))) + f32(Fraction(mean))))


def normal(key: int, element: int, mean: float, std: float) -> float:
    return normal_of_word(word(key, element), mean, std)


def uniform(key: int, element: int, low: float, high: float) -> float:
    step = f32(f32(Fraction(high - low)) / 2**24)
    value = f32(f32((word(key, element) >> 8) * step) + f32(Fraction(low)))
    return float(min(value, max(f32(Fraction(low)), _before(f32(Fraction(high))))))


def _before(value: Fraction) -> Fraction:
    (bits,) = struct.unpack("<i", struct.pack("<f", float(value)))
    bits = bits - 1 if value > 0 else (bits + 1 if value else -(2**31) + 1)
    return Fraction(struct.unpack("<f", struct.pack("<i", bits))[0])


def truncated(key: int, element: int, mean: float, std: float, low: float, high: float) -> float:
    least, most = (x if math.isinf(x) else float(f32(Fraction(x))) for x in (low, high))
    first = _first(lambda bits: normal_of_word(bits, mean, std) >= least)
    count = _first(lambda bits: normal_of_word(bits, mean, std) > most) - first
    bits = first + (word(key, element) * count >> 32)
    return min(max(normal_of_word(bits, mean, std), least), most)


def _first(is_reached) -> int:
    low, high = 0, 2**32
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_reached(middle) else (middle + 1, high)
    return low


def permutation(key: int, numel: int) -> list[int]:
    nbits = max(1, (numel - 1).bit_length())
    return sorted(range(numel), key=lambda i: (long_word(key, i) >> nbits, i))
