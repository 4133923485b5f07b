"""What a format module finds in a file: tensors, where they lie, how to patch them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from reinit_cli.errors import UnwritableContentError
from reinit_cli.storage.local import InputFile
from reinit_cli.storage.segments import Check, Copy, Range, Segment
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.optimizer import Optimizer

Edits = Mapping[int, Segment]
"""What replaces the bytes of a file from an offset on, as many as the segment has."""


class Layout(Protocol):
    """How a file is made up, and what in it depends on the tensors' bytes."""

    def patched(self, file: InputFile, edits: Edits, record: str = "") -> list[Segment]:
        """Return the segments of the same file with some bytes replaced.

        Args:
            file: the file.
            edits: what replaces bytes of it.
            record: a text as long as the record for which room is kept; "" for none. A
                record that the file holds is left out: it is not of the new file.

        Raises:
            UnwritableContentError: the format has no place for a record.
        """

    def checks(self, file: InputFile) -> list[Check]:
        """Return what must be checked before tensors are taken out of the file."""


MAX_RECORD_NBYTES = 64 * 2**20
"""The longest record that is read."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The record that a file holds of its own making.

    Attributes:
        text: the record.
        ranges: the bytes that are the record's, its CRC-32s included.
    """

    text: str
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class PlainLayout:
    """A file in which nothing depends on the tensors' bytes."""

    def patched(self, file: InputFile, edits: Edits, record: str = "") -> list[Segment]:
        """Return copies of the file with the edits between them.

        Raises:
            UnwritableContentError: a record is to be kept in it.
        """
        if record:
            raise UnwritableContentError(file.path, "a record beside its tensors")
        return spliced(file, 0, file.nbytes, edits)

    def checks(self, file: InputFile) -> list[Check]:
        """Return none: the file has no digests."""
        del file
        return []


@dataclass(frozen=True, slots=True)
class Located:
    """The tensors of a file and where they lie.

    Attributes:
        format: its name, for people: "safetensors", "torch zip", "torch legacy".
        tensors: those of the state dict, in its order.
        starts: for each key that has bytes here, the offset of the first in the file.
        layout: how the file is patched.
        metadata: the strings that the file holds beside its tensors.
        root: the path of the state dict in what the file holds; "" for the whole.
        outside: the tensors beside the state dict, by their whole path.
        rest: what else the file holds that only a pickle can: paths and what is there.
        attributes: names of what is set on the state dict itself, such as "_metadata".
        unknown_names: what the file's pickle would import that torch does not allow.
        notes: what a user should know.
        optimizers: the optimizers' states beside the state dict.
        has_record: whether it holds a record of its own making.
    """

    format: str
    tensors: tuple[TensorInfo, ...]
    starts: Mapping[str, int]
    layout: Layout = field(default_factory=PlainLayout)
    metadata: Mapping[str, str] = field(default_factory=dict)
    root: str = ""
    outside: tuple[TensorInfo, ...] = ()
    rest: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    unknown_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    optimizers: tuple[Optimizer, ...] = ()
    has_record: bool = False


def spliced(file: InputFile, start: int, end: int, edits: Edits) -> list[Segment]:
    """Return a range of a file with the edits that lie in it.

    Args:
        file: the file.
        start: where the range starts.
        end: the offset behind it.
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
