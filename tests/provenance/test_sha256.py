"""SHA-256s of ranges and of files without some of their bytes."""

from __future__ import annotations

import hashlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.errors import UnreadableSourceError
from reinit_cli.provenance import sha256 as hashing
from reinit_cli.provenance.sha256 import sha256_of, sha256_of_pieces

spans = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: tuple(sorted(pair)))


@given(data=st.binary(max_size=60), gaps=st.lists(spans, max_size=6), piece=st.integers(1, 20))
def test_a_file_is_digested_piece_by_piece_without_its_gaps(
    data: bytes, gaps: list[tuple[int, int]], piece: int
) -> None:
    gaps = [(start, min(end, len(data))) for start, end in gaps]
    kept = [at for at in range(len(data)) if not any(start <= at < end for start, end in gaps)]
    pieces = [
        hashlib.sha256(bytes(data[at] for at in kept if start <= at < start + piece)).digest()
        for start in range(0, len(data), piece)
    ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "PIECE_NBYTES", piece)
        got = sha256_of_pieces(lambda at, count: data[at : at + count], len(data), gaps)

    assert got == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_ranges_are_digested_in_their_order() -> None:
    data = bytes(range(256)) * 9000
    ranges = [(5, 5), (0, len(data)), (1_000_000, 2_000_000)]

    got = sha256_of(lambda at, count: data[at : at + count], ranges)

    assert got == [hashlib.sha256(data[start:end]).hexdigest() for start, end in ranges]


def test_what_cannot_be_read_is_raised_where_it_belongs() -> None:
    def read(at: int, count: int) -> bytes:
        raise UnreadableSourceError("m.pt", f"{count} bytes at {at}")

    with pytest.raises(UnreadableSourceError, match="524288 bytes at 0"):
        sha256_of_pieces(read, 2**20)


def test_memory_does_not_grow_with_the_file() -> None:
    """What is kept of 100,000 pieces takes less than their digests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "PIECE_NBYTES", 1)
        sha256_of_pieces(lambda _, count: bytes(count), 100)
        tracemalloc.start()
        got = sha256_of_pieces(lambda _, count: bytes(count), 100_000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert got == hashlib.sha256(hashlib.sha256(b"\0").digest() * 100_000).hexdigest()
    assert peak < 100_000 * 32
