"""Read `.metadata`: which tensors a folder holds, and in which boxes and places they lie.

    Metadata
        state_dict_metadata   {name: TensorStorageMetadata(properties, size, chunks), or
                               BytesStorageMetadata of an object}
        planner_data          {name: its path in the state dict}, or None
        storage_data          {MetadataIndex(name, offset): _StorageInfo(file, offset, length)}
        storage_meta, version

It is one pickle. Torch 2.1 and 2.2 have `TensorProperties` in another module; `storage_meta`
came in 2.4, compressed pieces in 2.7, `version` in 2.9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from reinit_cli.checkpoints.formats.dcp.known_names import KNOWN, OLD
from reinit_cli.checkpoints.formats.dcp.phrases import (
    FILESYSTEM,
    METADATA,
    Chunk,
    Index,
    Lone,
    Properties,
    Size,
    Storing,
    new_or_phrase,
)
from reinit_cli.checkpoints.formats.torch.pickles.allowed_names import ALLOWED
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.machine import read_pickle
from reinit_cli.checkpoints.formats.torch.pickles.opcodes import HANDLERS
from reinit_cli.checkpoints.formats.torch.pickles.records import Dict, Global, Instance, pairs_of
from reinit_cli.errors import MalformedFileError, UnsupportedFormatError
from reinit_cli.lazy import dataclass
from reinit_cli.storage.reader import Reader

MAX_PIECES = 200_000
"""The most pieces and objects that are read: ten times those of a thousand ranks' 20 B model."""

_PIECE_NBYTES = 130
"""The fewest bytes that a piece takes in `.metadata`."""

_WORK = 20_000_000
"""Enough for as many pieces, each of a tensor of its own: seven seconds at most."""

_NBYTES = 600 * 10**6

_NEWOBJ = 0x81

_HANDLERS = [new_or_phrase if at == _NEWOBJ else each for at, each in enumerate(HANDLERS)]

_MOST = 2**63


_SHOWN_DIMS = 8
"""A stranger's tensor may have thousands."""


# Named tuples: a folder may have a hundred thousand, and dataclasses take four times as long.
class Piece(NamedTuple):
    """A box of a tensor, and its place; or an object, which has no box.

    Attributes:
        fqn: the name of the tensor or the object.
        chunk: the box; None of an object.
        file: the path in the folder.
        offset, nbytes: the bytes of the file.
        transforms: how they are compressed.
    """

    fqn: str
    chunk: Chunk | None
    file: str
    offset: int
    nbytes: int
    transforms: tuple[str, ...] = ()

    @property
    def called(self) -> str:
        """What people call it."""
        if self.chunk is None:
            return f"the object {self.fqn!r}"
        first = ", ".join(map(str, self.chunk.offsets[:_SHOWN_DIMS]))
        more = ", …" if len(self.chunk.offsets) > _SHOWN_DIMS else ""
        return f"the piece of {self.fqn!r} at [{first}{more}]"


class Stored(NamedTuple):
    """A tensor of the folder.

    Attributes:
        fqn: its name.
        dtype: torch's name of its dtype.
        shape: its dimensions.
        lone: its box where it is one; else all of them.
    """

    fqn: str
    dtype: str
    shape: Size
    lone: Piece | list[Piece]

    @property
    def pieces(self) -> Sequence[Piece]:
        """Its boxes."""
        return self.lone if isinstance(self.lone, list) else (self.lone,)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What `.metadata` says.

    Attributes:
        tensors: by their names, in its order.
        objects: the pieces of what is not a tensor, by name.
        paths: for each name its path in the state dict; a name that has none is the key.
        version: that of the form, or "".
        written_to: where the folder was when it was written, or "".
        unknown_names: what its pickle would import that no writer of torch names.
    """

    tensors: Mapping[str, Stored]
    objects: Mapping[str, Piece]
    paths: Mapping[str, tuple[str | int, ...]]
    version: str
    written_to: str
    unknown_names: tuple[str, ...]

    @property
    def pieces(self) -> Iterator[Piece]:
        """Everything that lies in a place."""
        for tensor in self.tensors.values():
            yield from tensor.pieces
        yield from self.objects.values()


def read_metadata(file: Reader) -> Metadata:
    """Read `.metadata` without obeying it.

    Raises:
        MalformedFileError: it is not a valid one.
        UnsupportedFormatError: it has more pieces than are read.
    """
    budget = Budget(file.path, _WORK, _NBYTES, _NBYTES)
    if file.nbytes > _MOST_NBYTES:
        _refuse_many(file, file.nbytes // _PIECE_NBYTES)
    pickle = read_pickle(file, 0, file.nbytes, budget, _WORK, _HANDLERS)
    reading = _Reading(file, budget)
    if pickle.end != file.nbytes:
        reading.refuse("something follows its pickle")
    unknown = tuple(
        name for name in map(str, pickle.names) if name not in KNOWN and name not in ALLOWED
    )
    return reading.metadata(pickle.top, unknown)


_MOST_NBYTES = MAX_PIECES * 2_500
"""Beyond what as many pieces take, with names of a thousand characters."""


def _refuse_many(file: Reader, count: int) -> NoReturn:
    problem = f"has {count:,} pieces, more than the {MAX_PIECES:,} that are read"
    raise UnsupportedFormatError(file.path, problem, kind="several")


_Where = tuple[Size | None, Storing] | dict[str, Storing]
"""The one place of a name, with where its piece starts; or several, by the text of that."""


class _Reading:
    """The way through the records of `.metadata`."""

    def __init__(self, file: Reader, budget: Budget) -> None:
        self._file = file
        self._budget = budget
        self._where: dict[str, _Where] = {}
        self._dtypes: dict[int, str] = {}

    def refuse(self, problem: str) -> NoReturn:
        raise MalformedFileError(self._file.path, problem, "DCP metadata")

    def metadata(self, top: Any, unknown: tuple[str, ...]) -> Metadata:
        """Return what the whole says."""
        # Megatron saves an instance of a subclass.
        if not isinstance(top, Instance) or not isinstance(top.function, Global):
            self.refuse("its pickle is not an object of the class Metadata")
        members = self._members(top, "its pickle")
        for name in ("state_dict_metadata", "storage_data"):
            if not isinstance(members.get(name), Dict):
                self.refuse(f"it has no {name}")
        self._note_places(members["storage_data"])
        tensors: dict[str, Stored] = {}
        objects: dict[str, Piece] = {}
        for fqn, record in pairs_of(members["state_dict_metadata"], self._budget):
            if not isinstance(fqn, str):
                self.refuse("it has a name that is not a text")
            if fqn in tensors or fqn in objects:
                self.refuse(f"it has {fqn!r} twice")
            if isinstance(record, Instance) and record.calls(METADATA, "BytesStorageMetadata"):
                objects[fqn] = self._object(fqn)
            else:
                tensors[fqn] = self._tensor(fqn, record)
        self._refuse_left_over()
        paths = self._paths(members.get("planner_data"), {*tensors, *objects})
        version = members.get("version")
        return Metadata(
            tensors,
            objects,
            paths,
            version if isinstance(version, str) else "",
            _written_to(members.get("storage_meta"), self._budget),
            unknown,
        )

    def _members(self, record: Any, what: str) -> dict[str, Any]:
        """Return the members of an object that is made empty, and then given a state."""
        if not isinstance(record, Instance) or len(record.state) != 1 or record.args:
            self.refuse(f"{what} is not an object with one state")
        state = record.state[0]
        if not isinstance(state, Dict):
            self.refuse(f"{what} has a state that is not a dictionary")
        members: dict[str, Any] = {}
        for name, value in pairs_of(state, self._budget):
            if not isinstance(name, str) or name in members:
                self.refuse(f"{what} has a member twice, or one without a name")
            members[name] = value
        return members

    # --- places --------------------------------------------------------------------------

    def _note_places(self, record: Dict) -> None:
        count = len(record.pairs) // 2
        if count > MAX_PIECES:
            _refuse_many(self._file, count)
        for key, value in pairs_of(record, self._budget):
            fqn, offset = key if type(key) is Index else self._index(key)
            storing = value if type(value) is Storing else self._storing(value, fqn)
            places = self._where.get(fqn)
            if places is None:  # most tensors of most folders have one
                self._where[fqn] = (offset, storing)
                continue
            if isinstance(places, tuple):
                places = self._where[fqn] = {str(places[0]): places[1]}
            # As text: the file chooses the numbers, and could choose them with one hash.
            at = str(offset)
            if at in places:
                self.refuse(f"it has two places for {_named(fqn, offset)}")
            places[at] = storing

    def _index(self, record: Any) -> Index:
        if not isinstance(record, Instance) or not record.calls(METADATA, "MetadataIndex"):
            self.refuse("it has a place without an index")
        members = self._members(record, "an index")
        fqn, offset = members.get("fqn"), members.get("offset")
        if not isinstance(fqn, str):
            self.refuse("it has an index without a name")
        return Index(fqn, None if offset is None else self._size(offset, repr(fqn)))

    def _storing(self, record: Any, fqn: str) -> Storing:
        if not isinstance(record, Instance) or not record.calls(FILESYSTEM, "_StorageInfo"):
            self.refuse(f"the place of {fqn!r} is one of another writer's")
        members = self._members(record, f"the place of {fqn!r}")
        file, offset, nbytes = (members.get(name) for name in ("relative_path", "offset", "length"))
        transforms = members.get("transform_descriptors")
        if not isinstance(file, str) or not (_is_count(offset) and _is_count(nbytes)):
            self.refuse(f"the place of {fqn!r} is not a file and two numbers")
        assert isinstance(offset, int)
        assert isinstance(nbytes, int)
        names = transforms if isinstance(transforms, (list, tuple)) else ()
        if transforms is not None and (
            not isinstance(transforms, (list, tuple))
            or not all(isinstance(each, str) for each in names)
        ):
            self.refuse(f"the place of {fqn!r} has transforms that are not texts")
        self._budget.spend(len(names))
        return Storing(file, offset, nbytes, tuple(names))

    def _place(self, fqn: str, offset: Size | None) -> Storing:
        places = self._where.get(fqn)
        found: Storing | None = None
        if isinstance(places, dict):
            found = places.pop(str(offset), None)
        elif places is not None and places[0] == offset:
            found = places[1]
            del self._where[fqn]
        if found is None:
            self.refuse(f"{_named(fqn, offset)} has no place")
        return found

    def _refuse_left_over(self) -> None:
        for fqn, places in self._where.items():
            for at in places if isinstance(places, dict) else (str(places[0]),):
                self.refuse(f"it has a place for {fqn!r} at {at}, which has no such piece")

    # --- tensors -------------------------------------------------------------------------

    def _object(self, fqn: str) -> Piece:
        return Piece(fqn, None, *self._place(fqn, None))

    def _tensor(self, fqn: str, record: Any) -> Stored:
        if type(record) is Lone:
            piece = Piece(fqn, record.chunk, *self._place(fqn, record.chunk.offsets))
            return Stored(fqn, record.dtype, record.shape, piece)
        if not isinstance(record, Instance) or not record.calls(METADATA, "TensorStorageMetadata"):
            self.refuse(f"{fqn!r} is neither a tensor nor an object")
        members = self._members(record, repr(fqn))
        shape = self._size(members.get("size"), repr(fqn))
        chunks = members.get("chunks")
        if not isinstance(chunks, list) or not chunks:
            self.refuse(f"{fqn!r} has no list of pieces")
        self._budget.spend(2 * len(chunks))
        pieces = []
        for each in chunks:
            chunk = each if type(each) is Chunk else self._chunk(each, fqn)
            pieces.append(Piece(fqn, chunk, *self._place(fqn, chunk.offsets)))
        return Stored(fqn, self._dtype(members.get("properties"), fqn), shape, pieces)

    def _chunk(self, record: Any, fqn: str) -> Chunk:
        if not isinstance(record, Instance) or not record.calls(METADATA, "ChunkStorageMetadata"):
            self.refuse(f"{fqn!r} has a piece that is not a box")
        members = self._members(record, f"a piece of {fqn!r}")
        what = f"a piece of {fqn!r}"
        return Chunk(
            self._size(members.get("offsets"), what), self._size(members.get("sizes"), what)
        )

    def _dtype(self, record: Any, fqn: str) -> str:
        if type(record) is Properties:
            return record.dtype
        is_known = isinstance(record, Instance) and (
            record.calls(METADATA, "TensorProperties") or record.calls(OLD, "TensorProperties")
        )
        state = record.state[0] if is_known and len(record.state) == 1 else None
        # Before 2.1 there was no state of its own, and dataclasses have a dictionary.
        named = state[0] if isinstance(state, tuple) and state else None
        if isinstance(state, Dict):
            named = self._members(record, repr(fqn)).get("dtype")
        if not isinstance(named, Global) or named.module != "torch":
            self.refuse(f"{fqn!r} has no dtype")
        return named.name

    def _size(self, record: Any, what: str) -> Size:
        if isinstance(record, Instance) and record.calls("torch", "Size") and len(record.args) == 1:
            record = record.args[0]
        # A size of `phrases` is a tuple, and its numbers are such numbers.
        if not isinstance(record, tuple) or not all(map(_is_count, record)):
            self.refuse(f"{what} has a size that is not a torch.Size")
        self._budget.spend(len(record) // 2)
        return record

    # --- paths ---------------------------------------------------------------------------

    def _paths(self, record: Any, names: set[str]) -> dict[str, tuple[str | int, ...]]:
        """Return the paths of names; other planners may note other things."""
        paths: dict[str, tuple[str | int, ...]] = {}
        for fqn, path in pairs_of(record, self._budget) if isinstance(record, Dict) else ():
            if isinstance(fqn, str) and fqn in names and _is_path(path):
                self._budget.spend(len(path))
                paths[fqn] = path
        return paths


def _named(fqn: str, offset: Size | None) -> str:
    return f"{fqn!r}" if offset is None else f"the piece of {fqn!r} at {[*offset]}"


def _is_count(number: Any) -> bool:
    return type(number) is int and 0 <= number < _MOST


def _is_path(path: Any) -> bool:
    if not isinstance(path, tuple) or not path:
        return False
    return all(type(each) is str or _is_count(each) for each in path)


def _written_to(record: Any, budget: Budget) -> str:
    """Return the path of the folder when it was written, on whichever machine that was."""
    state = record.state[0] if isinstance(record, Instance) and len(record.state) == 1 else None
    members = dict(pairs_of(state, budget)) if isinstance(state, Dict) else {}
    path = members.get("checkpoint_id")
    if isinstance(path, Instance) and all(isinstance(each, str) for each in path.args):
        return "/".join(path.args).replace("//", "/")
    return path if isinstance(path, str) else ""
