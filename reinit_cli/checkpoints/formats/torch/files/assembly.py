"""Put segments into a torch archive, and mend the digests that depend on them.

An archive has a CRC-32 for each entry, twice, and a serialization id whose last digits
combine the CRC-32s of the entries before it.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from reinit_cli.checkpoints.formats.base import RECORD_NAME, FileEdits, spliced
from reinit_cli.checkpoints.formats.torch.files.archive import (
    Directory,
    ZipEntry,
    central_record,
    end_records,
    header_offsets,
    local_header,
    read_directory,
)
from reinit_cli.lazy import dataclass
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Check, Copy, Late, Literal, Reserved, Segment

ID_DIGITS = 20
"""The digits of each half of a serialization id, enough for 64 bits."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The entries of an archive, which its CRCs and serialization id follow.

    Attributes:
        entries: in the order of the file.
        serialization_id: what the archive has of one.
        is_skeleton: whether torch wrote it with holes, whose CRCs say nothing.
    """

    entries: tuple[ZipEntry, ...]
    serialization_id: bytes = b""
    is_skeleton: bool = False

    @property
    def folder(self) -> str:
        """The folder that all entries lie in."""
        return self.entries[0].name.partition("/")[0] if self.entries else "archive"

    @property
    def record_entry(self) -> ZipEntry | None:
        """The entry that is a provenance record: the last, as we write it."""
        last = self.entries[-1] if self.entries else None
        if last is None or last.name != f"{self.folder}/{RECORD_NAME}" or last.has_descriptor:
            return None
        is_last = last.crc_offsets[1] == max(entry.crc_offsets[1] for entry in self.entries)
        return last if is_last else None

    def records_crc(self, entry: ZipEntry) -> bool:
        """Whether the CRC of an entry is kept: torch can be set to write 0 instead."""
        return self.is_skeleton or entry.crc != 0

    def edited(self, edits: FileEdits) -> Iterator[ZipEntry]:
        """Yield the entries in which bytes are replaced."""
        offsets = sorted(edits)
        return (entry for entry in self.entries if is_edited(entry, offsets))

    def checks(self, file: Reader) -> list[Check]:
        """Return a check of every storage, and of the pickle."""
        return [_check(file, entry) for entry in self.entries if entry.nbytes]

    def patched(self, file: Reader, edits: FileEdits, record: str = "") -> list[Segment]:
        """Return the archive with some bytes of its entries replaced, and another record."""
        return _Assembly(file, self, edits, record).segments


def layout_of(file: Reader, entries: tuple[ZipEntry, ...]) -> Layout:
    """Return the layout of an archive with such entries."""
    found = next((entry for entry in entries if is_id(entry)), None)
    if found is None or found.nbytes != 2 * ID_DIGITS:
        return Layout(entries)
    return Layout(entries, file.read(found.offset, found.nbytes))


def _check(file: Reader, entry: ZipEntry) -> Check:
    return Check(file, entry.offset, entry.nbytes, entry.crc, entry.name)


class _Assembly:
    """Puts segments into an archive and mends what depends on them."""

    def __init__(self, file: Reader, layout: Layout, edits: FileEdits, record: str) -> None:
        self.segments: list[Segment] = []
        self._file = file
        self._layout = layout
        self._edits = edits
        self._reached = 0
        self._offsets = sorted(edits)
        changed: dict[str, range] = {}  # the positions of the segments of each new content
        before: list[ZipEntry] = []
        old = layout.record_entry
        entries = layout.entries[:-1] if old is not None else layout.entries
        for entry in entries:
            if is_edited(entry, self._offsets):
                changed[entry.name] = self._put_edited(entry)
            elif is_id(entry) and changed and (order := order_of(layout, before)) is not None:
                late = self._serialization_id(entry, order, changed)
                changed[entry.name] = self._insert(entry.offset, [late])
            elif entry.nbytes:
                copy = Copy(file, entry.offset, entry.nbytes, _check(file, entry))
                self._insert(entry.offset, [copy])
            before.append(entry)
            if entry.name in changed and entry.crc_offsets[0] > entry.offset:
                self._insert_crc(entry, 0, changed)
            if entry.crc_offsets[0] < entry.offset and entry.name in changed:
                # The local header stands before the data, and its CRC after it in time.
                self._mend_header(entry, changed)
        directory = read_directory(file) if record or old is not None else None
        header = self._put_record(old, record, directory) if directory is not None else 0
        for entry in sorted(entries, key=lambda entry: entry.crc_offsets[1]):
            if entry.name in changed:
                self._insert_crc(entry, 1, changed)
        if directory is not None:
            self._put_directory(old, record, header, directory)
        else:
            self._copy_up_to(file.nbytes)

    def _put_record(self, old: ZipEntry | None, record: str, directory: Directory) -> int:
        """Put a record after the entries, in the place of another; return where it starts."""
        self._copy_up_to(header_offsets(old)[0] if old is not None else directory.start)
        start = self._reached
        self._reached = directory.start
        if record:
            before, after = local_header(self._record_name, len(record))
            parts = Literal(before), Reserved(4, "crc"), Literal(after)
            self.segments += (*parts, Reserved(len(record), "text"))
        return start

    def _put_directory(
        self, old: ZipEntry | None, record: str, header: int, directory: Directory
    ) -> None:
        """Put the rest of the directory, with the record's own part, and the end."""
        end = header_offsets(old)[1] if old is not None else directory.start + directory.nbytes
        self._copy_up_to(end)
        count = directory.count - (old is not None)
        nbytes = end - directory.start
        start = header
        if record:
            before, after = central_record(self._record_name, len(record), header)
            self.segments += (Literal(before), Reserved(4, "crc"), Literal(after))
            count += 1
            nbytes += len(before) + 4 + len(after)
            start += sum(map(len, local_header(self._record_name, len(record)))) + 4 + len(record)
        self.segments.append(
            Literal(end_records(replace(directory, start=start, nbytes=nbytes, count=count)))
        )

    @property
    def _record_name(self) -> bytes:
        return f"{self._layout.folder}/{RECORD_NAME}".encode()

    def _put_edited(self, entry: ZipEntry) -> range:
        end = entry.offset + entry.nbytes
        at = bisect_left(self._offsets, entry.offset)
        after = bisect_left(self._offsets, end)
        edits = {offset: self._edits[offset] for offset in self._offsets[at:after]}
        pieces = spliced(self._file, entry.offset, end, edits)
        span = self._insert(entry.offset, pieces)
        if any(isinstance(piece, Copy) and piece.file is self._file for piece in pieces):
            # Of what is copied in part, the whole is checked as it was.
            self.segments.append(_check(self._file, entry))
        return span

    def _insert(self, offset: int, segments: Sequence[Segment]) -> range:
        self._copy_up_to(offset)
        first = len(self.segments)
        self.segments.extend(segments)
        self._reached += sum(segment.nbytes for segment in segments)
        return range(first, len(self.segments))

    def _insert_crc(self, entry: ZipEntry, which: int, changed: Mapping[str, range]) -> None:
        if self._layout.records_crc(entry):
            self._insert(entry.crc_offsets[which], [late_crc(changed[entry.name])])

    def _mend_header(self, entry: ZipEntry, changed: dict[str, range]) -> None:
        """Put the CRC into a local header that was copied already."""
        if not self._layout.records_crc(entry):
            return
        span = changed[entry.name]
        at = span.start - 1
        header = self.segments[at]
        assert isinstance(header, Copy)  # what lies between two entries' data
        split = entry.crc_offsets[0] - header.offset
        pieces: list[Segment] = [
            Copy(header.file, header.offset, split),
            # The positions are those after two more segments have come in front.
            late_crc(range(span.start + 2, span.stop + 2)),
            Copy(header.file, header.offset + split + 4, header.nbytes - split - 4),
        ]
        self.segments[at : at + 1] = pieces
        changed[entry.name] = range(span.start + 2, span.stop + 2)

    def _copy_up_to(self, offset: int) -> None:
        if offset > self._reached:
            self.segments.append(Copy(self._file, self._reached, offset - self._reached))
            self._reached = offset

    def _serialization_id(
        self, entry: ZipEntry, order: Sequence[ZipEntry], changed: Mapping[str, range]
    ) -> Late:
        names_hash = self._file.read(entry.offset, ID_DIGITS)
        recorded = [self._layout.records_crc(other) for other in order]
        known = [
            (changed.get(other.name) if is_recorded else None, other.crc)
            for other, is_recorded in zip(order, recorded, strict=True)
        ]

        def compute(digests: Sequence[int]) -> bytes:
            drawn = iter(digests)
            crcs = [next(drawn) if span is not None else crc for span, crc in known]
            return names_hash + b"%020d" % combined(crcs)

        of = tuple(span for span, _ in known if span is not None)
        return Late(entry.nbytes, of, compute)


def is_edited(entry: ZipEntry, offsets: Sequence[int]) -> bool:
    """Whether one of some offsets, which are sorted, lies in an entry."""
    at = bisect_left(offsets, entry.offset)
    return at < len(offsets) and offsets[at] < entry.offset + entry.nbytes


def is_id(entry: ZipEntry) -> bool:
    """Whether an entry is a serialization id."""
    return entry.name.endswith("/.data/serialization_id")


def order_of(layout: Layout, before: Sequence[ZipEntry]) -> Sequence[ZipEntry] | None:
    """Return the entries whose CRCs the archive's id combines; None if it is not torch's.

    torch combines those of data descriptors; other tools that pack an archive again write
    none, but keep the id.
    """
    described = [entry for entry in before if entry.has_descriptor]
    if layout.is_skeleton:
        return described
    digits = layout.serialization_id
    if len(digits) != 2 * ID_DIGITS or not digits.isdigit():
        return None
    for order in (described, [entry for entry in before if entry.nbytes]):
        if int(digits[ID_DIGITS:]) == combined([entry.crc for entry in order]):
            return order
    return None


def combined(crcs: Sequence[int]) -> int:
    """Combine CRCs as torch does: boost's hash_combine on 64 bits."""
    combined = 0
    for crc in crcs:
        mixed = crc + 0x9E3779B9 + (combined << 6) + (combined >> 2)
        combined = (combined ^ mixed) & (2**64 - 1)
    return combined


def late_crc(span: range) -> Late:
    """Return the CRC-32 of the segments at such positions."""
    return Late(4, (span,), lambda digests: struct.pack("<I", digests[0]))
