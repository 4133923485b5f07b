"""Locate the tensors of Hugging Face folders, rewrite such folders, and create new ones.

    model.safetensors.index.json or pytorch_model.bin.index.json:
        {"metadata": {...}, "weight_map": {"key": "model-00001-of-00002.safetensors", ...}}
    model.safetensors or pytorch_model.bin, where there is one file

A file in the index is a plain name: no path in a file leaves its folder. In a hub cache
each of them is a link to a blob elsewhere, and links that are there are followed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from reinit_cli.checkpoints.formats.base import (
    RECORD_NAME,
    SHARD_NBYTES,
    Content,
    Edits,
    Fault,
    FileEdits,
    Files,
    Format,
    Located,
    NewFormat,
    Recorded,
    Shortfall,
    Supply,
    whole,
)
from reinit_cli.checkpoints.formats.confirming import confirm_of
from reinit_cli.checkpoints.formats.detection import recognized
from reinit_cli.checkpoints.formats.folder_record import record_of_folder, recorded_in_folder
from reinit_cli.checkpoints.formats.heads import with_heads
from reinit_cli.checkpoints.formats.hugging_face.choice import Sets, WeightsSet, siblings
from reinit_cli.checkpoints.formats.hugging_face.index import (
    BrokenIndexError,
    faults_of,
    faults_without,
    files_of_keys,
    index_text,
    none_there,
    split,
    weight_map_of,
)
from reinit_cli.checkpoints.formats.hugging_face.names import (
    INDEX_SUFFIX,
    PEFT_STEM,
    Series,
    indexed_by,
    is_index,
    is_nameless_weights,
    series_of,
    shards_in,
)
from reinit_cli.checkpoints.formats.hugging_face.stale import stale_of, training_of
from reinit_cli.errors import MalformedFileError, UnsupportedFormatError
from reinit_cli.lazy import dataclass
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Check, Literal, Segment
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import quoted

_MOST_LOOKED_AT = 200
"""How many files are looked at where none has a name of weights."""

_HEAD_NBYTES = 512

_MOST_UNREAD = 5
"""How many sets of weights are named that are not read."""


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
    """The files of a folder that hold its weights.

    Attributes:
        index: the name of the index; None where one file holds all.
        has_index: whether there is one already.
        parts: the files by their names, in the order of the index.
    """

    index: str | None
    has_index: bool
    parts: Mapping[str, _Part]

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all files that are read."""
        return (*self.parts, *((self.index,) if self.index and self.has_index else ()))

    @property
    def tensors(self) -> dict[str, tuple[TensorInfo, ...]]:
        """The tensors of each file."""
        return {name: part.located.tensors for name, part in self.parts.items()}


class HuggingFace:
    """The format of a folder with an index, or with one file of weights."""

    name = "Hugging Face folder"
    suffixes = (INDEX_SUFFIX,)
    is_folder = True
    holds_record = True

    def __init__(self, formats: Sequence[Format], new: NewFormat, called_as: str = "") -> None:
        """Declare what its files can be.

        Args:
            formats: the formats of its files of weights.
            new: the format of new ones.
            called_as: the file of weights after which new ones are called; "" for the source's.
        """
        self._formats = formats
        self._new = new
        self._called_as = called_as

    def recognizes(self, head: bytes, names: Sequence[str] = ()) -> bool:
        """Whether a folder has an index or a file of weights."""
        pieces = {*shards_in(names)}
        own = (name for name in names if name not in pieces)
        return not head and any(series_of(name) or is_index(name) for name in own)

    def locate(self, files: Files, root: str | None = None) -> Located:
        """Find the tensors of all files of a folder.

        Args:
            files: its files.
            root: the path of the state dict in what torch files hold; None to look for it.

        Raises:
            UnreadableSourceError: it has no weights, or several that could be meant.
            MalformedFileError: its index is wrong.
        """
        sets = Sets.of(_top(files))
        shards, faults = self._shards(files, self._chosen(files, sets), sets, root)
        stale = stale_of(files, shards.files, sets)
        own = {*shards.files, RECORD_NAME, *stale, *files.outside}
        others = tuple(name for name in files.readers if name not in own)
        has_record = RECORD_NAME in files.readers and RECORD_NAME not in files.outside
        return replace(
            _together(shards),
            has_record=has_record,
            files=(*shards.files, *others, *((RECORD_NAME,) if has_record else ())),
            others=others,
            fitting=training_of(files),
            stale=stale,
            unreachable=tuple(sorted({*files.left_out, *files.outside} - {*shards.files})),
            alerts=_alerts(files, sets, shards),
            faults=faults,
        )

    def _shards(
        self, files: Files, found: WeightsSet, sets: Sets, root: str | None
    ) -> tuple[_Shards, tuple[Fault, ...]]:
        """Read the files of weights, and compare them with their index."""
        index = found.index_name
        beside = sets.beside(found)
        weight_map, broken = dict[str, str](), ""
        try:
            weight_map = weight_map_of(files[index]) if index is not None else {}
        except BrokenIndexError as error:
            if not beside:
                raise
            found, broken = found._replace(files=beside), f"{quoted(found.name)}: {error.problem}"
        named = dict.fromkeys(weight_map.values()) if weight_map else found.files
        there = [name for name in named if name in files.readers] or beside
        if not there:
            raise none_there(files, found.name, named)
        more = siblings(there, _top(files)) if weight_map else []
        opened = ((name, files[name]) for name in (*there, *more))
        parts = {name: self._part(file, root) for name, file in with_heads(opened)}
        shards = _Shards(index or found.new_index, index is not None, parts)
        if not shards.index:
            return shards, ()
        keys = files_of_keys(files.path, shards.tensors)
        if not weight_map:
            return shards, faults_without(found.files, broken)
        return shards, faults_of(shards.index, weight_map, keys, parts, files.left_out)

    def _chosen(self, files: Files, sets: Sets) -> WeightsSet:
        """Return the set of weights that is meant.

        Raises:
            ReinitError: that is not clear.
        """
        if files.index:
            return WeightsSet.of_index(files.index)
        found = sets.chosen(files)
        if found is not None:
            return _with_index(found, files)
        # Most folders are clear, and a file that is listed needs none of it.
        from reinit_cli.checkpoints.formats.foreign_folders import foreign_folder, unclear

        names = sets.names
        if "model_index.json" not in files.readers and foreign_folder(files.readers) is None:
            found = sets.any_name()
            names = names or self._by_content(files)
            if found is None and len(names) == 1:
                found = WeightsSet.of_file(names[0])
            if not names and _dead(files):
                raise files.dead(_dead(files)[0])
        if found is None:
            raise unclear(files.path, files.readers, names)
        return found

    def _by_content(self, files: Files) -> list[str]:
        """Return the files that start as one of weights does, whatever they are called."""
        found = (
            name
            for name in islice(_top(files), _MOST_LOOKED_AT)
            if is_nameless_weights(name) and name not in files.outside
        )
        return [
            name
            for name in found
            if any(each.recognizes(files[name].head(_HEAD_NBYTES)) for each in self._formats)
        ]

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
        rewritten = {
            name: _rewritten(part, files[name], edits.get(name, {}))
            for name, part in shards.parts.items()
        }
        others = {name: _other(name, located, files, edits) for name in located.others}
        index = {shards.index: _index(shards, located, files)} if shards.index else {}
        return {**rewritten, **index, **others, **record_of_folder(record)}

    def recorded(self, located: Located, files: Files) -> Mapping[str, Recorded]:
        """Return the record that is a file of the folder.

        Raises:
            RecordError: it is too large.
        """
        return recorded_in_folder(located, files)

    def refuses(self, content: Content) -> Shortfall:
        """Return what its files cannot hold."""
        return self._new.refuses(content)

    def created(self, content: Content, supply: Supply) -> Mapping[str, list[Segment]]:
        """Return the segments of new shards, of their index and of the other files."""
        tensors = [tensor for tensor in content.tensors if not tensor.carried]
        names = Series.of_new(self._called_as or content.file)
        shards = split(tensors, _most_nbytes(names, supply.shard_nbytes or SHARD_NBYTES), names)
        without_record = replace(supply, record="")
        files = {
            name: self._new.created(replace(content, tensors=tuple(shard)), without_record)[""]
            for name, shard in shards.items()
        }
        if len(files) > 1:
            files[names.index_name] = [Literal(index_text(shards))]
        return {**files, **supply.others, **record_of_folder(supply.record)}


def _top(files: Files) -> list[str]:
    """Return the names of the files that are not in folders below."""
    return [name for name in files.readers if "/" not in name]


def _dead(files: Files) -> list[str]:
    """Return names of weights that are links that lead nowhere, as after a cache was cleaned."""
    return [name for name in files.left_out if "/" not in name and series_of(name) is not None]


def _with_index(found: WeightsSet, files: Files) -> WeightsSet:
    """Return one file with the index that names nothing else, where there is one."""
    index = found.series.index_name
    if found.is_indexed or index not in files.readers:
        return found
    try:
        named = {*weight_map_of(files[index]).values()}
    except (MalformedFileError, UnsupportedFormatError):
        return found
    return WeightsSet.of_index(index) if named == {found.name} else found


def _alerts(files: Files, sets: Sets, shards: _Shards) -> tuple[str, ...]:
    """Say which of several sets of weights is read; the one that was named needs no word."""
    unread = [] if files.index else sets.unread(shards.index, shards.parts)
    if not unread:
        return ()
    read = shards.files[-1] if shards.has_index else shards.files[0]
    library = _loading(read)
    loads = f", as {library} does" if library else ""
    more = f" and {len(unread) - _MOST_UNREAD:,} more" if len(unread) > _MOST_UNREAD else ""
    others = ", ".join(map(quoted, unread[:_MOST_UNREAD])) + more
    return (
        f"{files.path!r} has several sets of weights: {quoted(read)} is read{loads}, and not {others}",
    )


def _loading(name: str) -> str:
    """Return the library that loads what has this name unless it is told otherwise, or ""."""
    series = indexed_by(name) or series_of(name)
    is_found = series is not None and not series.variant and not series.shards
    return series.library if series is not None and is_found else ""


def _index(shards: _Shards, located: Located, files: Files) -> list[Segment]:
    """Return the index as it is, or one that is right where that is not."""
    assert shards.index is not None
    old = files[shards.index] if shards.has_index else None
    if old is not None and not located.faults:
        return whole(old)
    return [Literal(index_text(shards.tensors, old))]


def _most_nbytes(names: Series, shard_nbytes: int) -> int:
    """Return the most bytes of a file; what PEFT loads stays one unless less is asked for."""
    is_whole = names.stem == PEFT_STEM and shard_nbytes >= SHARD_NBYTES
    return sys.maxsize if is_whole else shard_nbytes


def _shards(located: Located) -> _Shards:
    assert isinstance(located.own, _Shards)
    return located.own


def _rewritten(part: _Part, file: Reader, edits: FileEdits) -> list[Segment]:
    return part.format.rewritten(part.located, Files.lone(file), {"": edits})[""]


def _other(name: str, located: Located, files: Files, edits: Edits) -> list[Segment]:
    """Return another file of the folder, with what is replaced in it."""
    companion = located.trained.get(name)
    if companion is None or name not in edits:
        return whole(files[name])
    return _rewritten(_Part(*companion), files[name], edits[name])


def _together(shards: _Shards) -> Located:
    """Return what the files of a folder hold together; storages stay apart."""
    found = [(name, part.located) for name, part in shards.parts.items()]
    notes = [note for _, located in found for note in located.notes]
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
        neighbors=found[0][1].neighbors if len(found) == 1 else (),
        outside=tuple(_of(name, tensor) for name, located in found for tensor in located.outside),
        rest=tuple(item for _, located in found for item in located.rest),
        attributes=_distinct(located.attributes for _, located in found),
        unknown_names=_distinct(located.unknown_names for _, located in found),
        notes=tuple(notes),
        record_member=found[0][1].record_member,
        confirm=confirm_of(dict(found)),
        own=shards,
    )


def _of(name: str, tensor: TensorInfo) -> TensorInfo:
    """Return a tensor whose storage is that of one file."""
    storage = tensor.storage
    return tensor if storage is None else replace(tensor, storage=(name, storage))


def _distinct(groups: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for group in groups for each in group))
