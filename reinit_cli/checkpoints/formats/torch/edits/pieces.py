"""Put the pieces of an edited pickle together: spans of the file, and bytes between them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from reinit_cli.checkpoints.formats.torch.pickles.tensor_call import Span
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Copy, Literal, Segment

LONG_NBYTES = 64 * 2**10
"""What is kept is copied in one piece from this length on."""

_WINDOW_NBYTES = 256 * 2**10

_FRAME_NBYTES = 9


class Joined:
    """The bytes of segments that are copied or known, one after the other.

    Attributes:
        path: what people call them.
        nbytes: their number.
    """

    def __init__(self, path: str, segments: Sequence[Segment]) -> None:
        self.path = path
        self._segments = segments
        self._ends = list(accumulate(segment.nbytes for segment in segments))
        self.nbytes = self._ends[-1] if segments else 0

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return exactly those bytes."""
        parts = []
        at = bisect_right(self._ends, offset)
        while nbytes > 0:
            segment = self._segments[at]
            first = offset - self._ends[at] + segment.nbytes
            count = min(nbytes, segment.nbytes - first)
            if isinstance(segment, Copy):
                parts.append(segment.file.read(segment.offset + first, count))
            else:
                assert isinstance(segment, Literal)
                parts.append(bytes(segment.data[first : first + count]))
            at, offset, nbytes = at + 1, offset + count, nbytes - count
        return b"".join(parts)


def without_cut_frames(
    pieces: Sequence[bytes | Span], frames: Sequence[Span]
) -> Iterator[bytes | Span]:
    """Leave out the opcodes of frames that are no longer as long as they say.

    Nothing needs a frame.
    """
    starts = [at for at, _ in frames]
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        reached, end = piece
        cut: list[int] = []
        for at, frame_end in reversed(
            frames[bisect_left(starts, reached) : bisect_left(starts, end)]
        ):
            if frame_end > end or (cut and cut[-1] < frame_end):
                cut.append(at)
        for at in reversed(cut):
            yield reached, at
            reached = at + _FRAME_NBYTES
        yield reached, end


def segments_of(file: Reader, pieces: Iterable[bytes | Span]) -> list[Segment]:
    """Return the pieces as segments: what is short in one, and each long one apart."""
    segments: list[Segment] = []
    short = bytearray()
    window, base = b"", 0
    for piece in pieces:
        if isinstance(piece, bytes):
            short += piece
            continue
        start, end = piece
        if end - start >= LONG_NBYTES:
            if short:
                segments.append(Literal(bytes(short)))
                short.clear()
            segments.append(Copy(file, start, end - start))
            continue
        if not base <= start <= end <= base + len(window):
            base = start
            window = file.read(start, min(_WINDOW_NBYTES, file.nbytes - start))
        short += window[start - base : end - base]
    return [*segments, Literal(bytes(short))] if short else segments
