"""Locate the tensors of Hugging Face folders, rewrite such folders, and create new ones.

    model.safetensors.index.json or pytorch_model.bin.index.json:
        {"metadata": {...}, "weight_map": {"key": "model-00001-of-00002.safetensors", ...}}
    model.safetensors or pytorch_model.bin, where there is one file

A file in the index is a plain name: no path in a file leaves its folder. In a hub cache
each of them is a link to a blob elsewhere, and links that are there are followed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from reinit_cli.checkpoints.formats.base import (
    RECORD_NAME,
    Content,
    Edits,
    FileEdits,
    Files,
    Format,
    Located,
    NewFormat,
    Recorded,
    Shortfall,
    Supply,
    record_text,
    whole,
)
from reinit_cli.checkpoints.formats.detection import recognized
from reinit_cli.checkpoints.formats.hugging_face.choice import chosen
from reinit_cli.checkpoints.formats.hugging_face.index import (
    check_keys,
    index_of,
    split,
    weight_map_of,
)
from reinit_cli.checkpoints.formats.hugging_face.names import INDEX_SUFFIX, WEIGHTS, is_index
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Check, Literal, Reserved, Segment
from reinit_cli.tensors.info import TensorInfo

_MOST_NAMED = 20
"""How many of the files that are not copied are named."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A file of weights.

    Attributes:
        format: its format.
        located: what is in it.
    """

    format: Format
    located: Located


@dataclass(frozen=True, slots=True)
class _Shards:
    """The files of a folder.

    Attributes:
        index: the name of the index; None where one file holds all.
        parts: the files of weights by their names, in the order of the index.
        others: the names of what else is copied, without a provenance record.
        has_record: whether there is a provenance record.
    """

    index: str | None
    parts: Mapping[str, _Part]
    others: tuple[str, ...]
    has_record: bool

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all files that are read or copied."""
        index = (self.index,) if self.index is not None else ()
        record = (RECORD_NAME,) if self.has_record else ()
        return (*self.parts, *index, *self.others, *record)


class HuggingFace:
    """The format of a folder with an index, or with one file of weights."""

    name = "Hugging Face folder"
    suffixes = (INDEX_SUFFIX,)
    is_folder = True
    holds_record = True

    def __init__(self, formats: Sequence[Format], new: NewFormat) -> None:
        """Declare what its files can be.

        Args:
            formats: the formats of its files of weights.
            new: the format of new ones.
        """
        self._formats = formats
        self._new = new

    def recognizes(self, head: bytes, names: Sequence[str] = ()) -> bool:
        """Whether a folder has an index or a file of weights."""
        return not head and any(WEIGHTS.fullmatch(name) or is_index(name) for name in names)

    def locate(self, files: Files, root: str | None = None) -> Located:
        """Find the tensors of all files of a folder.

        Args:
            files: its files.
            root: the path of the state dict in what torch files hold; None to look for it.

        Raises:
            UnreadableSourceError: it has no weights, or several that could be meant.
            MalformedFileError: its index is wrong.
        """
        index, names = (files.index, ()) if files.index else chosen(files.path, _top(files))
        weight_map = weight_map_of(files[index]) if index is not None else {}
        names = names or tuple(dict.fromkeys(weight_map.values()))
        parts = {name: self._part(files[name], root) for name in names}
        if index is not None:
            tensors = {name: part.located.tensors for name, part in parts.items()}
            check_keys(files[index].path, weight_map, tensors)
        left_out = _left_out(files, {*names, index})
        own = {*names, index, RECORD_NAME, *left_out}
        others = tuple(name for name in files.readers if name not in own)
        has_record = RECORD_NAME in files.readers and RECORD_NAME not in left_out
        shards = _Shards(index, parts, others, has_record)
        return _together(files.path, shards, sorted((*left_out, *files.left_out)))

    def _part(self, file: Reader, root: str | None) -> _Part:
        format_ = recognized(file, self._formats)
        return _Part(format_, format_.locate(Files.lone(file), root))

    def checks(self, located: Located, files: Files) -> list[Check]:
        """Return those of all files of weights."""
        return [
            check
            for name, part in _shards(located).parts.items()
            for check in part.format.checks(part.located, Files.lone(files[name]))
        ]

    def rewritten(
        self, located: Located, files: Files, edits: Edits, record: str = ""
    ) -> Mapping[str, list[Segment]]:
        """Return the files with some bytes replaced, the others as they are, and a record."""
        shards = _shards(located)
        index = {shards.index: whole(files[shards.index])} if shards.index is not None else {}
        return {
            **{
                name: _rewritten(part, files[name], edits.get(name, {}))
                for name, part in shards.parts.items()
            },
            **index,
            **{name: whole(files[name]) for name in located.others},
            **_own_record(record),
        }

    def recorded(self, located: Located, files: Files) -> Mapping[str, Recorded]:
        """Return the record that is a file of the folder.

        Raises:
            RecordError: it is too large.
        """
        if not located.has_record:
            return {}
        file = files[RECORD_NAME]
        return {RECORD_NAME: Recorded(record_text(file), ((0, file.nbytes),))}

    def refuses(self, content: Content) -> Shortfall:
        """Return what its files cannot hold."""
        return self._new.refuses(content)

    def created(self, content: Content, supply: Supply) -> Mapping[str, list[Segment]]:
        """Return the segments of new shards, of their index and of the other files."""
        tensors = [tensor for tensor in content.tensors if not tensor.carried]
        shards = split(tensors, supply.shard_nbytes)
        without_record = replace(supply, record="")
        files = {
            name: self._new.created(replace(content, tensors=tuple(shard)), without_record)[""]
            for name, shard in shards.items()
        }
        if len(files) > 1:
            name, index = index_of(shards)
            files[name] = [Literal(index)]
        return {**files, **supply.others, **_own_record(supply.record)}


def _top(files: Files) -> list[str]:
    """Return the names of the files that are not in folders below."""
    return [name for name in files.readers if "/" not in name]


def _left_out(files: Files, own: AbstractSet[str | None]) -> list[str]:
    """Return other weights, which would contradict the new ones, and links out of the folder."""
    stale = {name for name in _top(files) if WEIGHTS.fullmatch(name)}
    unwanted = (stale | files.outside) - own
    return [name for name in files.readers if name in unwanted]


def _shards(located: Located) -> _Shards:
    assert isinstance(located.own, _Shards)
    return located.own


def _rewritten(part: _Part, file: Reader, edits: FileEdits) -> list[Segment]:
    return part.format.rewritten(part.located, Files.lone(file), {"": edits})[""]


def _own_record(record: str) -> dict[str, list[Segment]]:
    """Return the file with room for a record, if there is to be one."""
    return {RECORD_NAME: [Reserved(len(record), "text")]} if record else {}


def _together(path: str, shards: _Shards, left_out: Sequence[str]) -> Located:
    """Return what the files of a folder hold together; storages stay apart."""
    found = [(name, part.located) for name, part in shards.parts.items()]
    notes = [note for _, located in found for note in located.notes]
    if left_out:
        more = f" and {len(left_out) - _MOST_NAMED} more" if len(left_out) > _MOST_NAMED else ""
        notes.append(f"not copied from {path!r}: {', '.join(left_out[:_MOST_NAMED])}{more}")
    return Located(
        found[0][1].format,
        tuple(_of(name, tensor) for name, located in found for tensor in located.tensors),
        {
            key: tuple(place._replace(file=name) for place in places)
            for name, located in found
            for key, places in located.places.items()
        },
        metadata={key: text for _, located in found for key, text in located.metadata.items()},
        framework=found[0][1].framework,
        root=found[0][1].root,
        outside=tuple(_of(name, tensor) for name, located in found for tensor in located.outside),
        rest=tuple(item for _, located in found for item in located.rest),
        attributes=_distinct(located.attributes for _, located in found),
        unknown_names=_distinct(located.unknown_names for _, located in found),
        notes=tuple(notes),
        has_record=shards.has_record,
        files=shards.files,
        others=shards.others,
        record_member=found[0][1].record_member,
        own=shards,
    )


def _of(name: str, tensor: TensorInfo) -> TensorInfo:
    """Return a tensor whose storage is that of one file."""
    storage = tensor.storage
    return tensor if storage is None else replace(tensor, storage=(name, storage))


def _distinct(groups: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for group in groups for each in group))
