"""Read stored zip archives so that no second reading of them is possible.

    entry      local header, name, extra field (torch pads the data to 64 bytes with it),
               data, and a data descriptor if flag 3 is set
    ...        entries tile the file from byte 0
    directory  a central record for each entry
    end        zip64 end record and its locator where sizes need them (torch always writes
               them), then the end record: the last 22 bytes, without a comment

Readers differ on archives that bend these rules (the first or the last of two entries
with one name, an archive in another's comment), so whatever bends them is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import starmap
from struct import Struct, pack
from typing import Any, NamedTuple, NoReturn

from reinit_cli.errors import MalformedFileError
from reinit_cli.lazy import dataclass
from reinit_cli.storage.reader import Reader
from reinit_cli.text import plural

# PKWARE APPNOTE 6.3.10, sections 4.3.7 to 4.3.16.
_LOCAL = Struct("<4sHHHHHIIIHH")
_CENTRAL = Struct("<4sHHHHHHIIIHHHHHII")
_END = Struct("<4sHHHHIIH")
_END64 = Struct("<4sQHHIIQQQQ")
_LOCATOR64 = Struct("<4sIQI")
_DESCRIPTOR = Struct("<4sIII")
_DESCRIPTOR64 = Struct("<4sIQQ")
_ZIP64_EXTRA = 1
_IN_ZIP64 = 0xFFFFFFFF
_HAS_DESCRIPTOR = 1 << 3
_IS_FOLDER = 1 << 4
"""Of the external attributes, as MS-DOS has them."""
_IS_UTF8 = 1 << 11
_DATE = 1 << 5 | 1
"""The first day of 1980, as MS-DOS has it: the date of what has none."""
_CRC_IN_LOCAL = 14
_CRC_IN_CENTRAL = 16
_CRC_IN_DESCRIPTOR = 4

MAX_ENTRIES = 150_000
MAX_DIRECTORY_NBYTES = 32 * 2**20
"""Beyond what any checkpoint has, and within two seconds and 200 MB."""

_WINDOW_NBYTES = 16 * 2**10
"""What is read together: after an entry's data come its descriptor and the next header."""


# Named tuples: an archive may have a hundred thousand, and dataclasses take four times as long.
class ZipEntry(NamedTuple):
    """One stored entry.

    Attributes:
        name: in full, with its folder.
        offset: where its data starts in the file.
        nbytes: the length of its data.
        crc: the CRC-32 the directory records.
        crc_offsets: where in the file that CRC-32 stands, in 4 bytes each: in the data
            descriptor, or in the local header of an entry without one, and in the
            directory.
        has_descriptor: whether a data descriptor follows the data.
    """

    name: str
    offset: int
    nbytes: int
    crc: int
    crc_offsets: tuple[int, int]
    has_descriptor: bool


class CompressedArchiveError(Exception):
    """An archive that is compressed or encrypted, with the names of its entries."""

    def __init__(self, names: Iterable[bytes]) -> None:
        super().__init__()
        self.names = tuple(name.decode(errors="replace") for name in names)


class _Central(NamedTuple):
    name: bytes
    is_stored: bool
    flags: int
    crc: int
    nbytes: int
    header: int
    at: int


@dataclass(frozen=True, slots=True)
class Directory:
    """Where the central directory of an archive lies.

    Attributes:
        start: its first byte.
        nbytes: its length.
        count: the entries that it has.
        is_zip64: whether a zip64 end record follows it.
        versions: those that the zip64 end record says it was made by and needs.
    """

    start: int
    nbytes: int
    count: int
    is_zip64: bool
    versions: tuple[int, int] = (45, 45)


def read_directory(file: Reader) -> Directory:
    """Return where the central directory of an archive lies.

    Raises:
        MalformedFileError: the archive is damaged or ambiguous.
    """
    start, nbytes, count = _directory(file)
    if file.nbytes - start - nbytes == _END.size:
        return Directory(start, nbytes, count, is_zip64=False)
    fields = _unpack(file, _END64, start + nbytes)
    return Directory(start, nbytes, count, is_zip64=True, versions=fields[2:4])


def header_offsets(entry: ZipEntry) -> tuple[int, int]:
    """Return where the local header of an entry without a descriptor starts, and its record."""
    assert not entry.has_descriptor
    return entry.crc_offsets[0] - _CRC_IN_LOCAL, entry.crc_offsets[1] - _CRC_IN_CENTRAL


def local_header(name: bytes, nbytes: int) -> tuple[bytes, bytes]:
    """Return what stands before a stored entry's data: up to its CRC-32 and after it."""
    packed = _LOCAL.pack(b"PK\3\4", 20, _IS_UTF8, 0, 0, _DATE, 0, nbytes, nbytes, len(name), 0)
    return packed[:_CRC_IN_LOCAL], packed[_CRC_IN_LOCAL + 4 :] + name


def central_record(name: bytes, nbytes: int, header: int) -> tuple[bytes, bytes]:
    """Return an entry's record in the directory: up to its CRC-32 and after it."""
    extra = pack("<HHQ", _ZIP64_EXTRA, 8, header) if header >= _IN_ZIP64 else b""
    packed = _CENTRAL.pack(
        b"PK\1\2", 20, 20, _IS_UTF8, 0, 0, _DATE, 0, nbytes, nbytes,
        len(name), len(extra), 0, 0, 0, 0, min(header, _IN_ZIP64),
    )  # fmt: skip
    return packed[:_CRC_IN_CENTRAL], packed[_CRC_IN_CENTRAL + 4 :] + name + extra


def end_records(directory: Directory) -> bytes:
    """Return what follows a directory, to the end of the file."""
    count, nbytes, start = directory.count, directory.nbytes, directory.start
    is_zip64 = directory.is_zip64 or count >= 0xFFFF or start >= _IN_ZIP64
    end = b""
    if is_zip64:
        length = _END64.size - 12
        numbers = (*directory.versions, 0, 0, count, count, nbytes, start)
        end = _END64.pack(b"PK\6\6", length, *numbers)
        end += _LOCATOR64.pack(b"PK\6\7", 0, start + nbytes, 1)
    short = min(count, 0xFFFF)
    sizes = min(nbytes, _IN_ZIP64), min(start, _IN_ZIP64)
    return end + _END.pack(b"PK\5\6", 0, 0, short, short, *sizes, 0)


def read_entries(file: Reader, *, on_trust: bool = False) -> tuple[ZipEntry, ...]:
    """Return the entries in the order of the file.

    Args:
        file: the archive.
        on_trust: whether the local headers, which lie between the data, are not read: since
            entries tile the file, the directory tells where data start. `check_entries`
            reads them.

    Raises:
        CompressedArchiveError: an entry is not stored as it is.
        MalformedFileError: the archive is damaged or ambiguous.
    """
    start, nbytes, count = _directory(file)
    if count > MAX_ENTRIES or nbytes > MAX_DIRECTORY_NBYTES:
        _refuse(file, f"it has {count:,} entries, whose directory takes {nbytes:,} bytes")
    central = list(_central_records(file, start, nbytes))
    if len(central) != count:
        _refuse(file, f"its directory has {len(central)} entries and says {count}")
    names = {record.name.lower() for record in central}
    if len(names) != len(central):
        _refuse(file, "two entries have one name")
    if not all(record.is_stored for record in central):
        raise CompressedArchiveError([record.name for record in central])
    central.sort(key=lambda record: record.header)
    if on_trust:
        ends = [*(record.header for record in central[1:]), start]
        return tuple(starmap(partial(_entry_on_trust, file), zip(central, ends, strict=False)))
    entries = []
    window = _Window(file)
    reached = 0
    for record in central:
        if record.header != reached:
            _refuse(file, f"the entry {record.name!r} does not follow the one before it")
        entry, reached = _entry(window, record)
        entries.append(entry)
    if reached != start:
        _refuse(file, "there are bytes between its entries and its directory")
    return tuple(entries)


def check_entries(file: Reader, entries: Sequence[ZipEntry]) -> None:
    """Compare entries that were taken on trust with what the archive says of them elsewhere.

    Raises:
        MalformedFileError: it says something else.
    """
    starts = [0, *(entry.offset + entry.nbytes for entry in entries[:-1])]
    file.gather((start, entry.offset) for start, entry in zip(starts, entries, strict=False))
    if read_entries(file) != tuple(entries):
        _refuse(file, "its entries differ from its directory")


def _directory(file: Reader) -> tuple[int, int, int]:
    """Return where the central directory starts, its length, and its count of entries."""
    if file.nbytes < _END.size:
        _refuse(file, "it is too short for a zip archive")
    at = file.nbytes - _END.size
    magic, disk, first_disk, here, count, nbytes, start, comment = _unpack(file, _END, at)
    if magic != b"PK\5\6" or comment:
        _refuse_end(file)
    if disk or first_disk or here != count:
        _refuse(file, "it is truncated: the end of the archive is missing")
    locator_at = at - _LOCATOR64.size
    if locator_at >= 0:
        magic, disk, end64_at, disks = _unpack(file, _LOCATOR64, locator_at)
        if magic == b"PK\6\7":
            if disk or disks != 1 or end64_at + _END64.size != locator_at:
                _refuse(file, "its zip64 end record is not where it should be")
            return _directory64(file, end64_at)
    if start + nbytes != at:
        _refuse(file, "there are bytes between its directory and its end")
    return start, nbytes, count


def _refuse_end(file: Reader) -> NoReturn:
    """Say why a file does not end with the record that ends an archive."""
    nbytes = min(file.nbytes, _END.size + 0xFFFF)
    tail = file.read(file.nbytes - nbytes, nbytes)
    found = tail.rfind(b"PK\5\6")
    if found < 0:
        _refuse(file, "it is cut off: the end of the archive, its directory, is missing")
    at = file.nbytes - nbytes + found
    more = file.nbytes - at - _END.size
    if more > 0 and _follows_directory(file, at):
        _refuse(file, f"it ends {plural(more, 'byte')} before the file does")
    _refuse(file, "it is truncated: the end of the archive is missing")


def _follows_directory(file: Reader, at: int) -> bool:
    """Whether an end record stands where a directory ends."""
    *_, nbytes, start, _ = _unpack(file, _END, at)
    return start + nbytes == at or file.read(max(at - _LOCATOR64.size, 0), 4) == b"PK\6\7"


def _directory64(file: Reader, at: int) -> tuple[int, int, int]:
    magic, length, _, _, disk, first_disk, here, count, nbytes, start = _unpack(file, _END64, at)
    whole = magic == b"PK\6\6" and length == _END64.size - 12
    if not whole or disk or first_disk or here != count or start + nbytes != at:
        _refuse(file, "its zip64 end record is wrong")
    return start, nbytes, count


def _central_records(file: Reader, start: int, nbytes: int) -> Iterator[_Central]:
    data = _read(file, start, nbytes)
    at = 0
    while at < nbytes:
        if at + _CENTRAL.size > nbytes:
            _refuse(file, "its directory is cut off")
        fields = _CENTRAL.unpack_from(data, at)
        magic, flags, method, crc = fields[0], fields[3], fields[4], fields[7]
        packed, size, name_length, extra_length, comment_length = fields[8:13]
        disk, attributes, header = fields[13], fields[15], fields[16]
        name_at = at + _CENTRAL.size
        extra_at = name_at + name_length
        end = extra_at + extra_length + comment_length
        if magic != b"PK\1\2" or end > nbytes or disk or comment_length:
            _refuse(file, "its directory is damaged")
        name = data[name_at:extra_at]
        is_stored = not method and not flags & ~(_HAS_DESCRIPTOR | 1 << 11)
        if _IN_ZIP64 in (size, packed, header):
            wide = _zip64_values(file, data[extra_at : extra_at + extra_length])
            size = next(wide) if size == _IN_ZIP64 else size
            packed = next(wide) if packed == _IN_ZIP64 else packed
            header = next(wide) if header == _IN_ZIP64 else header
        if is_stored and size != packed:
            _refuse(file, f"the entry {name!r} has two sizes")
        if size and (name.endswith(b"/") or attributes & _IS_FOLDER):
            # torch takes it for a folder then, and its data for whatever lies in memory.
            _refuse(file, f"the entry {name!r} is a folder with data")
        yield _Central(name, is_stored, flags, crc, size, header, start + at)
        at = end


def _zip64_values(file: Reader, extra: bytes) -> Iterator[int]:
    """Yield the 64-bit fields that an extra field holds instead of 32-bit ones."""
    at = 0
    while at + 4 <= len(extra):
        kind = int.from_bytes(extra[at : at + 2], "little")
        length = int.from_bytes(extra[at + 2 : at + 4], "little")
        if kind == _ZIP64_EXTRA:
            field = extra[at + 4 : at + 4 + length]
            for start in range(0, len(field) - 7, 8):
                yield int.from_bytes(field[start : start + 8], "little")
        at += 4 + length
    _refuse(file, "a zip64 size is missing")


def _entry_on_trust(file: Reader, record: _Central, end: int) -> ZipEntry:
    """Return an entry that ends where the next one starts."""
    has_descriptor = bool(record.flags & _HAS_DESCRIPTOR)
    wide = record.nbytes >= _IN_ZIP64 or record.header >= _IN_ZIP64
    descriptor = _DESCRIPTOR64 if wide else _DESCRIPTOR
    end_of_data = end - descriptor.size * has_descriptor
    offset = end_of_data - record.nbytes
    if offset < record.header + _LOCAL.size + len(record.name):
        _refuse(file, f"the entry {record.name!r} overlaps the one after it")
    crc_at = end_of_data + _CRC_IN_DESCRIPTOR if has_descriptor else record.header + _CRC_IN_LOCAL
    crc_offsets = (crc_at, record.at + _CRC_IN_CENTRAL)
    text = _text(file, record.name)
    return ZipEntry(text, offset, record.nbytes, record.crc, crc_offsets, has_descriptor)


def _text(file: Reader, name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        _refuse(file, f"the name {name!r} is not UTF-8")


class _Window:
    """What was read last of a file, for what is read next."""

    def __init__(self, file: Reader) -> None:
        self.file = file
        self._nbytes = 0 if file.is_distant else _WINDOW_NBYTES
        self._start = 0
        self._data = b""

    def read(self, at: int, nbytes: int) -> bytes:
        """Return those bytes of the file."""
        start = at - self._start
        if start < 0 or start + nbytes > len(self._data):
            left = self.file.nbytes - at
            self._data = _read(self.file, at, max(nbytes, min(left, self._nbytes)))
            self._start, start = at, 0
        return self._data[start : start + nbytes]


def _entry(window: _Window, record: _Central) -> tuple[ZipEntry, int]:
    """Return an entry whose local header agrees with the directory, and where it ends."""
    file = window.file
    header = window.read(record.header, _LOCAL.size + len(record.name))
    fields = _LOCAL.unpack_from(header)
    magic, flags, method = fields[0], fields[2], fields[3]
    crc, name_length, extra_length = fields[6], fields[9], fields[10]
    offset = record.header + _LOCAL.size + name_length + extra_length
    has_descriptor = bool(flags & _HAS_DESCRIPTOR)
    name = header[_LOCAL.size :]
    if (
        name_length != len(name)
        or magic != b"PK\3\4"
        or method
        or flags != record.flags
        or name != record.name
    ):
        _refuse(file, f"the entry {record.name!r} differs from the directory")
    text = _text(file, name)
    end = offset + record.nbytes
    crc_at = record.header + _CRC_IN_LOCAL
    if has_descriptor:
        crc_at = end + _CRC_IN_DESCRIPTOR
        wide = record.nbytes >= _IN_ZIP64 or record.header >= _IN_ZIP64
        descriptor = _DESCRIPTOR64 if wide else _DESCRIPTOR
        magic, crc, packed, size = descriptor.unpack(window.read(end, descriptor.size))
        if magic != b"PK\7\x08" or packed != record.nbytes or size != record.nbytes:
            _refuse(file, f"the entry {text!r} has a descriptor that differs")
        end += descriptor.size
    if crc != record.crc:
        _refuse(file, f"the entry {text!r} has two CRCs")
    crc_offsets = (crc_at, record.at + _CRC_IN_CENTRAL)
    return ZipEntry(text, offset, record.nbytes, crc, crc_offsets, has_descriptor), end


def _unpack(file: Reader, layout: Struct, at: int) -> tuple[Any, ...]:
    return layout.unpack(_read(file, at, layout.size))


def _read(file: Reader, at: int, nbytes: int) -> bytes:
    if at < 0 or at + nbytes > file.nbytes:
        _refuse(file, "an entry lies outside the file")
    return file.read(at, nbytes)


def _refuse(file: Reader, problem: str) -> NoReturn:
    raise MalformedFileError(file.path, problem, "zip archive")
