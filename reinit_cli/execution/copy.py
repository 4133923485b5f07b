"""Copy bytes of input files, and check their CRC-32s on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from reinit_cli.errors import MalformedFileError
from reinit_cli.execution.pieces import OpenFile, Piece, put
from reinit_cli.storage.crc32 import crc32
from reinit_cli.storage.segments import Check, Copy, Literal, Reserved
from reinit_cli.threads import stop_here

if TYPE_CHECKING:
    from reinit_cli.storage.reader import Reader

_CHUNK_NBYTES = 2**18
"""What one call reads, into a buffer that is used again and stays in the processor's cache;
a new one each time, or one of 1 to 8 MB, took up to six times as long."""


_KERNEL_COPY_NBYTES = 16 * 2**20
"""What one call asks the kernel to copy: short enough to stop soon after Ctrl-C."""


def is_copied(piece: Piece) -> bool:
    """Whether the bytes of a piece are known without a draw."""
    return isinstance(piece.segment, (Copy, Literal, Check, Reserved))


class Copier:
    """Copies pieces, in any number of threads."""

    def __init__(self) -> None:
        """Begin without a buffer."""
        self._buffers: list[bytearray] = []  # those that wait to be used again

    def write(self, piece: Piece) -> None:
        """Write a piece whose bytes are known without a draw.

        Raises:
            MalformedFileError: a CRC-32 does not match.
            OutputUnwritableError, UnreadableSourceError, SourceChangedError: as they say.
        """
        segment = piece.segment
        if isinstance(segment, Copy):
            self._copy(piece, segment)
        elif isinstance(segment, Literal):
            put(piece, segment.data)
        elif isinstance(segment, Check):
            self._read_through(segment)
        elif isinstance(segment, Reserved):
            piece.file.progress(segment.nbytes)

    def _copy(self, piece: Piece, segment: Copy) -> None:
        """Copy by the kernel, or block by block where a CRC-32 is asked for or it cannot."""
        has_crc = piece.file.wants_digest(piece) or segment.check is not None
        crc = 0
        done = 0 if has_crc else self._copied_by_kernel(piece, segment)
        for data in self._blocks(segment.file, segment.offset + done, segment.nbytes - done):
            if has_crc:
                crc = crc32(data, crc)
            piece.file.writer.write_at(piece.offset + done, data)
            done += len(data)
            piece.file.progress(len(data))
        piece.file.note(piece, crc)
        if segment.check is not None:
            _compare(segment.check, crc)

    def _copied_by_kernel(self, piece: Piece, segment: Copy) -> int:
        """Return how many bytes the kernel copied: all of them, or those before it could no more."""
        done = 0
        while segment.file.is_seekable and done < segment.nbytes:
            stop_here()
            nbytes = min(segment.nbytes - done, _KERNEL_COPY_NBYTES)
            start, offset = segment.offset + done, piece.offset + done
            count = piece.file.writer.copy_from(segment.file, start, offset, nbytes)
            if not count:
                break
            done += count
            piece.file.progress(count)
        return done

    def _read_through(self, check: Check) -> None:
        crc = 0
        for data in self._blocks(check.file, check.offset, check.length):
            crc = crc32(data, crc)
        _compare(check, crc)

    def _blocks(self, file: Reader, offset: int, nbytes: int) -> Iterator[memoryview]:
        """Yield a range of a file, block by block; each is gone with the next."""
        owned = self._buffers.pop() if self._buffers else bytearray(_CHUNK_NBYTES)
        buffer = memoryview(owned)
        try:
            while nbytes:
                stop_here()
                part = buffer[:nbytes]
                file.read_into(part, offset)
                yield part
                offset += len(part)
                nbytes -= len(part)
        finally:
            self._buffers.append(owned)


def without_cloned(file: OpenFile) -> Sequence[Piece]:
    """Clone the source as a whole where the output is the source with fills.

    Returns:
        The pieces that are left to copy.
    """
    copies = [piece for piece in file.pieces if is_copied(piece)]
    source = _cloneable(file, copies)
    if source is None or not file.writer.clone(source):
        return copies
    checked = []
    for piece in copies:
        file.progress(piece.segment.nbytes)
        if isinstance(piece.segment, Check):
            checked.append(piece)
        elif isinstance(piece.segment, Copy) and piece.segment.check is not None:
            checked.append(replace(piece, segment=piece.segment.check))
    return checked


def _cloneable(file: OpenFile, copies: Sequence[Piece]) -> Reader | None:
    """Return the file all of whose bytes stay in their places, but those that are drawn."""
    sources = {piece.segment.file for piece in copies if isinstance(piece.segment, Copy)}
    in_place = all(
        isinstance(piece.segment, Check)
        or (isinstance(piece.segment, Copy) and piece.segment.offset == piece.offset)
        for piece in copies
    )
    if len(sources) != 1 or not in_place or file.wants_digests:
        return None
    (source,) = sources
    nbytes = sum(piece.segment.nbytes for piece in file.pieces)
    return source if source.is_seekable and source.nbytes == nbytes else None


def _compare(check: Check, crc: int) -> None:
    # 0 is what torch records when it computes none.
    if check.crc not in (0, crc):
        problem = f"the CRC-32 of {check.name!r} does not match"
        raise MalformedFileError(check.file.path, problem, "crc")
