"""Lay out a torch archive again, with entries of other lengths, more of them or fewer.

Every entry that stays keeps its place in the order and what its headers say; everything that
depends on places and lengths follows: the padding, the descriptors, the directory, the end,
and of the serialization id the half that combines CRC-32s. (Its other half is a hash of the
names of entries, in an order that only torch's own hash table knows: it stays.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from reinit_cli.checkpoints.formats.base import RECORD_NAME
from reinit_cli.checkpoints.formats.torch.files.archive import (
    ZipEntry,
    central_record,
    end_records,
    local_header,
    read_directory,
)
from reinit_cli.checkpoints.formats.torch.files.assembly import (
    ID_DIGITS,
    Layout,
    combined,
    is_id,
    late_crc,
    order_of,
)
from reinit_cli.checkpoints.formats.torch.files.zip_headers import Placed, written_of
from reinit_cli.lazy import dataclass
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Check, Copy, Late, Literal, Reserved, Segment

_ALIGNMENT = 64
_MAX_ALIGNMENT = 2**15
"""What pads the data is counted in 16 bits."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What changes in an archive.

    Attributes:
        changed: for the name of an entry its new data, or that of a new entry.
        gone: the names of entries that are left out.
    """

    changed: Mapping[str, Sequence[Segment]]
    gone: AbstractSet[str] = frozenset()


def relaid(file: Reader, layout: Layout, contents: Contents, record: str = "") -> list[Segment]:
    """Return an archive with some entries changed, and another provenance record.

    Args:
        file: the archive.
        layout: its entries.
        contents: what changes.
        record: a text as long as the record for which room is kept; "" for none.
    """
    return _Relaying(file, layout, contents).segments(record)


@dataclass(frozen=True, slots=True)
class _Laid:
    """An entry of the new archive.

    Attributes:
        placed: where it is.
        crc: its CRC-32, where that is known.
        span: the positions of the segments of its data, where it is not.
    """

    placed: Placed
    crc: int
    span: range | None = None


class _Relaying:
    """Puts one entry after the other, and the directory after all."""

    def __init__(self, file: Reader, layout: Layout, contents: Contents) -> None:
        self._file = file
        self._layout = layout
        self._contents = contents
        self._directory = read_directory(file)
        self._written = written_of(file, self._directory, layout.entries)
        self._alignment = _alignment_of(file, layout.entries)
        self._describes = any(entry.has_descriptor for entry in layout.entries)
        self._segments: list[Segment] = []
        self._pending = bytearray()
        self._nbytes = 0

    def segments(self, record: str) -> list[Segment]:
        """Return all of them."""
        laid: dict[str, _Laid] = {}
        for name, entry in _in_order(self._kept(), self._contents.changed):
            laid[name] = self._lay(name, entry, laid)
        self._flush()
        start = self._put_record(record)
        self._put_directory(laid, record, start)
        self._flush()
        return self._segments

    def _kept(self) -> list[ZipEntry]:
        old, gone = self._layout.record_entry, self._contents.gone
        return [each for each in self._layout.entries if each is not old and each.name not in gone]

    # Entries

    def _lay(self, name: str, entry: ZipEntry | None, before: Mapping[str, _Laid]) -> _Laid:
        """Put an entry."""
        data = self._contents.changed.get(name)
        if data is None and entry is not None and is_id(entry):
            data = self._serialization_id(entry, before)
        if data is None:
            assert entry is not None
            return self._lay_unchanged(entry)
        nbytes = sum(segment.nbytes for segment in data)
        placed = self._placed(name, entry, nbytes)
        keeps_none = entry is not None and entry.nbytes > 0 and not self._layout.records_crc(entry)
        return self._lay_changed(placed, data, entry, has_crc=nbytes > 0 and not keeps_none)

    def _lay_unchanged(self, entry: ZipEntry) -> _Laid:
        placed = Placed(
            self._written[entry.name],
            entry.name.encode(),
            self._nbytes,
            entry.nbytes,
            entry.has_descriptor,
            self._alignment,
        )
        crc = struct.pack("<I", entry.crc)
        before, after = placed.local()
        self._put(before + (bytes(4) if entry.has_descriptor else crc) + after)
        if entry.nbytes:
            check = Check(self._file, entry.offset, entry.nbytes, entry.crc, entry.name)
            self._add([Copy(self._file, entry.offset, entry.nbytes, check)])
        if entry.has_descriptor:
            self._put(crc.join(placed.descriptor()))
        return _Laid(placed, entry.crc)

    def _lay_changed(
        self, placed: Placed, data: Sequence[Segment], entry: ZipEntry | None, *, has_crc: bool
    ) -> _Laid:
        before, after = placed.local()
        is_late = has_crc and not placed.has_descriptor
        self._put(before)
        if is_late:
            self._flush()
            first = len(self._segments) + 2
            self._add([late_crc(range(first, first + len(data)))])
        else:
            self._put(bytes(4))
        self._put(after)
        span = self._add(data)
        if entry is not None and entry.nbytes:
            # What was read of the old data is checked as it was.
            check = Check(self._file, entry.offset, entry.nbytes, entry.crc, entry.name)
            self._segments.append(check)
        laid = _Laid(placed, 0, span if has_crc else None)
        if placed.has_descriptor:
            self._put_with_crc(placed.descriptor(), laid)
        return laid

    def _placed(self, name: str, entry: ZipEntry | None, nbytes: int) -> Placed:
        like = entry or self._like()
        template = self._written[like.name]
        has_descriptor = like.has_descriptor
        if template.is_padded:
            has_descriptor = self._describes and nbytes > 0  # torch describes no empty storages
        return Placed(
            template, name.encode(), self._nbytes, nbytes, has_descriptor, self._alignment
        )

    def _like(self) -> ZipEntry:
        """Return the entry after which new ones are made: a storage, or else the pickle."""
        entries = self._layout.entries
        return next((each for each in entries if _is_storage(each.name)), entries[0])

    def _serialization_id(
        self, entry: ZipEntry, before: Mapping[str, _Laid]
    ) -> Sequence[Segment] | None:
        """Return the id of the new archive; None where the old one is not what torch writes."""
        entries = self._layout.entries
        older = entries[: entries.index(entry)]
        order = order_of(self._layout, older)
        if order is None or not (self._contents.changed or self._contents.gone):
            return None
        is_described = list(order) == [each for each in older if each.has_descriptor]
        counted = [
            each
            for each in before.values()
            if (each.placed.has_descriptor if is_described else each.placed.nbytes)
        ]
        names_hash = self._file.read(entry.offset, ID_DIGITS)

        def compute(digests: Sequence[int]) -> bytes:
            drawn = iter(digests)
            crcs = [each.crc if each.span is None else next(drawn) for each in counted]
            return names_hash + b"%020d" % combined(crcs)

        spans = tuple(each.span for each in counted if each.span is not None)
        return [Late(entry.nbytes, spans, compute)]

    # After the entries

    def _put_record(self, record: str) -> int:
        """Put a provenance record; return where it starts."""
        start = self._nbytes
        if record:
            before, after = local_header(self._record_name, len(record))
            parts = Literal(before), Reserved(4, "crc"), Literal(after)
            self._add([*parts, Reserved(len(record), "text")])
        return start

    def _put_directory(self, laid: Mapping[str, _Laid], record: str, header: int) -> None:
        start = self._nbytes
        old = {entry.name: entry for entry in self._kept()}
        recorded = sorted(old.values(), key=lambda entry: entry.crc_offsets[1])
        for name, _ in _in_order(recorded, self._contents.changed):
            self._put_with_crc(laid[name].placed.central(), laid[name])
        if record:
            before, after = central_record(self._record_name, len(record), header)
            self._flush()
            self._add([Literal(before), Reserved(4, "crc"), Literal(after)])
        count = len(laid) + bool(record)
        directory = replace(self._directory, start=start, nbytes=self._nbytes - start, count=count)
        self._put(end_records(directory))

    @property
    def _record_name(self) -> bytes:
        return f"{self._layout.folder}/{RECORD_NAME}".encode()

    # Bytes

    def _put_with_crc(self, around: tuple[bytes, bytes], laid: _Laid) -> None:
        before, after = around
        if laid.span is None:
            self._put(before + struct.pack("<I", laid.crc) + after)
            return
        self._put(before)
        self._flush()
        self._add([late_crc(laid.span)])
        self._put(after)

    def _put(self, data: bytes) -> None:
        self._pending += data
        self._nbytes += len(data)

    def _flush(self) -> None:
        if self._pending:
            self._segments.append(Literal(bytes(self._pending)))
            self._pending.clear()

    def _add(self, segments: Sequence[Segment]) -> range:
        """Add segments; return their positions."""
        self._flush()
        first = len(self._segments)
        self._segments += segments
        self._nbytes += sum(segment.nbytes for segment in segments)
        return range(first, len(self._segments))


def _in_order(
    kept: Sequence[ZipEntry], changed: Mapping[str, Sequence[Segment]]
) -> Iterator[tuple[str, ZipEntry | None]]:
    """Yield the entries of the new archive: new ones come after the last storage."""
    known = {entry.name for entry in kept}
    new = [name for name in changed if name not in known]
    storages = [at for at, entry in enumerate(kept) if _is_storage(entry.name)]
    last = storages[-1] if storages else 0
    for at, entry in enumerate(kept):
        yield entry.name, entry
        if at == last:
            yield from ((name, None) for name in new)


def _is_storage(name: str) -> bool:
    return name.partition("/")[2].startswith("data/")


def _alignment_of(file: Reader, entries: Sequence[ZipEntry]) -> int:
    """Return what the archive says that data is aligned to, or what it always was before."""
    found = next((each for each in entries if each.name.endswith("/.storage_alignment")), None)
    text = file.read(found.offset, min(found.nbytes, 8)) if found is not None else b""
    alignment = int(text) if text.isdigit() else _ALIGNMENT
    return alignment if 0 < alignment <= _MAX_ALIGNMENT else _ALIGNMENT
