"""Replace numbers that optimizers keep, each of which is an object of its own in a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reinit_cli.checkpoints.formats.base import Edits, Files
from reinit_cli.checkpoints.formats.dcp.metadata import Metadata, Piece
from reinit_cli.checkpoints.formats.dcp.slices import Archive
from reinit_cli.checkpoints.formats.torch.edits.number_opcodes import respelled
from reinit_cli.errors import UnsupportedFormatError
from reinit_cli.lazy import dataclass
from reinit_cli.storage.segments import Literal, Segment
from reinit_cli.tensors.optimizer import NewNumber

_BEFORE, _AFTER = 2, 1
"""What a pickle has around a number: its protocol, and STOP."""


@dataclass(frozen=True, slots=True)
class ObjectNumbers:
    """Where the numbers of a folder are.

    Attributes:
        path: that of the folder.
        pieces: the objects that are numbers, by their places in what was saved.
    """

    path: str
    pieces: Mapping[str, Piece]

    @classmethod
    def of(cls, path: str, metadata: Metadata, records: Mapping[str, object]) -> ObjectNumbers:
        """Find them.

        Args:
            path: that of the folder.
            metadata: what the folder holds.
            records: what each object is.
        """
        pieces = {
            ".".join(map(str, metadata.paths.get(fqn, (fqn,)))): piece
            for fqn, piece in metadata.objects.items()
            if type(records[fqn]) in (int, float)
        }
        return cls(path, pieces)

    def __call__(self, files: Files, numbers: Sequence[NewNumber]) -> Edits:
        """Return what replaces numbers.

        Args:
            files: those of the folder.
            numbers: those that become others.

        Raises:
            UnsupportedFormatError: one is not written as torch writes it.
        """
        edits: dict[str, dict[int, Segment]] = {}
        for each in numbers:
            piece = self.pieces.get(each.at.path)
            if piece is None:
                problem = f"{each.at.path!r} is not an object of its own"
                raise UnsupportedFormatError(self.path, problem, kind="edit")
            file = files[piece.file]
            first, last = Archive(file, piece).extent_of_pickle()
            old = file.read(first + _BEFORE, last - _AFTER - first - _BEFORE)
            new = respelled(old, each.value)
            if not new:
                problem = f"{each.at.path!r} is written in an unusual way"
                raise UnsupportedFormatError(self.path, problem, kind="edit")
            edits.setdefault(piece.file, {})[first + _BEFORE] = Literal(new)
        return edits
