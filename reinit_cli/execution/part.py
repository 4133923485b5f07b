"""Write the part of an output that one of several processes owns, and then what depends on all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reinit_cli.execution.engine import total_nbytes, write_late, write_open
from reinit_cli.execution.fill import Observe
from reinit_cli.execution.joined import joined_by_draws
from reinit_cli.execution.pieces import OpenFile
from reinit_cli.execution.share import Owned
from reinit_cli.storage.segments import Late, Reserved, Segment
from reinit_cli.storage.writer import Output, Writer
from reinit_cli.threads import Progress, aside

Digests = Mapping[str, Mapping[int, int]]
"""The CRC-32s of segments, by file and position."""

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
    observe: Observe,
) -> Digests:
    """Write segments into files that have their sizes, and return the CRC-32s of these.

    Args:
        files: the segments of each file.
        owned: those that are written; of a draw, all places.
        output: where they go.
        device: where to draw.
        progress: called after every write.
        observe: who is shown each draw.

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
        write_open(list(opened.values()), device, observe)
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
