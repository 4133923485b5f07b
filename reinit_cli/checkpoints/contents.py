"""Read the bytes of a located checkpoint, and list the segments of it rewritten."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Any

from reinit_cli.checkpoints.formats import keeping
from reinit_cli.checkpoints.formats.base import (
    Edits,
    Files,
    Format,
    Located,
    Place,
    Recorded,
    whole,
)
from reinit_cli.checkpoints.formats.respelling import Respelling
from reinit_cli.checkpoints.source import empty_state
from reinit_cli.errors import UnreadableSourceError
from reinit_cli.lazy import dataclass
from reinit_cli.storage.listing import ListedFolder
from reinit_cli.storage.reader import Modes, Reader
from reinit_cli.storage.segments import Check, Copy, Part, Segment, View
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.optimizer import NewNumber


@dataclass(frozen=True, slots=True)
class FileContents:
    """The contents of a file, a folder or standard input.

    Attributes:
        format: its format.
        located: what was found in it.
        opened: its files.
        modes: the permissions of what a folder holds.
        folder: the folder of them, or None.
    """

    format: Format
    located: Located
    opened: Files
    modes: Modes = field(default_factory=Modes)
    folder: ListedFolder | None = None

    def view(self, tensor: TensorInfo) -> View:
        """Return a tensor, wherever its bytes lie.

        Raises:
            UnreadableSourceError: its pieces alone say that it can only be carried along.
        """
        places = self.located.places.get(tensor.key, ())
        if not places and self.located.look is not None and not tensor.carried:
            why = self.located.look(tensor.key)
            raise UnreadableSourceError(self.opened.path, f"{tensor.key!r} is {why}")
        parts = tuple(self._part(place, tensor.stride) for place in places)
        return View(parts, tensor.dtype, tensor.shape)

    def _part(self, place: Place, stride: tuple[int, ...] | None) -> Part:
        file = self.opened[place.file]
        file.make_seekable()
        copy = Copy(file, place.offset, place.nbytes)
        return Part(copy, place.box, stride if place.box is None else place.stride)

    def files(self) -> Mapping[str, Reader]:
        """Return the files that it is made of."""
        files = {name: self.opened[name] for name in self.located.files}
        for file in files.values():
            file.make_seekable()
        return files

    def rewritten(self, edits: Edits, record: str = "") -> Mapping[str, list[Segment]]:
        """Return its own bytes with some of them replaced."""
        return self.format.rewritten(self.located, self.opened, edits, record)

    def respelled(self, changes: Respelling, record: str = "") -> Mapping[str, list[Segment]]:
        """Return its own files with other tensors in them, and everything else as it is."""
        format_ = keeping(self.format)
        assert format_ is not None
        return format_.respelled(self.located, self.opened, changes, record)

    def renumbered(self, numbers: Sequence[NewNumber]) -> Edits:
        """Return what replaces numbers of its optimizers."""
        assert self.located.renumber is not None
        return self.located.renumber(self.opened, numbers)

    def others(self) -> Mapping[str, list[Segment]]:
        """Return the files that hold no weights."""
        return {name: whole(self.opened[name]) for name in self.located.others}

    def checks(self) -> list[Check]:
        """Return what must be checked before tensors are taken out of it."""
        return self.format.checks(self.located, self.opened)

    def state_dict(
        self, tensors: Sequence[TensorInfo], origins: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """Return such tensors without values."""
        del origins
        return empty_state(tensors)

    def recorded(self) -> Mapping[str, Recorded]:
        """Return the provenance record that it holds."""
        return self.format.recorded(self.located, self.opened)

    def check_unchanged(self, written: Collection[str] | None = None) -> None:
        """Compare every file with what was located."""
        if self.folder is not None and written is not None:
            self.folder.check_unchanged(written)
            return
        for file in self.opened.readers.values():
            file.check_unchanged()
