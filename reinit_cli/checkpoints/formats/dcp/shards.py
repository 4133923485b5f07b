"""Locate the tensors of folders of sharded safetensors, and rewrite such folders.

    shard-00001-model-00001-of-00002.safetensors    what the first rank had of the first file
    shard-00002-model-00001-of-00002.safetensors    what the second had of it

torch's HuggingFaceStorageWriter leaves them where it does not consolidate. There is no index.
Each file says in its metadata where its tensors start in those of all ranks:

    {"DCP_SHARDING_INFO": the text of {"key": {"saved_offsets": [3, 0]}, ...}}

Nothing says how large a tensor is: it ends where the last of its pieces does, as torch reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple, NoReturn

from reinit_cli.checkpoints.formats.base import (
    RECORD_NAME,
    Edits,
    Files,
    Located,
    Place,
    Recorded,
    whole,
)
from reinit_cli.checkpoints.formats.dcp.boxes import box_of, fault_of_chunks
from reinit_cli.checkpoints.formats.dcp.glance import ShardsByNames
from reinit_cli.checkpoints.formats.dcp.metadata import MAX_PIECES
from reinit_cli.checkpoints.formats.dcp.phrases import Chunk, Size
from reinit_cli.checkpoints.formats.folder_record import record_of_folder, recorded_in_folder
from reinit_cli.checkpoints.formats.hugging_face.names import shards_in
from reinit_cli.checkpoints.formats.safetensors import SHARDING_INFO, Safetensors
from reinit_cli.checkpoints.formats.strict_json import JsonError, Pairs, parse_object
from reinit_cli.errors import MalformedFileError, UnsupportedFormatError
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Check, Segment
from reinit_cli.tensors.info import TensorInfo

_OF_ONE_FILE = (SHARDING_INFO, "DCP_VERSION")
"""The metadata that is of a file, and wrong of all of them together."""

_MOST = 2**63

_SAFETENSORS = Safetensors()


class _Piece(NamedTuple):
    """A tensor of one file.

    Attributes:
        info: the tensor as the file has it.
        place: where it lies in its file.
        offsets: where it starts in that of all ranks.
    """

    info: TensorInfo
    place: Place
    offsets: Size

    @property
    def chunk(self) -> Chunk:
        """Its box."""
        return Chunk(self.offsets, self.info.shape)


class ShardedSafetensors(ShardsByNames):
    """The format of HuggingFaceStorageWriter's files of several ranks."""

    def locate(self, files: Files, root: str | None = None) -> Located:
        """Find the tensors of all files of a folder.

        Raises:
            MalformedFileError: a file is wrong, or pieces do not make up a tensor.
            UnsupportedFormatError: there are more pieces than are read.
        """
        del root  # each file is a state dict
        names = shards_in(tuple(files.readers))
        parts = {name: _part(files[name]) for name in names}
        found = _together(parts, files)
        has_record = RECORD_NAME in files.readers and RECORD_NAME not in files.outside
        own = {*names, RECORD_NAME, *files.outside}
        others = tuple(name for name in files.readers if name not in own)
        return Located(
            self.name,
            tuple(_whole(key, pieces, files.path) for key, pieces in found.items()),
            {key: tuple(_places(pieces)) for key, pieces in found.items()},
            {
                name: text
                for part in parts.values()
                for name, text in part.metadata.items()
                if name not in _OF_ONE_FILE
            },
            framework="pt",
            has_record=has_record,
            files=(*names, *others, *((RECORD_NAME,) if has_record else ())),
            others=others,
            unreachable=tuple(sorted({*files.left_out, *files.outside}.difference(names))),
            parts=tuple(names),
            pieces={
                key: tuple((piece.place.file, box_of(piece.chunk)) for piece in pieces)
                for key, pieces in found.items()
            },
            own=parts,
        )

    def checks(self, located: Located, files: Files) -> list[Check]:
        """Return none: the files have no digests."""
        del located, files
        return []

    def rewritten(
        self, located: Located, files: Files, edits: Edits, record: str = ""
    ) -> Mapping[str, list[Segment]]:
        """Return the files with some bytes replaced, the others as they are, and a record."""
        assert isinstance(located.own, dict)
        parts = {
            name: _SAFETENSORS.rewritten(part, Files.lone(files[name]), {"": edits.get(name, {})})
            for name, part in located.own.items()
        }
        others = {name: whole(files[name]) for name in located.others}
        return {
            **{name: segments[""] for name, segments in parts.items()},
            **others,
            **record_of_folder(record),
        }

    def recorded(self, located: Located, files: Files) -> Mapping[str, Recorded]:
        """Return the record that is a file of the folder.

        Raises:
            RecordError: it is too large.
        """
        return recorded_in_folder(located, files)


def _refuse(path: str, problem: str) -> NoReturn:
    raise MalformedFileError(path, problem, "shard of safetensors")


def _part(file: Reader) -> Located:
    """Return what is in a file, which is closed again: there may be one for each of many ranks."""
    try:
        return _SAFETENSORS.locate(Files.lone(file))
    finally:
        file.close()


def _together(parts: Mapping[str, Located], files: Files) -> dict[str, list[_Piece]]:
    """Return the pieces of each tensor.

    Raises:
        MalformedFileError: a file does not say where its tensors start.
        UnsupportedFormatError: there are more than are read.
    """
    count = sum(len(part.tensors) for part in parts.values())
    if count > MAX_PIECES:
        problem = f"has {count:,} pieces, more than the {MAX_PIECES:,} that are read"
        raise UnsupportedFormatError(files.path, problem, kind="several")
    found: dict[str, list[_Piece]] = {}
    for name, part in parts.items():
        offsets = _offsets_of(part, files[name].path)
        for info in part.tensors:
            (place,) = part.places[info.key]
            piece = _Piece(info, place._replace(file=name), offsets[info.key])
            found.setdefault(info.key, []).append(piece)
    return found


def _offsets_of(part: Located, path: str) -> Mapping[str, Size]:
    """Return where each tensor of a file starts; at 0 where the file says nothing."""
    text = part.metadata.get(SHARDING_INFO)
    if not text:
        return {info.key: (0,) * len(info.shape) for info in part.tensors}
    try:
        said = parse_object(text.encode(), f"its {SHARDING_INFO}")
    except JsonError as error:
        _refuse(path, str(error))
    members = dict(said)
    if len(members) != len(said):
        _refuse(path, f"its {SHARDING_INFO} has a key twice")
    return {info.key: _offsets(info, members.get(info.key), path) for info in part.tensors}


def _offsets(info: TensorInfo, said: object, path: str) -> Size:
    offsets = [value for name, value in said if name == _OFFSETS] if type(said) is Pairs else []
    if len(offsets) != 1 or type(offsets[0]) is not list:
        _refuse(path, f"its {SHARDING_INFO} has no {_OFFSETS} of {info.key!r}")
    found = tuple(offsets[0])
    if not all(type(each) is int and 0 <= each < _MOST for each in found):
        _refuse(path, f"the {_OFFSETS} of {info.key!r} are not all integers in [0, 2^63)")
    if len(found) != len(info.shape):
        problem = f"has {len(found)} {_OFFSETS}, and {len(info.shape)} dimensions"
        _refuse(path, f"{info.key!r} {problem}")
    return found


_OFFSETS = "saved_offsets"


def _whole(key: str, pieces: Sequence[_Piece], path: str) -> TensorInfo:
    """Return the tensor that pieces make up.

    Raises:
        MalformedFileError: they make up none.
    """
    first = pieces[0].info
    other = next((each.info for each in pieces if each.info.dtype != first.dtype), None)
    if other is not None:
        _refuse(path, f"{key!r} is {first.dtype} in one file, and {other.dtype} in another")
    if any(len(each.offsets) != len(first.shape) for each in pieces):
        _refuse(path, f"the pieces of {key!r} have not the same number of dimensions")
    ends = [map(sum, zip(*each.chunk, strict=True)) for each in pieces]
    shape = tuple(map(max, zip(*ends, strict=True)))
    fault = fault_of_chunks(key, [each.chunk for each in pieces], shape)
    if fault or prod(shape) >= _MOST:
        _refuse(path, fault or f"{key!r} has more elements than 64 bits can count")
    nbytes = sum(each.info.nbytes for each in pieces)
    return replace(first, shape=shape, nbytes=nbytes)


def _places(pieces: Sequence[_Piece]) -> list[Place]:
    """Return where the elements of a tensor lie."""
    if len(pieces) == 1:
        return [pieces[0].place]
    filled = [each for each in pieces if 0 not in each.info.shape]
    boxes = [each.place._replace(box=box_of(each.chunk)) for each in filled]
    return boxes or [pieces[0].place]
