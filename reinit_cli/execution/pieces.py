"""Hold a file while it is written: its segments at their places, and their CRC-32s."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate

from reinit_cli.lazy import dataclass
from reinit_cli.storage.crc32 import crc32, crc32_joined
from reinit_cli.storage.segments import Late, Segment
from reinit_cli.storage.writer import Writer
from reinit_cli.threads import Progress, stop_here


class OpenFile:
    """A file that is written."""

    def __init__(
        self,
        segments: Sequence[Segment],
        writer: Writer,
        progress: Progress,
        owned: Collection[int] | None = None,
    ) -> None:
        """Put segments at their places.

        Args:
            segments: in the order of the file.
            writer: where to; a seekable one where the segments look ahead.
            progress: called after every write.
            owned: the positions of those that are written, each with its CRC-32; None means
                that all are, and the CRC-32s are kept on which others depend.
        """
        self.writer = writer
        self.progress = progress
        offsets = accumulate((segment.nbytes for segment in segments), initial=0)
        self.pieces = [
            Piece(self, at, offset, segment)
            for at, (offset, segment) in enumerate(zip(offsets, segments, strict=False))
            if owned is None or at in owned
        ]
        needed = {at for segment in segments for at in _needed(segment)}
        self._wanted = needed if owned is None else frozenset(owned)
        self._digests: dict[int, tuple[int, int]] = {}  # CRC-32 and bytes of a segment

    @property
    def wants_digests(self) -> bool:
        """Whether bytes of the file depend on the CRC-32 of others."""
        return bool(self._wanted)

    def wants_digest(self, piece: Piece) -> bool:
        """Whether other bytes depend on the CRC-32 of a piece."""
        return piece.at in self._wanted

    def note(self, piece: Piece, crc: int) -> None:
        """Keep the CRC-32 of a piece, where others depend on it."""
        if self.wants_digest(piece):
            self._digests[piece.at] = crc, piece.segment.nbytes

    def crc_of(self, piece: Piece) -> int:
        """Return the CRC-32 of a piece that was written; 0 where it is not kept."""
        return self._digests.get(piece.at, (0, 0))[0]

    @property
    def digests(self) -> Mapping[int, int]:
        """The CRC-32 of each piece that was written and for which it is kept."""
        return {at: crc for at, (crc, _) in self._digests.items()}

    def learn(self, digests: Mapping[int, int]) -> None:
        """Take over the CRC-32s of pieces that were written elsewhere."""
        for piece in self.pieces:
            if piece.at in digests:
                self.note(piece, digests[piece.at])

    def is_ready(self, late: Late) -> bool:
        """Whether everything is known that some bytes depend on."""
        return all(at in self._digests for at in _needed(late))

    def computed(self, late: Late) -> bytes:
        """Return bytes that depend on others."""
        data = late.compute([self._digest(span) for span in late.of])
        assert len(data) == late.nbytes
        return data

    def _digest(self, span: range) -> int:
        digest = 0
        for at in span:
            crc, nbytes = self._digests[at]
            digest = crc32_joined(digest, crc, nbytes) if digest else crc
        return digest


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment at its place in a file."""

    file: OpenFile
    at: int
    offset: int
    segment: Segment


class Pen:
    """Writes one piece from its start to its end."""

    def __init__(self, piece: Piece) -> None:
        """Start at the first byte."""
        self._piece = piece
        self._has_crc = piece.file.wants_digest(piece)
        self._crc = 0
        self._done = 0

    def write(self, data: bytes | memoryview) -> None:
        """Write the next bytes, or stop here."""
        stop_here()
        if self._has_crc:
            self._crc = crc32(data, self._crc)
        self._piece.file.writer.write_at(self._piece.offset + self._done, data)
        self._piece.file.progress(len(data))
        self._done += len(data)

    def end(self) -> None:
        """Declare the piece whole."""
        assert self._done == self._piece.segment.nbytes
        self._piece.file.note(self._piece, self._crc)


def put(piece: Piece, data: bytes | memoryview) -> None:
    """Write all of a piece."""
    pen = Pen(piece)
    pen.write(data)
    pen.end()


def _needed(segment: Segment) -> Iterator[int]:
    """Yield the positions of the segments on whose CRC-32s one depends."""
    if isinstance(segment, Late):
        for span in segment.of:
            yield from span
