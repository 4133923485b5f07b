"""Jump ahead in the random numbers of torch's generator for the CPU, a Mersenne twister.

Its state is 19,937 bits, and one step of it is a linear map over the integers modulo 2. So n
steps are a polynomial of that map: x^n modulo its characteristic polynomial, whose terms
choose which of the next states are added up (Haramoto, Matsumoto, Nishimura, Panneton &
L'Ecuyer 2008, Efficient jump ahead for F2-linear random number generators).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Generator

    Words = np.ndarray[tuple[int], np.dtype[np.uint32]]

_WORDS = 624
_MIDDLE = 397
_DEGREE = 19937
_TWIST = 0x9908B0DF

# Where torch keeps what matters here, in bytes of `Generator.get_state`.
_STATE_NBYTES = 5056
_LEFT = slice(8, 12)
_NEXT = slice(16, 24)
_STATE = slice(24, 24 + 8 * _WORDS)

_CHECKED_WORDS = 64
"""The numbers by which it is tested that torch keeps its state where it is read here."""

_SKIPPED_WORDS = 2**22
"""Up to this many numbers are drawn and dropped, which takes no longer than a jump."""


def is_known(generator: Generator) -> bool:
    """Whether a generator is one that `later` can move: torch may change how it keeps its state."""
    import numpy as np
    import torch

    data = generator.get_state().numpy()
    if generator.device.type != "cpu" or data.nbytes != _STATE_NBYTES:
        return False
    words, left = _words_of(generator)
    following = np.concatenate((words, _continued(words, _CHECKED_WORDS)))[_WORDS - left :]
    expected = _tempered(following[:_CHECKED_WORDS]) & np.uint32(2**31 - 1)
    given = torch.empty(_CHECKED_WORDS, dtype=torch.int32, device="cpu")
    given.random_(generator=generator.clone_state())  # without their highest bits
    return np.array_equal(expected, given.numpy().view(np.uint32))


def later(generator: Generator, words: int) -> Generator:
    """Return a generator at the place that another reaches later; that one stays as it is.

    Args:
        generator: one that is known.
        words: how many numbers of 32 bits lie between.
    """
    found = generator.clone_state()
    if words <= _SKIPPED_WORDS:
        _skip(found, words)
        return found
    state, left = _words_of(found)
    _restore(found, _jumped(state, words - left))
    return found


def _words_of(generator: Generator) -> tuple[Words, int]:
    """Return the words of a state, and how many of them are yet to be given."""
    import numpy as np

    data = generator.get_state().numpy()
    words = data[_STATE].view(np.uint64).astype(np.uint32)
    return words, int(data[_LEFT].view(np.int32)[0]) - 1


def _skip(generator: Generator, words: int) -> None:
    """Let a generator give some numbers."""
    import torch

    torch.empty(words, dtype=torch.uint8, device="cpu").random_(generator=generator)


def _restore(generator: Generator, words: Words) -> None:
    """Let a generator continue after some words, all of which were given."""
    import numpy as np
    import torch

    data = generator.get_state().numpy().copy()
    data[_STATE] = words.astype(np.uint64).view(np.uint8)
    data[_LEFT] = np.array([1], np.int32).view(np.uint8)
    data[_NEXT] = 0
    generator.set_state(torch.from_numpy(data))


# --- the recurrence ----------------------------------------------------------------------------


def _continued(words: Words, count: int) -> Words:
    """Return the words that follow a state."""
    import numpy as np

    all_words = np.empty(_WORDS + count, np.uint32)
    all_words[:_WORDS] = words
    at_once = _WORDS - _MIDDLE
    for start in range(0, count, at_once):
        n = min(at_once, count - start)
        old, following, middle = (
            all_words[start + first : start + first + n] for first in (0, 1, _MIDDLE)
        )
        joined = (old & np.uint32(1 << 31)) | (following & np.uint32((1 << 31) - 1))
        twisted = np.where(joined & np.uint32(1), np.uint32(_TWIST), np.uint32(0))
        all_words[start + _WORDS : start + _WORDS + n] = middle ^ (joined >> np.uint32(1)) ^ twisted
    return all_words[_WORDS:]


def _tempered(words: Words) -> Words:
    """Return what is given of words."""
    import numpy as np

    y = words ^ (words >> np.uint32(11))
    y = y ^ ((y << np.uint32(7)) & np.uint32(0x9D2C5680))
    y = y ^ ((y << np.uint32(15)) & np.uint32(0xEFC60000))
    tempered: Words = y ^ (y >> np.uint32(18))
    return tempered


def _jumped(words: Words, steps: int) -> Words:
    """Return the state some steps after another.

    The lower 31 bits of its first word are never looked at, and differ.
    """
    import numpy as np

    polynomial = _power_of_x(steps).to_bytes(_DEGREE // 8 + 1, "little")
    terms = np.unpackbits(np.frombuffer(polynomial, np.uint8), bitorder="little").nonzero()[0]
    following = np.concatenate((words, _continued(words, _DEGREE)))
    jumped: Words = np.zeros(_WORDS, np.uint32)
    for some in np.array_split(terms, 64):
        windows = np.lib.stride_tricks.sliding_window_view(following, _WORDS)[some]
        jumped ^= np.bitwise_xor.reduce(windows, axis=0)
    return jumped


# --- polynomials, as the bits of an integer ----------------------------------------------------


def _times(one: int, other: int) -> int:
    """Return a product; quick where the second has few terms."""
    product = 0
    for at in _terms(other):
        product ^= one << at
    return product


def _terms(polynomial: int) -> Iterator[int]:
    while polynomial:
        lowest = polynomial & -polynomial
        yield lowest.bit_length() - 1
        polynomial ^= lowest


@lru_cache(maxsize=1)
def _characteristic() -> tuple[int, ...]:
    """Return the terms of the characteristic polynomial but its highest.

    Matsumoto & Nishimura 1998, Mersenne Twister, appendix A.
    """
    one, other = 1 << _WORDS | 1 << _MIDDLE, 1 << (_WORDS - 1) | 1 << (_MIDDLE - 1)
    powers, others = [1], [1]
    for _ in range(31):
        powers.append(_times(powers[-1], one))
        others.append(_times(others[-1], other))
    total = _times(powers[1], others[31])
    for bit in range(31):
        if _TWIST >> bit & 1:
            total ^= _times(powers[1], others[30 - bit])
    if _TWIST >> 31 & 1:
        total ^= powers[0]
    return tuple(_terms(total ^ 1 << _DEGREE))


_SPREAD = tuple(
    sum((byte >> bit & 1) << 2 * bit for bit in range(8)).to_bytes(2, "little")
    for byte in range(256)
)


def _squared(polynomial: int) -> int:
    """Return a square: every term goes to twice its exponent."""
    data = polynomial.to_bytes((polynomial.bit_length() + 7) // 8, "little")
    return int.from_bytes(b"".join(map(_SPREAD.__getitem__, data)), "little")


def _remainder(polynomial: int) -> int:
    """Return what is left of a polynomial modulo the characteristic one."""
    terms = _characteristic()
    below = (1 << _DEGREE) - 1
    while over := polynomial >> _DEGREE:
        polynomial &= below
        for at in terms:
            polynomial ^= over << at
    return polynomial


@lru_cache(maxsize=8)
def _power_of_x(exponent: int) -> int:
    """Return x^exponent modulo the characteristic polynomial."""
    if exponent < _DEGREE:
        return 1 << exponent
    half = _squared(_power_of_x(exponent // 2))
    return _remainder(half << (exponent & 1))
