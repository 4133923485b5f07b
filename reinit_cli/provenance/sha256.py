"""SHA-256s of ranges of files, several read side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from reinit_cli.storage.segments import Range
from reinit_cli.threads import Work, cores, stop_here

Read = Callable[[int, int], "bytes | memoryview"]
"""Returns bytes of a file from an offset on, as many as it is asked for."""

PIECE_NBYTES = 4 * 2**20
"""The pieces of a file that are digested on their own, side by side."""

_CHUNK_NBYTES = 2**19
"""What is read in one call."""


def sha256_of(read: Read, ranges: Sequence[Range]) -> list[str]:
    """Return the SHA-256 of each range, in hexadecimal; several are read side by side."""
    return [digest.hex() for digest in _digests(read, ((each,) for each in ranges))]


def sha256_of_pieces(read: Read, nbytes: int, without: Sequence[Range] = ()) -> str:
    """Return the SHA-256 of the SHA-256s of a file's pieces, in hexadecimal.

    The pieces are `PIECE_NBYTES` long, but the last, and are read side by side.

    Args:
        read: gives its bytes.
        nbytes: its length.
        without: bytes that are left out of their pieces.
    """
    gaps = sorted(each for each in without if each[0] < each[1])
    whole = hashlib.sha256()
    for digest in _digests(read, _pieces(nbytes, gaps)):
        whole.update(digest)
    return whole.hexdigest()


def _digests(read: Read, pieces: Iterable[Sequence[Range]]) -> Iterator[bytes]:
    """Yield the digest of each piece in their order; those that come early wait for it."""
    early: dict[int, bytes] = {}
    following = 0
    with Work() as work:
        for at, digest in work.each(lambda ranges: _digest(read, ranges), pieces, cores()):
            early[at] = digest
            while following in early:
                yield early.pop(following)
                following += 1


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


def _digest(read: Read, ranges: Sequence[Range]) -> bytes:
    digest = hashlib.sha256()
    for start, end in ranges:
        for offset in range(start, end, _CHUNK_NBYTES):
            stop_here()
            digest.update(read(offset, min(_CHUNK_NBYTES, end - offset)))
    return digest.digest()
