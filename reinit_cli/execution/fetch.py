"""Let files be fetched ahead: say beforehand which of their bytes are read, and in which order.

What is filled is left out of a copy, so nothing of it comes over a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from reinit_cli.execution.pieces import Piece
from reinit_cli.storage.segments import Check, Copy, Range, View

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


_GATHERED_NBYTES = 16 * 2**20
"""Up to this much is fetched together and kept: it may be read twice."""


def announce_views(views: Mapping[str, View]) -> list[str]:
    """Tell remote files which tensors are read as they are stored, and return in which order.

    Args:
        views: for each key its tensor.

    Returns:
        All keys, if they are to be read one after the other, as they lie in the files; none where
        all files are at hand. Threads that read several at a time would undo each other's fetches.
    """
    places = {
        key: [(id(each.file), each.offset) for each in _copies(view)] for key, view in views.items()
    }
    files = {id(each.file): each.file for view in views.values() for each in _copies(view)}
    if not any(file.is_distant for file in files.values()):
        return []
    numbers = {at: number for number, at in enumerate(files)}
    order = sorted(views, key=lambda key: [(numbers[at], offset) for at, offset in places[key]])
    announce_in_order(views[key] for key in order)
    return order


def announce_in_order(views: Iterable[View]) -> None:
    """Tell remote files which tensors are read as they are stored, one after the other."""
    files: dict[int, Reader] = {}
    ranges: dict[int, list[Range]] = {}
    for each in (each for view in views for each in _copies(view) if each.file.is_distant):
        files[id(each.file)] = each.file
        _add(ranges.setdefault(id(each.file), []), each.offset, each.nbytes)
    spans = (end - start for of in ranges.values() for start, end in of)
    is_small = sum(spans) <= _GATHERED_NBYTES
    for at, file in files.items():
        (file.gather if is_small else file.will_read)(ranges[at])


def _copies(view: View) -> list[Copy]:
    return [part.data for part in view.parts if isinstance(part.data, Copy)]


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
