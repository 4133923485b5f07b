"""Locate the tensors of safetensors files, rewrite such files, and create new ones.

    8 bytes    N, little-endian
    N bytes    a JSON object in UTF-8, with white space before and after it or none:
               {"key": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...,
                "__metadata__": {"format": "pt"}}
    the rest   the tensors, little-endian, row-major; offsets count from here

Sorted by offset, the tensors tile the data without hole or overlap, to the last byte of
the file. Unknown members of an entry are accepted, and kept, since the header is copied.

The reader is stricter than the reference (safetensors 0.8) where that one takes one of
several readings: a key twice, numbers that are not integers, lone surrogates.
"""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from reinit_cli.checkpoints.formats.base import (
    Content,
    Edits,
    Files,
    Located,
    Place,
    Recorded,
    Shortfall,
    Supply,
    spliced,
)
from reinit_cli.checkpoints.formats.safetensors_dtypes import NBITS, TORCH_NAMES, own_name
from reinit_cli.checkpoints.formats.strict_json import (
    WHITE_SPACE,
    JsonError,
    Pairs,
    check_text,
    check_unused,
    is_valid_text,
    parse_object,
)
from reinit_cli.errors import MalformedFileError
from reinit_cli.lazy import dataclass
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Check, Literal, Reserved, Segment
from reinit_cli.tensors.info import TensorInfo, tied_groups
from reinit_cli.text import plural, quoted

METADATA = "__metadata__"

RECORD = "reinit"
"""The member of the metadata that is a provenance record."""

SHARDING_INFO = "DCP_SHARDING_INFO"
"""The member of the metadata that says which pieces of tensors a file of one of many ranks has."""

MAX_HEADER_NBYTES = 48 * 2**20
"""The longest header that is read. The format allows 100,000,000 bytes."""

MAX_DIMENSIONS = 4096
"""The most dimensions that are read; the format allows any number of them."""

MAX_METADATA = 100_000
"""The most names in the metadata; real files have a dozen."""

_DEPTH_OF_MEMBERS = 2
"""Objects around the members of an entry."""


class _MalformedError(Exception):
    """What is wrong, without the path."""


@dataclass(frozen=True, slots=True)
class _Entry:
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class Safetensors:
    """The format of a file whose digests depend on nothing but a provenance record."""

    name = "safetensors"
    suffixes = (".safetensors",)
    is_folder = False
    holds_record = True

    def recognizes(self, head: bytes, names: Sequence[str] = ()) -> bool:
        """Whether a file starts with a length below 4 GiB and an object, or white space."""
        start = head[8:].lstrip(WHITE_SPACE)[:1] or b"{"
        return not names and len(head) > 8 and start == b"{" and not any(head[4:8])

    def locate(self, files: Files, root: str | None = None) -> Located:
        """Read the header of a file.

        Raises:
            MalformedFileError: the file is not what the format allows.
        """
        del root  # the file is a state dict
        file = files[""]
        try:
            header = _header(file)
            entries, metadata = _members(parse_object(header, "its header", offset=8))
            data_start = 8 + len(header)
            file.ends_at(data_start + max((entry.end for entry in entries.values()), default=0))
            _check_tiling(entries, file.nbytes - data_start)
        except (_MalformedError, JsonError) as error:
            raise MalformedFileError(file.path, str(error), "safetensors file") from None
        return Located(
            self.name,
            tuple(_info(key, entry) for key, entry in entries.items()),
            {
                key: (Place("", data_start + entry.start, entry.end - entry.start),)
                for key, entry in entries.items()
            },
            metadata,
            has_record=RECORD in metadata,
            record_member=RECORD,
            alerts=_alerts(file.path, metadata),
            own=data_start,
        )

    def checks(self, located: Located, files: Files) -> list[Check]:
        """Return none: the file has no digests."""
        del located, files
        return []

    def rewritten(
        self, located: Located, files: Files, edits: Edits, record: str = ""
    ) -> Mapping[str, list[Segment]]:
        """Return the file with some bytes replaced, and another record in its header."""
        file, start = files[""], located.own
        assert isinstance(start, int)  # where the header ends
        own = edits.get("", {})
        if not record and not located.has_record:
            return {"": spliced(file, 0, file.nbytes, own)}
        members = json.loads(file.read(8, start - 8))
        members.pop(METADATA, None)
        metadata = {**located.plain_metadata, **({RECORD: record} if record else {})}
        members = {METADATA: metadata, **members} if metadata else members
        return {"": [*_header_segments(members, record), *spliced(file, start, file.nbytes, own)]}

    def recorded(self, located: Located, files: Files) -> Mapping[str, Recorded]:
        """Return the record in the metadata.

        Raises:
            MalformedFileError: it is not written as we write it.
        """
        text = located.metadata.get(RECORD)
        if text is None:
            return {}
        file = files[""]
        header = _header(file)
        member = _in_header(text)
        if header.count(member) != 1:
            problem = "its record is not written as it was"
            raise MalformedFileError(file.path, problem, "safetensors file")
        first = 8 + header.index(member) + len(_NAMED)
        return {"": Recorded(text, ((first, first + len(member) - len(_NAMED) - 1),))}

    def refuses(self, content: Content) -> Shortfall:
        """Return the tensors without a name here, what a pickle holds, and ties."""
        beyond = [_named(each) for each in content.tensors if not _holds(each)]
        if content.rest:
            beyond = [each for each in beyond if not each.is_no_tensor]
        rest = ", ".join(content.rest)
        notes = [f"dropped, since safetensors holds tensors only: {rest}"] if rest else []
        for group in dict.fromkeys(tied_groups(content.tensors).values()):
            keys = " and ".join(map(repr, group))
            notes.append(f"{keys} are one tensor; a safetensors file holds it under each name")
        return Shortfall(tuple(beyond), (".pt",), content.rest, (".pt",), tuple(notes))

    def created(self, content: Content, supply: Supply) -> Mapping[str, list[Segment]]:
        """Return the segments of a new file.

        The header lists the tensors in their given order. The data has larger elements
        first, so that every tensor starts at a multiple of its element's size.
        """
        tensors = [tensor for tensor in content.tensors if not tensor.carried]
        in_data_order = sorted(tensors, key=lambda tensor: -NBITS[own_name(tensor)])
        record = supply.record
        metadata = {**content.metadata, **({RECORD: record} if record else {})}
        first = {METADATA: metadata} if metadata else {}
        members = {**first, **_members_of(tensors, in_data_order)}
        data = [part for tensor in in_data_order for part in supply.data[tensor.key]]
        return {"": [*_header_segments(members, record), *data]}


def _alerts(path: str, metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Warn of a file that is named alone, and was written by one of several ranks."""
    name = os.path.basename(path)
    if SHARDING_INFO not in metadata or not name.startswith("shard-"):
        return ()
    return (f"{path!r} may hold only pieces of its tensors; name its folder to read them whole",)


def _info(key: str, entry: _Entry) -> TensorInfo:
    dtype = TORCH_NAMES.get(entry.dtype, entry.dtype)
    return TensorInfo(key, dtype, entry.shape, entry.end - entry.start)


def _header(file: Reader) -> bytes:
    start = file.head(9)
    if file.nbytes < 8:
        raise _MalformedError(f"it has {file.nbytes} bytes, and the length of the header takes 8")
    nbytes = int.from_bytes(start[:8], "little")
    missing = 8 + nbytes - file.nbytes
    if missing > 0 and nbytes <= MAX_HEADER_NBYTES and start[8:] == b"{":
        raise _MalformedError(f"it is cut off: at least {plural(missing, 'byte')} missing")
    if missing > 0:
        raise _MalformedError(
            f"its header would be {nbytes:,} bytes long, but {file.nbytes - 8:,} bytes follow"
        )
    if nbytes > MAX_HEADER_NBYTES:
        raise _MalformedError(f"its header is longer than {MAX_HEADER_NBYTES:,} bytes: {nbytes:,}")
    return file.read(8, nbytes)


def _members(parsed: Iterable[tuple[str, object]]) -> tuple[dict[str, _Entry], dict[str, str]]:
    entries: dict[str, _Entry] = {}
    metadata: dict[str, str] | None = None
    for key, value in parsed:
        if key == METADATA:
            if metadata is not None:
                raise _MalformedError(f"it has {METADATA} twice")
            metadata = _metadata(value)
        elif key in entries:
            raise _MalformedError(f"it has the key {quoted(key)} twice")
        else:
            check_text(key)
            entries[key] = _entry(key, value)
    return entries, metadata or {}


def _metadata(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Pairs):
        raise _MalformedError(f"its {METADATA} is not an object")
    if len(value) > MAX_METADATA:
        raise _MalformedError(f"its {METADATA} has more than {MAX_METADATA:,} names")
    metadata: dict[str, str] = {}
    for name, text in value:
        if name in metadata:
            raise _MalformedError(f"its {METADATA} has {quoted(name)} twice")
        if not isinstance(text, str):
            raise _MalformedError(
                f"its {METADATA} has a value for {quoted(name)} that is not a text"
            )
        check_text(name)
        check_text(text)
        metadata[name] = text
    return metadata


def _entry(key: str, value: object) -> _Entry:
    if not isinstance(value, Pairs):
        raise _MalformedError(f"{quoted(key)} is not an object")
    members = dict(value)
    if len(members) != len(value):
        raise _MalformedError(f"{quoted(key)} has a member twice")
    dtype = members.get("dtype")
    if not isinstance(dtype, str) or dtype not in NBITS:
        shown = quoted(dtype) if isinstance(dtype, str) else reprlib.repr(dtype)
        raise _MalformedError(f"{quoted(key)} has no dtype that the format knows: {shown}")
    shape = _integers(key, "shape", members.get("shape"))
    offsets = _integers(key, "data_offsets", members.get("data_offsets"))
    if len(offsets) != 2:
        raise _MalformedError(f"{quoted(key)} has {len(offsets)} data_offsets, not 2")
    start, end = offsets
    if len(members) > 3:
        for member, ignored in value:
            check_text(member)
            check_unused(ignored, depth=_DEPTH_OF_MEMBERS)
    nbits = _numel(key, shape) * NBITS[dtype]
    if nbits % 8 or end - start != nbits // 8:
        raise _MalformedError(
            f"{quoted(key)} has {end - start} bytes, but its dtype and shape take {nbits / 8:g}"
        )
    return _Entry(dtype, shape, start, end)


def _numel(key: str, shape: Sequence[int]) -> int:
    """Multiply the dimensions, as the reference does: in 64 bits, from the first on."""
    if len(shape) > MAX_DIMENSIONS:
        problem = f"has {len(shape):,} dimensions, and {MAX_DIMENSIONS:,} are read"
        raise _MalformedError(f"{quoted(key)} {problem}")
    numel = 1
    for dim in shape:
        numel *= dim
        if numel >= 2**64:
            raise _MalformedError(f"{quoted(key)} has more elements than 64 bits can count")
    return numel


def _integers(key: str, name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or isinstance(value, Pairs):
        raise _MalformedError(f"{quoted(key)} has no {name}")
    # `type() is`: True and False are instances of int.
    if any(type(item) is not int or not 0 <= item < 2**63 for item in value):
        raise _MalformedError(
            f"{quoted(key)} has a {name} that is not a list of integers in [0, 2^63)"
        )
    return tuple(value)


def _check_tiling(entries: Mapping[str, _Entry], data_nbytes: int) -> None:
    """Check that the tensors fill the data without hole or overlap."""
    reached = 0
    for key, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != reached:
            what = "overlaps another tensor" if entry.start < reached else "leaves a hole before it"
            raise _MalformedError(
                f"{quoted(key)} {what}: it starts at {entry.start}, not at {reached}"
            )
        reached = entry.end
    if reached > data_nbytes:
        raise _MalformedError(f"it is cut off: {plural(reached - data_nbytes, 'byte')} missing")
    if reached != data_nbytes:
        raise _MalformedError(
            f"its tensors end at byte {reached:,} of the data, which has {data_nbytes:,}"
        )


def _header_segments(members: Mapping[str, object], record: str) -> list[Segment]:
    """Return a header, with room for a record where there is one."""
    header = json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    start = len(header).to_bytes(8, "little") + header
    if not record:
        return [Literal(start)]
    before, found, after = start.partition(_in_header(record))
    assert found  # it is part of the metadata
    first = len(before) + len(_NAMED)
    return [
        Literal(start[:first]),
        Reserved(len(found) - len(_NAMED) - 1, "json"),
        Literal(b'"' + after),
    ]


_NAMED = f'"{RECORD}":"'.encode()


def _in_header(record: str) -> bytes:
    """Return a record as a member of the metadata."""
    return _NAMED[:-1] + json.dumps(record, ensure_ascii=False).encode()


def _members_of(
    tensors: Sequence[TensorInfo], in_data_order: Sequence[TensorInfo]
) -> Mapping[str, object]:
    """Return the entries of a header."""
    ends = accumulate(tensor.nbytes for tensor in in_data_order)
    spans = {
        tensor.key: (end - tensor.nbytes, end)
        for tensor, end in zip(in_data_order, ends, strict=True)
    }
    return {
        tensor.key: {
            "dtype": own_name(tensor),
            "shape": tensor.shape,
            "data_offsets": spans[tensor.key],
        }
        for tensor in tensors
    }


def _named(tensor: TensorInfo) -> TensorInfo:
    """Return a tensor that cannot be held, with what is wrong with its key, if it is the key."""
    if tensor.key == METADATA:
        return replace(tensor, carried="a key that the format keeps for itself")
    if not is_valid_text(tensor.key):
        return replace(tensor, carried="a key that is not valid text")
    return tensor


def _holds(tensor: TensorInfo) -> bool:
    is_key = tensor.key != METADATA and is_valid_text(tensor.key)
    return is_key and not tensor.carried and own_name(tensor) in NBITS
