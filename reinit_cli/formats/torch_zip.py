"""torch's zip archives (`torch.save` since 1.6): laying out a new one.

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
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from io import BytesIO
from typing import Any

from reinit_cli.formats.zips import ZipEntry, read_entries
from reinit_cli.inputs import InputFile
from reinit_cli.segments import Late, Literal, Segment

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")

_ID_DIGITS = 20
"""The digits of each half of a serialization id, enough for 64 bits."""


def layout(state: Mapping[str, Any], contents: Mapping[str, Segment], name: str) -> list[Segment]:
    """Return the segments of an archive that holds a state dict.

    Args:
        state: the object as `torch.save` takes it. Its tensors' values are used only
            where `contents` says nothing of them.
        contents: for a key, the bytes of its tensor, which is its storage's only one or
            equal to the others.
        name: the file's name, whose stem is the archive's folder.
    """
    storages = _storages(state)
    by_storage = {state[key].untyped_storage()._cdata: segment for key, segment in contents.items()}
    with tempfile.TemporaryDirectory(prefix="reinit-") as folder:
        path = os.path.join(folder, name)
        _save_skeleton(state, path, has_data=len(contents) < len(state))
        with InputFile(path) as skeleton:
            entries = read_entries(skeleton)
            data = {
                entry.name: by_storage.get(storage._cdata) or _bytes_of_storage(storage)
                for entry, storage in zip(_data_entries(entries), storages, strict=True)
            }
            return _Assembly(skeleton, entries, data).segments


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

    from reinit_cli.drawing import bytes_of

    flat = torch.empty(0, dtype=torch.uint8).set_(storage)
    return Literal(bytes_of(flat))


def _data_entries(entries: Sequence[ZipEntry]) -> list[ZipEntry]:
    found = [entry for entry in entries if "/data/" in entry.name]
    return sorted(found, key=lambda entry: int(entry.name.rpartition("/")[2]))


class _Assembly:
    """Puts segments into the holes of a skeleton and mends what depends on them."""

    def __init__(
        self, skeleton: InputFile, entries: Sequence[ZipEntry], data: Mapping[str, Segment]
    ) -> None:
        self.segments: list[Segment] = []
        self._skeleton = skeleton
        self._reached = 0
        replaced: dict[str, int] = {}  # the position of the segment of each new content
        described: list[ZipEntry] = []
        for entry in entries:
            if entry.name in data:
                replaced[entry.name] = self._insert(entry.offset, data[entry.name])
            elif entry.name.endswith("/.data/serialization_id"):
                late = self._serialization_id(entry, described, replaced)
                replaced[entry.name] = self._insert(entry.offset, late)
            if entry.has_descriptor:
                described.append(entry)
                if entry.name in replaced:
                    self._insert(entry.crc_offsets[0], _late_crc(replaced[entry.name]))
        for entry in sorted(entries, key=lambda entry: entry.crc_offsets[1]):
            if entry.name in replaced:
                self._insert(entry.crc_offsets[1], _late_crc(replaced[entry.name]))
        self._copy_up_to(skeleton.nbytes)

    def _insert(self, offset: int, segment: Segment) -> int:
        self._copy_up_to(offset)
        self.segments.append(segment)
        self._reached += segment.nbytes
        return len(self.segments) - 1

    def _copy_up_to(self, offset: int) -> None:
        if offset > self._reached:
            data = self._skeleton.read(self._reached, offset - self._reached)
            self.segments.append(Literal(data))
            self._reached = offset

    def _serialization_id(
        self, entry: ZipEntry, before: Sequence[ZipEntry], replaced: Mapping[str, int]
    ) -> Late:
        names_hash = self._skeleton.read(entry.offset, _ID_DIGITS)
        known = [(replaced.get(other.name), other.crc) for other in before]

        def compute(digests: Sequence[int]) -> bytes:
            drawn = iter(digests)
            order = [next(drawn) if at is not None else crc for at, crc in known]
            return names_hash + b"%020d" % _combined(order)

        of = tuple(at for at, _ in known if at is not None)
        return Late(entry.nbytes, of, compute)


def _combined(crcs: Sequence[int]) -> int:
    """Combine CRCs as torch does: boost's hash_combine on 64 bits."""
    combined = 0
    for crc in crcs:
        mixed = crc + 0x9E3779B9 + (combined << 6) + (combined >> 2)
        combined = (combined ^ mixed) & (2**64 - 1)
    return combined


def _late_crc(at: int) -> Late:
    return Late(4, (at,), lambda digests: struct.pack("<I", digests[0]))
