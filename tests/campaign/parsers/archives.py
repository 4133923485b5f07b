"""Fuzz what lies around the pickles of torch files: zip archives, and the format before 1.6."""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.campaign.parsers.pickles import mutated, written_by_torch
from tests.campaign.parsers.programs import NUMBERS
from tests.campaign.parsers.readings import examine_all
from tests.campaign.server import Servers
from tests.campaign.tally import Tally


def run(random: Random, count: int, place: Path, servers: Servers) -> Tally:
    """List the keys of odd archives, and compare them with what torch reads."""
    tally = Tally()
    zips = written_by_torch(place)
    old = written_by_torch(place, _use_new_zipfile_serialization=False)
    examine_all(_inputs(random, count, place, zips, old), servers, tally)
    return tally


def _inputs(
    random: Random, count: int, place: Path, zips: list[bytes], old: list[bytes]
) -> Iterator[tuple[str, Path]]:
    for at in range(count):
        seed = random.getrandbits(48)
        inner = Random(seed)
        path = place / f"{at % 100}.pt"
        if inner.randrange(4):
            path.write_bytes(odd_archive(inner, inner.choice(zips)))
            yield f"archives.odd_archive(Random({seed}))", path
        else:
            path.write_bytes(odd_legacy(inner, inner.choice(old)))
            yield f"archives.odd_legacy(Random({seed}))", path


@dataclass(slots=True)
class _Entry:
    """An entry as it is written: each field may say something else than the others.

    Attributes:
        name: in the directory.
        data: what is stored.
        local: the name in front of the data, or None for the same.
        flags, method, attributes: as in the directory.
        local_flags: those in front of the data, or None for the same.
        crc: what is said to be the CRC-32, or None for what it is.
        nbytes: the length in the directory, or None for what it is.
        local_nbytes: the length in front of the data.
        extra: the extra field in the directory.
        local_extra: the one in front of the data.
        descriptor: the layout of what follows the data, or "".
        in_zip64: whether the directory has 64-bit lengths.
        comment: the comment in the directory.
        shift: what is added to where the directory says that it starts.
        gap: bytes in front of it.
    """

    name: bytes
    data: bytes
    local: bytes | None = None
    flags: int = 0
    method: int = 0
    attributes: int = 0
    local_flags: int | None = None
    crc: int | None = None
    nbytes: int | None = None
    local_nbytes: int | None = None
    extra: bytes = b""
    local_extra: bytes = b""
    descriptor: str = ""
    in_zip64: bool = False
    comment: bytes = b""
    shift: int = 0
    gap: bytes = b""


@dataclass(slots=True)
class _Archive:
    """An archive as it is written.

    Attributes:
        entries: in the order of the file.
        directory: their positions in the order of the directory.
        comment: what follows the end.
        start, end: bytes before and after the whole.
        count: what is added to the number of entries.
        shift: what is added to where the directory starts.
        is_zip64: whether there is a zip64 end record.
        shift64: what is added to where that says that the directory starts.
    """

    entries: list[_Entry]
    directory: list[int] = field(default_factory=list)
    comment: bytes = b""
    start: bytes = b""
    end: bytes = b""
    count: int = 0
    shift: int = 0
    is_zip64: bool = False
    shift64: int = 0

    def written(self) -> bytes:
        """Return the bytes."""
        file = bytearray(self.start)
        at = []
        for each in self.entries:
            file += each.gap
            at.append(len(file))
            file += _local(each)
        start = len(file)
        for position in self.directory:
            file += _central(self.entries[position], at[position])
        nbytes, count = len(file) - start, len(self.directory) + self.count
        if self.is_zip64:
            numbers = (44, 45, 45, 0, 0, count, count, nbytes, start + self.shift64)
            record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", *numbers)
            file += record + struct.pack("<4sIQI", b"PK\6\7", 0, start + nbytes, 1)
        short = count % 2**16, count % 2**16, nbytes, (start + self.shift) % 2**32
        file += struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, *short, len(self.comment))
        return bytes(file + self.comment + self.end)


def _local(entry: _Entry) -> bytes:
    name = entry.name if entry.local is None else entry.local
    crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
    nbytes = len(entry.data)
    shown = nbytes if entry.local_nbytes is None else entry.local_nbytes
    flags = entry.flags if entry.local_flags is None else entry.local_flags
    numbers = (20, flags, entry.method, 0, 33, crc, shown % 2**32, shown % 2**32)
    lengths = len(name), len(entry.local_extra)
    header = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", *numbers, *lengths)
    after = (
        struct.pack(entry.descriptor, b"PK\7\x08", crc, nbytes, nbytes) if entry.descriptor else b""
    )
    return header + name + entry.local_extra + entry.data + after


def _central(entry: _Entry, at: int) -> bytes:
    crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
    nbytes = len(entry.data) if entry.nbytes is None else entry.nbytes
    start = at + entry.shift
    extra = entry.extra
    sizes = nbytes % 2**32, nbytes % 2**32, start % 2**32
    if entry.in_zip64:
        sizes = 2**32 - 1, 2**32 - 1, 2**32 - 1
        extra = struct.pack("<HHQQQ", 1, 24, nbytes % 2**64, nbytes % 2**64, start % 2**64) + extra
    numbers = (20, 20, entry.flags, entry.method, 0, 33, crc, *sizes[:2])
    lengths = len(entry.name), len(extra), len(entry.comment), 0, 0, entry.attributes, sizes[2]
    header = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", *numbers, *lengths)
    return header + entry.name + extra + entry.comment


def odd_archive(random: Random, base: bytes) -> bytes:
    """Return what torch wrote, in an archive that is odd in one or a few ways."""
    with zipfile.ZipFile(io.BytesIO(base)) as archive:
        entries = [_Entry(name.encode(), archive.read(name)) for name in archive.namelist()]
    made = _Archive(entries, list(range(len(entries))))
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        random.choice(_ODDITIES)(random, made)
    data = made.written()
    if not random.randrange(6):
        data = _spoiled(random, data)
    return data


def _spoiled(random: Random, data: bytes) -> bytes:
    """Return bytes of which a few are others, or which are cut off."""
    spoiled = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(spoiled))
        match random.randrange(3):
            case 0:
                spoiled[at] ^= 1 << random.randrange(8)
            case 1:
                width = random.choice((1, 2, 4, 8))
                spoiled[at : at + width] = (random.choice(NUMBERS) % 2 ** (8 * width)).to_bytes(
                    width, "little"
                )
            case _:
                del spoiled[random.choice((at, len(spoiled) - 1)) :]
                spoiled = spoiled or bytearray(b"PK\3\4")
    return bytes(spoiled)


def _entry_of(random: Random, archive: _Archive) -> _Entry:
    return random.choice(archive.entries)


def _add(archive: _Archive, entry: _Entry, random: Random) -> None:
    archive.entries.insert(random.randrange(len(archive.entries) + 1), entry)
    archive.directory = list(range(len(archive.entries)))


def _twice(random: Random, archive: _Archive) -> None:
    one = _entry_of(random, archive)
    data = random.choice((one.data, one.data[::-1]))
    name = random.choice((one.name, one.name.swapcase(), one.name.upper(), one.name + b"\0"))
    _add(archive, _Entry(name, data), random)


def _renamed(random: Random, archive: _Archive) -> None:
    one = _entry_of(random, archive)
    folder, _, rest = one.name.partition(b"/")
    names = (
        *(one.name.upper(), folder.upper() + b"/" + rest, folder + b"//" + rest, b"/" + one.name),
        *(one.name.replace(b"/", b"\\"), b"./" + one.name, folder + b"/x/../" + rest, rest, b""),
        *(one.name + b"/", folder + b"/" + rest + b"\0x", folder + b"\xff/" + rest),
    )
    one.name = random.choice(names)


def _named_apart(random: Random, archive: _Archive) -> None:
    one = _entry_of(random, archive)
    one.local = random.choice((one.name.upper(), one.name[::-1], one.name + b"x", b"", one.name))


def _more(random: Random, archive: _Archive) -> None:
    folder = archive.entries[0].name.partition(b"/")[0]
    entries = (
        *((b"byteorder", b"big"), (b"BYTEORDER", b"big"), (b"byteorder", b"little")),
        *((b"constants.pkl", b"N."), (b"version", b"99\n"), (b".data/version", b"1\n")),
        *((b"data/", b""), (b"data/9", b"x" * 64), (b"data/0", b"x" * 24), (b"Data.pkl", b"N.")),
        *((b".format_version", b"9"), (b".storage_alignment", b"1"), (b"reinit.json", b"{}")),
    )
    name, data = random.choice(entries)
    _add(archive, _Entry(folder + b"/" + name, data), random)


def _without(random: Random, archive: _Archive) -> None:
    """Leave out what a file can do without, and perhaps put something like it there."""
    archive.entries = [each for each in archive.entries if not each.name.endswith(b"byteorder")]
    archive.directory = list(range(len(archive.entries)))
    if random.randrange(2):
        _more(random, archive)


def _less(random: Random, archive: _Archive) -> None:
    if len(archive.directory) > 1:
        archive.directory.remove(random.choice(archive.directory))


def _lengths(random: Random, archive: _Archive) -> None:
    one = _entry_of(random, archive)
    shift = random.choice((-1, 1, -4, 4, 64, len(one.data), 2**31, 2**32, 2**62))
    match random.randrange(5):
        case 0:
            one.nbytes = max(0, len(one.data) + shift)
        case 1:
            one.local_nbytes = random.choice((0, 2**32 - 1, max(0, len(one.data) + shift)))
        case 2:
            one.shift = random.choice((-1, 1, 4, 2**31, 2**32 - 1, 2**63))
        case 3:
            one.in_zip64, one.nbytes = True, max(0, len(one.data) + shift)
        case _:
            one.crc = random.choice((0, 1, 2**32 - 1))


def _zip64(random: Random, archive: _Archive) -> None:
    one = _entry_of(random, archive)
    one.in_zip64 = True
    fields = random.choice((
        struct.pack("<HHQQQ", 1, 24, 8, 8, 0), struct.pack("<HH", 1, 0), b"\1", b"\1\0\xff\xff",
        struct.pack("<HH4s", 0x7075, 4, b"abcd"), b"",
    ))  # fmt: skip
    one.extra = fields
    archive.is_zip64 = bool(random.randrange(2))


def _extra(random: Random, archive: _Archive) -> None:
    one = _entry_of(random, archive)
    field_ = random.choice((
        struct.pack("<HHQQQ", 1, 24, 8, 8, 0), b"FB" + struct.pack("<H", 50) + b"Z" * 50, b"\0" * 9,
        struct.pack("<HH", 1, 0), b"Z",
    ))  # fmt: skip
    if random.randrange(2):
        one.extra = field_
    else:
        one.local_extra = field_


def _described(random: Random, archive: _Archive) -> None:
    one = _entry_of(random, archive)
    one.flags |= 8 * random.randrange(2)
    one.local_flags = random.choice((None, one.flags, 8, 0))
    one.descriptor = random.choice(("<4sIII", "<4sIQQ", ""))
    one.local_nbytes = random.choice((None, 0))


def _flagged(random: Random, archive: _Archive) -> None:
    one = _entry_of(random, archive)
    one.flags = random.choice((1, 2, 4, 8, 1 << 11, 1 << 13, 0xFFFF))
    one.method = random.choice((0, 0, 8, 99))
    one.attributes = random.choice((0, 16, 0x10, 0o40755 << 16))


def _around(random: Random, archive: _Archive) -> None:
    junk = random.choice(
        (b"x", b"PK\5\6" + bytes(18), b"PK\3\4", bytes(100), b"PK\6\7" + bytes(16))
    )
    match random.randrange(5):
        case 0:
            archive.start = junk
        case 1:
            archive.end = junk
        case 2:
            archive.comment = junk
        case 3:
            _entry_of(random, archive).gap = junk
        case _:
            _entry_of(random, archive).comment = junk


def _end(random: Random, archive: _Archive) -> None:
    archive.is_zip64 = bool(random.randrange(2))
    shift = random.choice((-1, 1, -46, 46, 2**31, 2**32 - 1))
    match random.randrange(4):
        case 0:
            archive.count = random.choice((-1, 1, 1000))
        case 1:
            archive.shift = shift
        case 2:
            archive.shift64 = max(shift, -1)
        case _:
            random.shuffle(archive.directory)


def _pickled(random: Random, archive: _Archive) -> None:
    for one in archive.entries:
        if one.name.endswith(b"data.pkl"):
            ways = one.data + b"N.", b"N." + one.data, mutated(random, one.data)
            one.data = random.choice(ways)


_ODDITIES: tuple[Callable[[Random, _Archive], None], ...] = (
    *(_twice, _renamed, _named_apart, _more, _less, _lengths, _zip64, _extra, _described),
    *(_flagged, _around, _end, _pickled, _end, _more, _without),
)


def odd_legacy(random: Random, base: bytes) -> bytes:
    """Return a file from before 1.6 of which a part is odd."""
    parts = _pickles_of(base)
    way = random.randrange(8)
    at = random.randrange(len(parts))
    if way < 3:
        parts[at] = mutated(random, parts[at]) if at < 5 else _spoiled(random, parts[at])
    elif way == 3:
        parts[5] = _spoiled(random, parts[5])
    elif way == 4:
        parts[at] *= 2
    elif way == 5:
        parts[3] = mutated(random, parts[3])
    elif way == 6:
        parts.append(random.choice((b"x", bytes(8), parts[5], parts[4], b"PK\5\6" + bytes(18))))
    else:
        del parts[at]
    return b"".join(parts)


def _pickles_of(data: bytes) -> list[bytes]:
    """Return the five pickles of a file, and what follows them."""
    parts = []
    file = io.BytesIO(data)
    for _ in range(5):
        start = file.tell()
        for _ in pickletools.genops(file):
            pass
        parts.append(data[start : file.tell()])
    return [*parts, data[file.tell() :]]
