"""Declare how the tensors of a checkpoint change where everything else stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from reinit_cli.checkpoints.formats.base import Content, Edits, Files, Format, Located, Shortfall
from reinit_cli.lazy import dataclass
from reinit_cli.storage.segments import Segment
from reinit_cli.tensors.info import TensorInfo


class NewEntry(NamedTuple):
    """What becomes of an entry of a state dict.

    Attributes:
        key: its key.
        tensor: its dtype and shape, contiguous at the start of a storage of its own, where that
            changes. The storage says which of the new data it is; tied entries share one.
    """

    key: str
    tensor: TensorInfo | None = None


@dataclass(frozen=True, slots=True)
class Respelling:
    """Changes of a checkpoint that keeps everything else.

    Attributes:
        entries: what becomes of entries that change, by their key in the source; None where they
            are dropped.
        data: the bytes of new storages, in row-major order.
        edits: what replaces bytes that stay where they are.
    """

    entries: Mapping[str, NewEntry | None]
    data: Mapping[str, Sequence[Segment]]
    edits: Edits


class KeepingFormat(Format, Protocol):
    """A format whose tensors can change where everything else of a checkpoint stays."""

    def refuses(self, content: Content) -> Shortfall:
        """Return what a checkpoint could not hold."""

    def training(self, files: Files) -> Located:
        """Find the optimizers of files whose state dict is somewhere else.

        Raises:
            MalformedFileError: they cannot be read as what they are.
        """

    def respelled(
        self, located: Located, files: Files, changes: Respelling, record: str = ""
    ) -> Mapping[str, list[Segment]]:
        """Return the segments of the same files with other tensors in them.

        Args:
            located: what `locate` found.
            files: its files.
            changes: what changes.
            record: a text as long as the record for which room is kept; "" for none.

        Raises:
            UnsupportedFormatError: what changes is shared in a way that cannot be kept.
        """
