"""Write the part of an output that one of several processes owns, and then what depends on all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from reinit_cli.execution.engine import total_nbytes, write_late, write_open
from reinit_cli.execution.fill import Watcher
from reinit_cli.execution.joined import joined_by_draws
from reinit_cli.execution.pieces import OpenFile, Piece
from reinit_cli.execution.share import Owned
from reinit_cli.storage.crc32 import crc32
from reinit_cli.storage.segments import Check, Late, Reserved, Segment
from reinit_cli.storage.writer import Output, Writer
from reinit_cli.threads import Progress, aside, side_by_side

Digests = Mapping[str, Mapping[int, int]]
"""The CRC-32s of segments, by file and position."""

_READ_NBYTES = 2**20
"""What one call reads to look whether it is as it was written."""

Files = Mapping[str, Sequence[Segment]]
"""The segments of each file, by its path in the output."""


def without_last(owned: Owned, files: Files) -> Owned:
    """Return what is owned, less what is written when all other bytes are there."""
    left = {
        name: frozenset(at for at in ats if not isinstance(files[name][at], (Late, Reserved)))
        for name, ats in owned.items()
    }
    return {name: ats for name, ats in left.items() if ats}


def write_part(
    files: Files,
    owned: Owned,
    output: Output,
    device: str,
    progress: Progress,
    watcher: Watcher,
) -> Digests:
    """Write segments into files that have their sizes, and return the CRC-32s of these.

    Args:
        files: the segments of each file.
        owned: those that are written; of a draw, all places.
        output: where they go.
        device: where to draw.
        progress: called after every write.
        watcher: looks at draws.

    Raises:
        OutputUnwritableError, UnreadableSourceError, SourceChangedError: as they say.
        TensorError: a cast makes an infinity or NaN of a number.
    """
    digests: dict[str, Mapping[int, int]] = {}
    mine = {name: [files[name][at] for at in sorted(ats)] for name, ats in owned.items()}
    for group in joined_by_draws(mine):
        writers = {name: output.file(name, total_nbytes(files[name])) for name in group}
        opened = {
            name: OpenFile(files[name], writer, progress, owned[name])
            for name, writer in writers.items()
        }
        write_open(list(opened.values()), device, watcher)
        for name, file in opened.items():
            digests[name] = file.digests
            writers[name].close()
    return digests


def write_last(
    segments: Sequence[Segment], writer: Writer, digests: Mapping[int, int], progress: Progress
) -> None:
    """Write what depends on the CRC-32s of segments that are there.

    Args:
        segments: all of a file.
        writer: the file.
        digests: the CRC-32s of segments, by position.
        progress: called after every write.
    """
    file = OpenFile(segments, writer, progress)
    file.learn(digests)
    aside(lambda: write_late(file))


def is_written(
    files: Files, owned: Owned, output: Output, digests: Digests, progress: Progress
) -> bool:
    """Whether segments are in the files of an output, to the last byte.

    Args:
        files: the segments of each file.
        owned: those that are looked at.
        output: where the files are.
        digests: the CRC-32s that they must have.
        progress: called after every read.
    """
    for name, ats in owned.items():
        known = digests.get(name, {})
        writer = output.file(name, total_nbytes(files[name]))
        pieces = OpenFile(files[name], writer, progress, ats).pieces
        digested = [piece for piece in pieces if not isinstance(piece.segment, Check)]
        if not all(side_by_side(partial(_is_intact, known), digested)):
            return False
        writer.close()
    return True


def _is_intact(digests: Mapping[int, int], piece: Piece) -> bool:
    """Whether the bytes of a piece in its file have their CRC-32."""
    crc, nbytes = 0, piece.segment.nbytes
    for done in range(0, nbytes, _READ_NBYTES):
        data = piece.file.writer.read(piece.offset + done, min(_READ_NBYTES, nbytes - done))
        piece.file.progress(len(data))
        crc = crc32(data, crc)
    return digests.get(piece.at) == crc
