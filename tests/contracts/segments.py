"""Put the bytes of files together from their segments, without the engine."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence

from reinit_cli.storage.segments import Check, Copy, Late, Literal, Reserved, Segment


def rendered(files: Mapping[str, Sequence[Segment]], record: str = "") -> dict[str, bytes]:
    """Return the bytes of each file.

    Args:
        files: the segments of each.
        record: what is written where room is kept for a record.
    """
    return {name: _rendered(segments, record) for name, segments in files.items()}


def _rendered(segments: Sequence[Segment], record: str) -> bytes:
    pieces = [_bytes_of(segment, record) for segment in segments]
    waiting = {at: each for at, each in enumerate(segments) if isinstance(each, Late)}
    while waiting:
        ready = [at for at in waiting if not _spanned(waiting[at]) & waiting.keys()]
        for at in ready:
            late = waiting.pop(at)
            crcs = [zlib.crc32(b"".join(pieces[span.start : span.stop])) for span in late.of]
            pieces[at] = late.compute(crcs)
        assert ready
    assert [len(piece) for piece in pieces] == [segment.nbytes for segment in segments]
    return b"".join(pieces)


def _bytes_of(segment: Segment, record: str) -> bytes:
    match segment:
        case Copy():
            data = segment.file.read(segment.offset, segment.nbytes)
            if segment.check is not None:
                _check(segment.check)
            return data
        case Literal():
            return bytes(segment.data)
        case Reserved(holds="text"):
            return record.encode()
        case Reserved(holds="json"):
            return json.dumps(record, ensure_ascii=False)[1:-1].encode()
        case Reserved(holds="crc"):
            return zlib.crc32(record.encode()).to_bytes(4, "little")
        case Check():
            _check(segment)
            return b""
        case Late():
            return bytes(segment.nbytes)
    raise AssertionError(segment)


def _spanned(late: Late) -> set[int]:
    return {at for span in late.of for at in span}


def _check(check: Check) -> None:
    assert check.crc in (0, zlib.crc32(check.file.read(check.offset, check.length)))
