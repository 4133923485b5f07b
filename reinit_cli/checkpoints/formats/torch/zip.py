"""torch's zip archives (`torch.save` since 1.6): where tensors lie, and laying out a new one.

    NAME/data.pkl                     the pickled object; tensors in it name their storages
    NAME/.format_version, .storage_alignment, byteorder
    NAME/data/0 ... n                 the storages, aligned to 64 bytes
    NAME/version
    NAME/.data/serialization_id       40 digits: a hash of the names, a hash of the CRCs

torch itself writes the archive with holes in place of the storages (`skip_data`), which
takes kilobytes of a sparse file whatever its size. The holes are then filled and what
depends on them is mended, so that the whole is what `torch.save` would have written.
"""

from __future__ import annotations

import os
import pickle
import struct
import tempfile
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import accumulate
from typing import Any

from reinit_cli.checkpoints.formats.base import MAX_RECORD_NBYTES, Edits, Located, Recorded, spliced
from reinit_cli.checkpoints.formats.torch.archive import (
    CompressedArchiveError,
    Directory,
    ZipEntry,
    central_record,
    end_records,
    header_offsets,
    local_header,
    read_directory,
    read_entries,
)
from reinit_cli.checkpoints.formats.torch.pickle_machine import read_pickle
from reinit_cli.checkpoints.formats.torch.state_dict import (
    Storage,
    contents_of,
    starts_of,
    unknown_names,
)
from reinit_cli.errors import MalformedFileError, UnsupportedFormatError
from reinit_cli.storage.crc32 import crc32
from reinit_cli.storage.local import InputFile
from reinit_cli.storage.segments import Check, Copy, Late, Literal, Reserved, Segment

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")

RECORD = "reinit.json"
"""The entry that is a file's record of its own making; torch reads entries by their names."""

_ID_DIGITS = 20
"""The digits of each half of a serialization id, enough for 64 bits."""


def locate(file: InputFile, root: str | None = None) -> Located:
    """Find the tensors of an archive.

    Args:
        file: the file.
        root: the path of the state dict in what the archive holds; None to look for it.

    Raises:
        MalformedFileError, UnsupportedFormatError, UnknownNameError: as they say.
    """
    try:
        entries = {entry.name: entry for entry in read_entries(file)}
    except CompressedArchiveError as error:
        _refuse_others(file, error.names)
        raise UnsupportedFormatError(file.path, "a compressed or encrypted zip archive") from None
    _refuse_others(file, entries)
    folder = next(iter(entries), "").partition("/")[0]
    pickled = entries.get(f"{folder}/data.pkl")
    if pickled is None:
        raise UnsupportedFormatError(file.path, "a zip archive that torch.save did not write")
    if any(not name.startswith(f"{folder}/") for name in entries):
        raise MalformedFileError(file.path, "its entries lie in several folders", "torch archive")
    byteorder = entries.get(f"{folder}/byteorder")
    if byteorder is not None and file.read(byteorder.offset, byteorder.nbytes) != b"little":
        raise UnsupportedFormatError(file.path, "an archive of big-endian numbers")
    end = pickled.offset + pickled.nbytes
    pickle_ = read_pickle(file, pickled.offset, end)
    if pickle_.end != end:
        raise MalformedFileError(file.path, "something follows its pickle", "torch archive")
    found = contents_of(pickle_, file.path, root)
    offsets = _storage_offsets(file, folder, entries, found.storages)
    layout_ = _layout_of(file, tuple(entries.values()))
    return Located(
        "torch zip",
        tuple(found.tensors),
        starts_of((*found.tensors, *found.outside), offsets),
        layout_,
        root=found.root,
        outside=tuple(found.outside),
        rest=tuple(found.rest),
        attributes=tuple(found.attributes),
        unknown_names=unknown_names(pickle_),
        notes=tuple(found.notes),
        optimizers=tuple(found.optimizers),
        has_record=layout_.record_entry is not None,
    )


def _refuse_others(file: InputFile, names: Iterable[str]) -> None:
    within = {name.partition("/")[2] for name in names}
    if "constants.pkl" in within:
        raise UnsupportedFormatError(file.path, "a TorchScript archive")
    if within & {"archive_format", "models/model.json"}:
        raise UnsupportedFormatError(file.path, "an exported program (.pt2)")


def _storage_offsets(
    file: InputFile, folder: str, entries: Mapping[str, ZipEntry], storages: Mapping[str, Storage]
) -> dict[str, int]:
    """Return where each storage starts in the file."""
    offsets = {}
    for storage in storages.values():
        entry = entries.get(f"{folder}/data/{storage.key}")
        if entry is None or entry.nbytes != storage.nbytes:
            problem = f"its storage {storage.key!r} is missing or has another size"
            raise MalformedFileError(file.path, problem, "torch archive")
        offsets[storage.key] = entry.offset
    return offsets


def _layout_of(file: InputFile, entries: tuple[ZipEntry, ...]) -> ZipLayout:
    found = next((entry for entry in entries if _is_id(entry)), None)
    if found is None or found.nbytes != 2 * _ID_DIGITS:
        return ZipLayout(entries)
    return ZipLayout(entries, file.read(found.offset, found.nbytes))


def find_record(file: InputFile, layout: ZipLayout) -> Recorded | None:
    """Return the record that an archive holds, or None.

    Raises:
        MalformedFileError: its CRC-32 does not match, or it is no text.
    """
    entry = layout.record_entry
    if entry is None:
        return None
    if entry.nbytes > MAX_RECORD_NBYTES:
        raise MalformedFileError(file.path, "its record is too large", "torch archive")
    data = file.read(entry.offset, entry.nbytes)
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if crc32(data) != entry.crc or not text:
        raise MalformedFileError(file.path, "its record is damaged", "torch archive")
    crcs = ((at, at + 4) for at in entry.crc_offsets)
    return Recorded(text, ((entry.offset, entry.offset + entry.nbytes), *crcs))


def layout(
    state: Mapping[str, Any],
    contents: Mapping[str, Sequence[Segment]],
    name: str,
    record: str = "",
) -> list[Segment]:
    """Return the segments of an archive that holds a state dict.

    Args:
        state: the object as `torch.save` takes it. Its tensors' values are used only
            where `contents` says nothing of them.
        contents: for a key, the bytes of its tensor, which is its storage's only one or
            equal to the others.
        name: the file's name, whose stem is the archive's folder.
        record: a text as long as the record for which room is kept; "" for none.
    """
    storages = _storages(state)
    by_storage = {state[key].untyped_storage()._cdata: parts for key, parts in contents.items()}
    with tempfile.TemporaryDirectory(prefix="reinit-") as folder:
        path = os.path.join(folder, name)
        _save_skeleton(state, path, has_data=len(contents) < len(state))
        with InputFile(path) as skeleton:
            entries = read_entries(skeleton)
            data: dict[int, Segment] = {}
            for entry, storage in zip(_data_entries(entries), storages, strict=True):
                parts = by_storage.get(storage._cdata) or (_bytes_of_storage(storage),)
                starts = accumulate((part.nbytes for part in parts), initial=entry.offset)
                data |= {at: part for at, part in zip(starts, parts, strict=False) if part.nbytes}
            laid = replace(_layout_of(skeleton, entries), is_skeleton=True)
            segments = laid.patched(skeleton, data, record)
            return [_in_memory(segment) for segment in segments]


def _in_memory(segment: Segment) -> Segment:
    """Keep what is copied of the skeleton, which is about to go."""
    if isinstance(segment, Copy):
        return Literal(segment.file.read(segment.offset, segment.nbytes))
    return segment


def _save_skeleton(state: Mapping[str, Any], path: str, *, has_data: bool) -> None:
    """Save the object without its data, or with it where torch insists.

    It does for quantised tensors, which are small and lie in memory.
    """
    import torch

    with nullcontext() if has_data else torch.serialization.skip_data():
        torch.save(state, path)


def _storages(state: Mapping[str, Any]) -> list[Any]:
    """Return the storages of an object in the order in which pickling meets them.

    torch numbers them so.
    """
    import torch

    class Recorder(pickle.Pickler):
        def __init__(self) -> None:
            super().__init__(BytesIO(), protocol=2)
            self.found: dict[int, Any] = {}

        def persistent_id(self, obj: Any) -> str | None:
            if not torch.is_storage(obj) and not isinstance(obj, torch.storage.TypedStorage):
                return None
            storage = getattr(obj, "_untyped_storage", obj)
            self.found.setdefault(storage._cdata, storage)
            return "storage"

    recorder = Recorder()
    recorder.dump(state)
    return list(recorder.found.values())


def _bytes_of_storage(storage: Any) -> Literal:
    import torch

    from reinit_cli.tensors.convert import bytes_of

    flat = torch.empty(0, dtype=torch.uint8).set_(storage)
    return Literal(bytes_of(flat))


def _data_entries(entries: Sequence[ZipEntry]) -> list[ZipEntry]:
    found = [entry for entry in entries if "/data/" in entry.name]
    return sorted(found, key=lambda entry: int(entry.name.rpartition("/")[2]))


@dataclass(frozen=True, slots=True)
class ZipLayout:
    """An archive whose CRCs and serialization id follow its entries.

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
        """The entry that is a record of the file's making: the last, as we write it."""
        last = self.entries[-1] if self.entries else None
        if last is None or last.name != f"{self.folder}/{RECORD}" or last.has_descriptor:
            return None
        is_last = last.crc_offsets[1] == max(entry.crc_offsets[1] for entry in self.entries)
        return last if is_last else None

    def records_crc(self, entry: ZipEntry) -> bool:
        """Whether the CRC of an entry is kept: torch can be told to write 0 instead."""
        return self.is_skeleton or entry.crc != 0

    def checks(self, file: InputFile) -> list[Check]:
        """Return a check of every storage, and of the pickle."""
        return [_check(file, entry) for entry in self.entries if entry.nbytes]

    def patched(self, file: InputFile, edits: Edits, record: str = "") -> list[Segment]:
        """Return the archive with some bytes of its entries replaced, and another record."""
        return _Assembly(file, self, edits, record).segments


def _check(file: InputFile, entry: ZipEntry) -> Check:
    return Check(file, entry.offset, entry.nbytes, entry.crc, entry.name)


class _Assembly:
    """Puts segments into an archive and mends what depends on them."""

    def __init__(self, file: InputFile, layout: ZipLayout, edits: Edits, record: str) -> None:
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
            if self._is_edited(entry):
                changed[entry.name] = self._put_edited(entry)
            elif _is_id(entry) and changed and (order := _order_of(layout, before)) is not None:
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
        """Put a record behind the entries, in the place of another; return where it starts."""
        self._copy_up_to(header_offsets(old)[0] if old is not None else directory.start)
        start = self._reached
        self._reached = directory.start
        if record:
            before, behind = local_header(self._record_name, len(record))
            parts = Literal(before), Reserved(4, "crc"), Literal(behind)
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
            before, behind = central_record(self._record_name, len(record), header)
            self.segments += (Literal(before), Reserved(4, "crc"), Literal(behind))
            count += 1
            nbytes += len(before) + 4 + len(behind)
            start += sum(map(len, local_header(self._record_name, len(record)))) + 4 + len(record)
        self.segments.append(
            Literal(end_records(replace(directory, start=start, nbytes=nbytes, count=count)))
        )

    @property
    def _record_name(self) -> bytes:
        return f"{self._layout.folder}/{RECORD}".encode()

    def _is_edited(self, entry: ZipEntry) -> bool:
        at = bisect_left(self._offsets, entry.offset)
        return at < len(self._offsets) and self._offsets[at] < entry.offset + entry.nbytes

    def _put_edited(self, entry: ZipEntry) -> range:
        end = entry.offset + entry.nbytes
        at = bisect_left(self._offsets, entry.offset)
        behind = bisect_left(self._offsets, end)
        edits = {offset: self._edits[offset] for offset in self._offsets[at:behind]}
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
            self._insert(entry.crc_offsets[which], [_late_crc(changed[entry.name])])

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
            _late_crc(range(span.start + 2, span.stop + 2)),
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
        names_hash = self._file.read(entry.offset, _ID_DIGITS)
        recorded = [self._layout.records_crc(other) for other in order]
        known = [
            (changed.get(other.name) if is_recorded else None, other.crc)
            for other, is_recorded in zip(order, recorded, strict=True)
        ]

        def compute(digests: Sequence[int]) -> bytes:
            drawn = iter(digests)
            crcs = [next(drawn) if span is not None else crc for span, crc in known]
            return names_hash + b"%020d" % _combined(crcs)

        of = tuple(span for span, _ in known if span is not None)
        return Late(entry.nbytes, of, compute)


def _is_id(entry: ZipEntry) -> bool:
    return entry.name.endswith("/.data/serialization_id")


def _order_of(layout: ZipLayout, before: Sequence[ZipEntry]) -> Sequence[ZipEntry] | None:
    """Return the entries whose CRCs the archive's id combines; None if it is not torch's.

    torch combines those of data descriptors; other tools that pack an archive anew write
    none, but keep the id.
    """
    described = [entry for entry in before if entry.has_descriptor]
    if layout.is_skeleton:
        return described
    digits = layout.serialization_id
    if len(digits) != 2 * _ID_DIGITS or not digits.isdigit():
        return None
    for order in (described, [entry for entry in before if entry.nbytes]):
        if int(digits[_ID_DIGITS:]) == _combined([entry.crc for entry in order]):
            return order
    return None


def _combined(crcs: Sequence[int]) -> int:
    """Combine CRCs as torch does: boost's hash_combine on 64 bits."""
    combined = 0
    for crc in crcs:
        mixed = crc + 0x9E3779B9 + (combined << 6) + (combined >> 2)
        combined = (combined ^ mixed) & (2**64 - 1)
    return combined


def _late_crc(span: range) -> Late:
    return Late(4, (span,), lambda digests: struct.pack("<I", digests[0]))
