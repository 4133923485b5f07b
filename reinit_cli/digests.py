"""CRC-32s, also of bytes that lie end to end from those of the parts; SHA-256s of ranges."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache

from reinit_cli.aside import Stopped, StoppedError, aside, side_by_side

try:
    # Ten times as fast, which makes the check of an archive's CRC-32s free.
    from isal.isal_zlib import crc32
except ImportError:  # pragma: no cover (there is no wheel for this machine)
    from zlib import crc32

__all__ = ["Range", "Read", "crc32", "crc32_joined", "sha256_of", "sha256_of_pieces"]

Range = tuple[int, int]
"""Some bytes of a file: where they start, and where they end."""

Read = Callable[[int, int], "bytes | memoryview"]
"""Returns bytes of a file from an offset on, as many as it is asked for."""

PIECE_NBYTES = 4 * 2**20
"""The pieces of a file that are digested on their own, side by side."""

_CHUNK_NBYTES = 2**19
"""What is read at once."""

_POLYNOMIAL = 0xEDB88320
"""Of CRC-32 (IEEE 802.3), reflected: the highest bit is the coefficient of x^0."""

_ONE = 1 << 31


def crc32_joined(first: int, second: int, second_nbytes: int) -> int:
    """Return the CRC-32 of two runs of bytes end to end.

    Appending n bytes multiplies what came before by x^(8n) modulo the polynomial.

    Args:
        first: the CRC-32 of what comes first.
        second: that of what follows.
        second_nbytes: the length of the second.
    """
    power = _ONE
    exponent, bit = 8 * second_nbytes, 0
    while exponent:
        if exponent & 1:
            power = _product(power, _square(bit))
        exponent >>= 1
        bit += 1
    return _product(first, power) ^ second


@cache
def _square(bit: int) -> int:
    """Return x^(2^bit)."""
    return _ONE >> 1 if bit == 0 else _product(_square(bit - 1), _square(bit - 1))


def _product(left: int, right: int) -> int:
    """Multiply two polynomials modulo the CRC's."""
    product = 0
    while left:
        if left & _ONE:
            product ^= right
        left = (left << 1) & 0xFFFFFFFF
        right = right >> 1 ^ (_POLYNOMIAL if right & 1 else 0)
    return product


def sha256_of(read: Read, ranges: Sequence[Range]) -> list[str]:
    """Return the SHA-256 of each range, in hexadecimal; several are read side by side."""
    return [digest.hex() for digest in _digests(read, [(each,) for each in ranges])]


def sha256_of_pieces(read: Read, nbytes: int, without: Sequence[Range] = ()) -> str:
    """Return the SHA-256 of the SHA-256s of a file's pieces, in hexadecimal.

    The pieces are `PIECE_NBYTES` long, but the last, and are read side by side.

    Args:
        read: gives its bytes.
        nbytes: its length.
        without: bytes that are left out of their pieces.
    """
    gaps = sorted(each for each in without if each[0] < each[1])
    return hashlib.sha256(b"".join(_digests(read, _pieces(nbytes, gaps)))).hexdigest()


def _digests(read: Read, pieces: Iterable[Sequence[Range]]) -> list[bytes]:
    def work(stopped: Stopped) -> list[bytes]:
        return side_by_side(lambda ranges: _digest(read, ranges, stopped), pieces, stopped)

    return aside(work)


def _pieces(nbytes: int, gaps: Sequence[Range]) -> Iterator[tuple[Range, ...]]:
    """Yield the ranges of each piece that no gap takes."""
    at = 0
    for start in range(0, nbytes, PIECE_NBYTES):
        end = min(start + PIECE_NBYTES, nbytes)
        kept = []
        reached = start
        while at < len(gaps) and gaps[at][0] < end:
            if gaps[at][0] > reached:
                kept.append((reached, gaps[at][0]))
            reached = max(reached, min(gaps[at][1], end))
            if gaps[at][1] > end:
                break
            at += 1
        if reached < end:
            kept.append((reached, end))
        yield tuple(kept)


def _digest(read: Read, ranges: Sequence[Range], stopped: Stopped) -> bytes:
    digest = hashlib.sha256()
    for start, end in ranges:
        for offset in range(start, end, _CHUNK_NBYTES):
            if stopped.is_set():
                raise StoppedError
            digest.update(read(offset, min(_CHUNK_NBYTES, end - offset)))
    return digest.digest()
