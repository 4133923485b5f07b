"""Declare what a checkpoint format is: an object behind one contract.

A format tells its files from others by how they start (`recognizes`), finds the tensors in
them (`locate`), and lists the segments of the same files with some bytes replaced
(`rewritten`). One that makes new files says what they could not hold (`refuses`) and lists
their segments (`created`). A provenance record inside a checkpoint is found by `recorded`.

Files are named by their path within the checkpoint; a checkpoint that is one file calls it
"". The bytes that replace others are opaque here: any segment of the right length will do.
Whatever a file says is hostile until it is checked, and nothing in it is ever executed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, NamedTuple, Protocol

from reinit_cli.errors import SourceNotFoundError, UnreadableSourceError
from reinit_cli.lazy import dataclass
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Box, Check, Copy, Range, Segment
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.optimizer import NewNumber, Optimizer

RECORD_NAME = "reinit.json"
"""The name of a provenance record that is a file of a folder or an entry of an archive."""

MAX_RECORD_NBYTES = 64 * 2**20
"""The longest provenance record that is read."""

SHARD_NBYTES = 5_000_000_000
"""The tensors' bytes that a new shard has at most, unless one tensor alone has more."""

FileEdits = Mapping[int, Segment]
"""What replaces the bytes of a file from an offset on, as many as the segment has."""

Edits = Mapping[str, FileEdits]
"""The edits of each file of a checkpoint."""


# A named tuple: a file may have a hundred thousand, and dataclasses take four times as long.
class Place(NamedTuple):
    """Some bytes of a tensor.

    Attributes:
        file: the path of the file within the checkpoint; "" for a lone file.
        offset, nbytes: which bytes of it.
        box: the elements that they are; None for all of the tensor, as its stride says.
        stride: how those of a box lie, in elements; None means in row-major order.
    """

    file: str
    offset: int
    nbytes: int
    box: Box | None = None
    stride: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a checkpoint.

    Attributes:
        path: what people call the checkpoint.
        readers: each file by its path within the checkpoint; a lone one is "".
        index: the file among them that the user named instead of their folder, or "".
        left_out: names in the folder that are not read and not copied.
        outside: the files that are links out of the folder, where only weights may be.
    """

    path: str
    readers: Mapping[str, Reader]
    index: str = ""
    left_out: tuple[str, ...] = ()
    outside: frozenset[str] = frozenset()

    @classmethod
    def lone(cls, file: Reader) -> Files:
        """Return the files of a checkpoint that is one file."""
        return cls(file.path, {"": file})

    def __getitem__(self, name: str) -> Reader:
        """Return the reader of a file.

        Raises:
            SourceNotFoundError, UnreadableSourceError: there is none, or it is not a file.
        """
        if name in self.left_out:
            raise self.dead(name)
        if name not in self.readers:
            raise SourceNotFoundError(os.path.join(self.path, name), known=self.readers)
        return self.readers[name]

    def dead(self, name: str) -> UnreadableSourceError:
        """Return the error for a name that was left out, as nothing can be read there."""
        problem = "it is a link that leads nowhere, or not a regular file"
        return UnreadableSourceError(os.path.join(self.path, name), problem)


class Neighbor(NamedTuple):
    """A network that a checkpoint holds next to its state dict.

    Attributes:
        root: its path.
        is_copy: whether it is a copy of the state dict, such as its average.
    """

    root: str
    is_copy: bool


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a checkpoint that can be read all the same.

    Attributes:
        problem: it, in a few words.
        is_lack_alone: whether nothing is in doubt, and a new checkpoint would be without it.
    """

    problem: str
    is_lack_alone: bool = False


Confirm = Callable[[Files], None]
"""Checks what was taken on trust, as reading it of a distant file would have taken long.
Raises MalformedFileError."""


Renumber = Callable[[Files, Sequence[NewNumber]], Edits]
"""Returns what replaces numbers in the pickle of a checkpoint's files."""


@dataclass(frozen=True, slots=True)
class Located:
    """The tensors of a checkpoint and the places where they lie.

    Attributes:
        format: the format's name, for people and records.
        tensors: those of the state dict, in its order.
        places: for each key that has bytes here, where they lie.
        metadata: the strings that the checkpoint holds besides its tensors.
        framework: that whose own format it is, as safetensors' metadata names it, or "".
        own_name: the name that a file has inside it, as the folder in an archive, or "".
        root: the path of the state dict in what the checkpoint holds; "" for the whole.
        outside: the tensors outside the state dict, by their whole path.
        rest: what else it holds that only a pickle can: paths and what they are.
        attributes: names of what is set on the state dict itself, such as "_metadata".
        unknown_names: what its pickles would import that torch does not allow.
        notes: what a user should know.
        optimizers: the optimizers' states outside the state dict.
        neighbors: the networks next to the state dict.
        has_record: whether it holds a provenance record.
        files: the names of its files that are read or copied.
        others: those of them that hold no weights, which a new folder gets as they are.
        fitting: those of the others that fit only weights of the same keys and shapes.
        stale: the files of a folder that would contradict new weights, and their sizes.
        unreachable: the names in a folder that are never copied, such as links out of it.
        alerts: what a user should know who only looks at it, too.
        faults: what keeps it from being rewritten, unless that is mended on the way.
        record_member: the name in the metadata that is a provenance record; "" for none.
        renumber: returns what replaces numbers of the optimizers; None where there are none.
        parts: the files that its tensors lie in, where `places` takes a look into them.
        facts: what it says of itself, for people: the version of its form, say.
        pieces: the file and the box of each piece of a tensor, by its key, where ranks wrote them.
        look: says of a key why its tensor can only be carried, where only its pieces tell.
        trained: files of training state that follows the weights: their format, what is in them.
        confirm: checks what was taken on trust, before tensors are read; None for nothing.
        own: what the format itself needs to rewrite the files; nobody else's business.
    """

    format: str
    tensors: tuple[TensorInfo, ...]
    places: Mapping[str, tuple[Place, ...]]
    metadata: Mapping[str, str] = field(default_factory=dict)
    framework: str = ""
    own_name: str = ""
    root: str = ""
    outside: tuple[TensorInfo, ...] = ()
    rest: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    unknown_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    optimizers: tuple[Optimizer, ...] = ()
    neighbors: tuple[Neighbor, ...] = ()
    has_record: bool = False
    files: tuple[str, ...] = ("",)
    others: tuple[str, ...] = ()
    fitting: tuple[str, ...] = ()
    stale: Mapping[str, int] = field(default_factory=dict)
    unreachable: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    record_member: str = ""
    renumber: Renumber | None = None
    parts: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    pieces: Mapping[str, Sequence[tuple[str, Box]]] = field(default_factory=dict)
    look: Callable[[str], str | None] | None = None
    trained: Mapping[str, tuple[Format, Located]] = field(default_factory=dict)
    confirm: Confirm | None = None
    own: object = None

    @property
    def plain_metadata(self) -> Mapping[str, str]:
        """The metadata without a provenance record."""
        return {name: text for name, text in self.metadata.items() if name != self.record_member}

    def with_others(self, others: tuple[str, ...]) -> Located:
        """Return the same with other files as those of a folder that go along."""
        read = [name for name in self.files if name not in self.others]
        return replace(self, others=others, files=(*read, *others))

    def doubts(self, path: str) -> tuple[str, ...]:
        """Return what also those should know who only look at what has a path."""
        return (*self.alerts, *(f"{path!r}: {fault.problem}" for fault in self.faults))


@dataclass(frozen=True, slots=True)
class Recorded:
    """The provenance record that a file holds.

    Attributes:
        text: the record.
        ranges: the bytes that are the record's, its CRC-32s included.
    """

    text: str
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Content:
    """What a new checkpoint is to hold.

    Attributes:
        tensors: the entries as they will be.
        metadata: strings besides the tensors.
        rest: what the source holds that only a pickle can.
        source: what people call the source.
        file: the name of its file of weights, or of the first; "" where there is none.
        is_live: whether it comes from objects in memory, which torch saves whatever they are.
    """

    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    rest: tuple[str, ...] = ()
    source: str = ""
    file: str = ""
    is_live: bool = False


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What a format cannot hold of a content.

    Attributes:
        beyond: the tensors that it cannot hold.
        suffixes: those of formats which most likely can.
        lost: what would be lost.
        suffixes_of_lost: those of formats which would most likely not lose it.
        notes: what a user should know of the new file.
    """

    beyond: tuple[TensorInfo, ...] = ()
    suffixes: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    suffixes_of_lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Supply:
    """What a new checkpoint is made from.

    Attributes:
        data: the bytes of each key, in row-major order.
        state: returns the state dict to pickle, whose tensors may hold no values.
        others: further files of a folder.
        name: the name of the output.
        shard_nbytes: the most bytes of tensors in a file of several, where that was asked for.
        record: a text as long as the record for which room is kept; "" for none.
        root: the keys that lead to the state dict in what is written; none for the whole.
    """

    data: Mapping[str, Sequence[Segment]]
    state: Callable[[], Mapping[str, Any]]
    others: Mapping[str, list[Segment]] = field(default_factory=dict)
    name: str = "archive.pt"
    shard_nbytes: int | None = None
    record: str = ""
    root: tuple[str, ...] = ()


class Format(Protocol):
    """A checkpoint format."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The suffixes of its files, the usual one first; of a folder, those of its index, if any."""

    @property
    def is_folder(self) -> bool:
        """Whether a checkpoint is a folder of several files."""

    @property
    def holds_record(self) -> bool:
        """Whether a checkpoint has room for a provenance record."""

    def recognizes(self, head: bytes, names: Sequence[str] = ()) -> bool:
        """Whether a checkpoint is of this format, as far as a glance tells.

        Args:
            head: how the file starts; of a folder b"".
            names: the names in the folder; none of a file.
        """

    def locate(self, files: Files, root: str | None = None) -> Located:
        """Find the tensors of a checkpoint.

        Args:
            files: its files.
            root: the path of the state dict in what it holds; None to look for it.

        Raises:
            SourceError: it cannot be read as what it is.
        """

    def checks(self, located: Located, files: Files) -> list[Check]:
        """Return what must be checked before tensors are taken out of the checkpoint."""

    def rewritten(
        self, located: Located, files: Files, edits: Edits, record: str = ""
    ) -> Mapping[str, list[Segment]]:
        """Return the segments of the same files with some bytes replaced.

        Args:
            located: what `locate` found.
            files: its files.
            edits: what replaces bytes of them.
            record: a text as long as the record for which room is kept; "" for none. A
                record that the checkpoint holds is left out: it describes another one.

        Raises:
            UnwritableContentError: the format has no place for a record.
        """

    def recorded(self, located: Located, files: Files) -> Mapping[str, Recorded]:
        """Return the provenance record of a checkpoint, by the file that holds it; or none.

        Raises:
            MalformedFileError, RecordError: it is not as it was written, or too large.
        """


class NewFormat(Format, Protocol):
    """A format in which new checkpoints are written."""

    def refuses(self, content: Content) -> Shortfall:
        """Return what a new checkpoint could not hold."""

    def created(self, content: Content, supply: Supply) -> Mapping[str, list[Segment]]:
        """Return the segments of each file of a new checkpoint.

        Args:
            content: what it is to hold; nothing in it is beyond the format.
            supply: what it is made from.
        """


def spliced(file: Reader, start: int, end: int, edits: FileEdits) -> list[Segment]:
    """Return a range of a file with the edits that lie in it.

    Args:
        file: the file.
        start: where the range starts.
        end: the offset after it.
        edits: what replaces bytes of the range, none overlapping another.
    """
    segments: list[Segment] = []
    reached = start
    for offset in sorted(offset for offset in edits if start <= offset < end):
        if offset > reached:
            segments.append(Copy(file, reached, offset - reached))
        segments.append(edits[offset])
        reached = offset + edits[offset].nbytes
    if reached < end:
        segments.append(Copy(file, reached, end - reached))
    return segments


def whole(file: Reader) -> list[Segment]:
    """Return a copy of a whole file."""
    return [Copy(file, 0, file.nbytes)]
