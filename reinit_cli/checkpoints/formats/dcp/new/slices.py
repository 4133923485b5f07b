"""Lay out a tensor as `torch.save` writes it alone into a buffer: an archive of seven entries.

    archive/data.pkl                                        the tensor, which names storage 0
    archive/.format_version, .storage_alignment, byteorder
    archive/data/0                                          its elements, aligned to 64 bytes
    archive/version
    archive/.data/serialization_id                          a hash of the names and of the CRCs

The bytes are those of torch 2.7 and later, whichever is installed: two machines write the same.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from reinit_cli.checkpoints.formats.torch.files.archive import Directory, end_records
from reinit_cli.checkpoints.formats.torch.files.assembly import combined
from reinit_cli.checkpoints.formats.torch.files.zip_headers import Placed, Written
from reinit_cli.storage.crc32 import crc32
from reinit_cli.storage.segments import Late, Literal, Segment

_ALIGNMENT = 64

_TEXTS = (
    (b"archive/.format_version", b"1"),
    (b"archive/.storage_alignment", b"64"),
    (b"archive/byteorder", b"little"),
)
"""The entries between the pickle and the elements."""

_VERSION = b"3\n"

_NAMES_HASH = b"15728199511854643026"
"""What torch makes of these names: std::hash of GNU's library, combined."""

_ID_NBYTES = 40

_IS_UTF8 = 1 << 11

_WRITTEN = Written(
    struct.pack("<4sHH22x", b"PK\3\4", 0, _IS_UTF8),
    b"FB\0\0",
    struct.pack("<4sHHH36x", b"PK\1\2", 0, 0, _IS_UTF8),
    b"",
)
"""What torch says of every entry besides its place and its length."""

_VERSIONS = (0x031E, 45)


class Frame(NamedTuple):
    """The archives of all tensors with pickles of one length and as many bytes.

    Attributes:
        pickle: the place of the pickle.
        texts: what stands between the pickle and the elements.
        texts_crcs: the CRC-32s in that.
        data: the place of the elements.
        version: what follows the elements and their descriptor, with the header of the id.
        id: the place of the id.
        central: the parts of the directory between the CRC-32s of the seven entries.
        end: what follows the directory.
    """

    pickle: Placed
    texts: bytes
    texts_crcs: tuple[int, ...]
    data: Placed
    version: bytes
    id: Placed
    central: tuple[tuple[bytes, bytes], ...]
    end: bytes

    @classmethod
    def of(cls, pickle_nbytes: int, nbytes: int) -> Frame:
        """Return the frame of tensors.

        Args:
            pickle_nbytes: the length of their pickles.
            nbytes: what their elements take.
        """
        pickle = _placed(b"archive/data.pkl", 0, pickle_nbytes)
        texts = []
        last = pickle
        for name, text in _TEXTS:
            last = _placed(name, _end(last), len(text))
            texts.append((last, text))
        data = _placed(b"archive/data/0", _end(last), nbytes)
        version = _placed(b"archive/version", _end(data), len(_VERSION))
        id_ = _placed(b"archive/.data/serialization_id", _end(version), _ID_NBYTES)
        entries = (pickle, *(each for each, _ in texts), data, version, id_)
        central = tuple(each.central() for each in entries)
        directory_nbytes = sum(len(before) + 4 + len(after) for before, after in central)
        directory = Directory(
            _end(id_), directory_nbytes, len(entries), is_zip64=True, versions=_VERSIONS
        )
        return cls(
            pickle,
            b"".join(_entry(each, text) for each, text in texts) + _opening(data),
            tuple(crc32(text) for _, text in texts),
            data,
            _entry(version, _VERSION) + _opening(id_),
            id_,
            central,
            end_records(directory),
        )

    @property
    def nbytes(self) -> int:
        """The length of the archive."""
        directory = sum(len(before) + 4 + len(after) for before, after in self.central)
        return _end(self.id) + directory + len(self.end)

    def before(self, pickle: bytes) -> bytes:
        """Return what stands before the elements."""
        return _entry(self.pickle, pickle) + self.texts

    def after(self, pickle_crc: int, data_crc: int) -> bytes:
        """Return what follows the elements."""
        version_crc = crc32(_VERSION)
        described = [data_crc] if self.data.has_descriptor else []
        before_id = [pickle_crc, *self.texts_crcs, *described, version_crc]
        id_ = _NAMES_HASH + b"%020d" % combined(before_id)
        crcs = (pickle_crc, *self.texts_crcs, data_crc, version_crc, crc32(id_))
        records = (_crc(crc).join(around) for crc, around in zip(crcs, self.central, strict=True))
        closings = _closing(self.data, data_crc), self.version, id_, _closing(self.id, crcs[-1])
        return b"".join((*closings, *records, self.end))


class Frames:
    """Frames, of which the tensors of a model need few."""

    def __init__(self) -> None:
        """Begin with none."""
        self._known: dict[tuple[int, int], Frame] = {}

    def segments(self, pickle: bytes, data: Sequence[Segment], at: int) -> list[Segment]:
        """Return the archive of a tensor.

        Args:
            pickle: its pickle.
            data: its elements.
            at: the segments of the file that come before it.
        """
        nbytes = sum(segment.nbytes for segment in data)
        key = len(pickle), nbytes
        frame = self._known.get(key)
        if frame is None:
            frame = self._known[key] = Frame.of(*key)
        pickle_crc = crc32(pickle)
        before = Literal(frame.before(pickle))
        if not nbytes:
            return [before, *data, Literal(frame.after(pickle_crc, 0))]

        def compute(digests: Sequence[int]) -> bytes:
            return frame.after(pickle_crc, digests[0])

        after_nbytes = frame.nbytes - before.nbytes - nbytes
        late = Late(after_nbytes, (range(at + 1, at + 1 + len(data)),), compute)
        return [before, *data, late]


def _placed(name: bytes, start: int, nbytes: int) -> Placed:
    # torch describes the data of all entries but of empty ones.
    return Placed(_WRITTEN, name, start, nbytes, nbytes > 0, _ALIGNMENT)


def _end(placed: Placed) -> int:
    """Return where an entry ends."""
    closing = len(_closing(placed, 0))
    return placed.start + len(_opening(placed)) + placed.nbytes + closing


def _entry(placed: Placed, data: bytes) -> bytes:
    return _opening(placed) + data + _closing(placed, crc32(data))


def _opening(placed: Placed) -> bytes:
    """Return the local header, whose CRC-32 is left to the descriptor."""
    return bytes(4).join(placed.local())


def _closing(placed: Placed, crc: int) -> bytes:
    return _crc(crc).join(placed.descriptor()) if placed.has_descriptor else b""


def _crc(crc: int) -> bytes:
    return struct.pack("<I", crc)
