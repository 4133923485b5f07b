"""Write the headers of stored zip entries again, for other places and lengths.

They keep what they say besides: the versions, the date, the attributes. What torch wrote is
written as torch writes it: the extra field "FB" pads the data of an entry, zip64 sizes stand
before it, and the local header leaves sizes and CRC-32 to the descriptor after the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from struct import Struct, pack
from typing import NamedTuple

from reinit_cli.checkpoints.formats.torch.files.archive import Directory, ZipEntry
from reinit_cli.lazy import dataclass
from reinit_cli.storage.reader import Reader

_HEADER_NBYTES = 30
_RECORD_NBYTES = 46
_IN_ZIP64 = 0xFFFFFFFF
_HAS_DESCRIPTOR = 1 << 3
_ZIP64_EXTRA = 1
_PADDING_EXTRA = 0x4246  # "FB", after Facebook (caffe2/serialize/inline_container.cc)

_LENGTHS = Struct("<HH").unpack_from
_NAME_IN_LOCAL, _NAME_IN_CENTRAL = 26, 28
_HEADER_IN_CENTRAL = 42


class Written(NamedTuple):
    """What an archive says of an entry besides its data.

    Attributes:
        local: the fixed part of its local header.
        extra: the extra fields after it.
        central: the fixed part of its record in the directory.
        central_extra: the extra fields there.
    """

    local: bytes
    extra: bytes
    central: bytes
    central_extra: bytes

    @property
    def is_padded(self) -> bool:
        """Whether the data of the entry is aligned, as torch does it."""
        return any(kind == _PADDING_EXTRA for kind, _ in _fields(self.extra))


@dataclass(frozen=True, slots=True)
class Placed:
    """An entry at its place in a new archive.

    Attributes:
        written: what the archive said of it, or of one like it.
        name: in full.
        start: where its local header starts.
        nbytes: the length of its data.
        has_descriptor: whether a descriptor follows the data.
        alignment: of what the data starts at a multiple, where it is padded.
    """

    written: Written
    name: bytes
    start: int
    nbytes: int
    has_descriptor: bool
    alignment: int

    def local(self) -> tuple[bytes, bytes]:
        """Return the local header: up to its CRC-32 and after it."""
        header, extra = self.written.local, self._local_extra()
        size = 0 if self.has_descriptor else min(self.nbytes, _IN_ZIP64)
        sizes = pack("<II", size, size)
        lengths = pack("<HH", len(self.name), len(extra))
        after = sizes + lengths + self.name + extra
        return header[:6] + self._flags(header, 6) + header[8:14], after

    def descriptor(self) -> tuple[bytes, bytes]:
        """Return what follows the data: up to its CRC-32 and after it."""
        if not self.has_descriptor:
            return b"", b""
        is_wide = self.nbytes >= _IN_ZIP64 or self.start >= _IN_ZIP64
        return b"PK\7\x08", pack("<QQ" if is_wide else "<II", self.nbytes, self.nbytes)

    def central(self) -> tuple[bytes, bytes]:
        """Return the record in the directory: up to its CRC-32 and after it."""
        record = self.written.central
        others = b"".join(_others(self.written.central_extra))
        extra = self._zip64(self.nbytes) + others
        size = min(self.nbytes, _IN_ZIP64)
        after = (
            pack("<IIHH", size, size, len(self.name), len(extra))
            + record[32:_HEADER_IN_CENTRAL]
            + pack("<I", min(self.start, _IN_ZIP64))
            + self.name
            + extra
        )
        return record[:8] + self._flags(record, 8) + record[10:16], after

    def _flags(self, header: bytes, at: int) -> bytes:
        flags = int.from_bytes(header[at : at + 2], "little") & ~_HAS_DESCRIPTOR
        return pack("<H", flags | _HAS_DESCRIPTOR * self.has_descriptor)

    def _local_extra(self) -> bytes:
        others = b"".join(_others(self.written.extra))
        if not self.written.is_padded:
            is_large = self.nbytes >= _IN_ZIP64
            return (pack("<HHQQ", _ZIP64_EXTRA, 16, self.nbytes, self.nbytes) * is_large) + others
        # The packed size is not known yet where torch writes this.
        sizes = self._zip64(0) + others
        start = self.start + _HEADER_NBYTES + len(self.name) + len(sizes) + 4
        padding = -start % self.alignment
        return sizes + pack("<HH", _PADDING_EXTRA, padding) + b"Z" * padding

    def _zip64(self, packed_nbytes: int) -> bytes:
        """Return the extra field of what takes 64 bits; b"" where nothing does."""
        sizes = pack("<QQ", self.nbytes, packed_nbytes) if self.nbytes >= _IN_ZIP64 else b""
        start = pack("<Q", self.start) if self.start >= _IN_ZIP64 else b""
        both = sizes + start
        return pack("<HH", _ZIP64_EXTRA, len(both)) + both if both else b""


def written_of(
    file: Reader, directory: Directory, entries: Sequence[ZipEntry]
) -> Mapping[str, Written]:
    """Return what an archive says of each of its entries, by name."""
    central = file.read(directory.start, directory.nbytes)
    reached = 0
    found: dict[str, Written] = {}
    for entry in entries:
        at = entry.crc_offsets[1] - 16 - directory.start
        record = central[at : at + _RECORD_NBYTES]
        name_nbytes, extra_nbytes = _LENGTHS(record, _NAME_IN_CENTRAL)
        extra_at = at + _RECORD_NBYTES + name_nbytes
        local = file.read(reached, entry.offset - reached)
        extra = local[_HEADER_NBYTES + name_nbytes :]
        found[entry.name] = Written(
            local[:_HEADER_NBYTES], extra, record, central[extra_at : extra_at + extra_nbytes]
        )
        reached = _end_of(entry, reached)
    return found


def _end_of(entry: ZipEntry, start: int) -> int:
    """Return where the next entry starts; entries follow each other without gaps."""
    if not entry.has_descriptor:
        return entry.offset + entry.nbytes
    is_wide = entry.nbytes >= _IN_ZIP64 or start >= _IN_ZIP64
    return entry.offset + entry.nbytes + (24 if is_wide else 16)


def _fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the extra fields, each with its kind."""
    at = 0
    while at + 4 <= len(extra):
        kind, nbytes = _LENGTHS(extra, at)
        yield kind, extra[at : at + 4 + nbytes]
        at += 4 + nbytes


def _others(extra: bytes) -> Iterator[bytes]:
    """Yield the extra fields that do not depend on places and lengths."""
    return (field for kind, field in _fields(extra) if kind not in (_ZIP64_EXTRA, _PADDING_EXTRA))
