"""Let files be fetched ahead: say beforehand which of their bytes are copied, and in which order.

What is filled is left out, so nothing of it comes over a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from reinit_cli.execution.pieces import Piece
from reinit_cli.storage.segments import Check, Copy, Range

if TYPE_CHECKING:
    from reinit_cli.storage.reader import Reader


def announce(pieces: Iterable[Piece]) -> None:
    """Tell every file which ranges are copied out of it, in the order of some pieces."""
    readers: dict[int, Reader] = {}
    ranges: dict[int, list[Range]] = {}
    for piece in pieces:
        segment = piece.segment
        if isinstance(segment, (Copy, Check)):
            nbytes = segment.length if isinstance(segment, Check) else segment.nbytes
            readers.setdefault(id(segment.file), segment.file)
            _add(ranges.setdefault(id(segment.file), []), segment.offset, nbytes)
    for key, reader in readers.items():
        reader.will_read(ranges[key])


def _add(ranges: list[Range], start: int, nbytes: int) -> None:
    if ranges and ranges[-1][1] == start:
        ranges[-1] = ranges[-1][0], start + nbytes
    elif nbytes:
        ranges.append((start, start + nbytes))


def are_in_any_order(pieces: Sequence[Piece]) -> bool:
    """Whether every file that is copied from can be read in any order as well as in its own.

    A pipe cannot, and what is fetched ahead comes in one order.
    """
    files = {
        id(piece.segment.file): piece.segment.file
        for piece in pieces
        if isinstance(piece.segment, (Copy, Check))
    }
    return all(each.is_seekable and _has_descriptor(each) for each in files.values())


def _has_descriptor(file: Reader) -> bool:
    with file.descriptor() as descriptor:
        return descriptor is not None
