"""Declare what a source is: located tensors, and their bytes once it is open."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from reinit_cli.checkpoints.formats.base import Edits, Format, Located, Recorded
from reinit_cli.checkpoints.formats.respelling import Respelling
from reinit_cli.storage.location import SourceName
from reinit_cli.storage.reader import Fingerprint, Modes, Reader
from reinit_cli.storage.segments import Check, Segment, View
from reinit_cli.tensors.info import TensorInfo, tied_groups
from reinit_cli.tensors.optimizer import NewNumber
from reinit_cli.text import listed


class Contents(Protocol):
    """A source that is open."""

    @property
    def modes(self) -> Modes:
        """The permissions of what a folder holds, which a new folder gets too."""

    def view(self, tensor: TensorInfo) -> View:
        """Return a tensor, wherever its bytes lie."""

    def rewritten(self, edits: Edits, record: str = "") -> Mapping[str, list[Segment]]:
        """Return the segments of the source's own files with some bytes replaced.

        Args:
            edits: what replaces bytes of each file; a lone file is "".
            record: a text as long as the record for which room is kept; "" for none.
        """

    def respelled(self, changes: Respelling, record: str = "") -> Mapping[str, list[Segment]]:
        """Return the segments of the source's own files with other tensors in them.

        Args:
            changes: what changes; everything else stays.
            record: a text as long as the record for which room is kept; "" for none.

        Raises:
            UnsupportedFormatError: what changes is shared in a way that cannot be kept.
        """

    def renumbered(self, numbers: Sequence[NewNumber]) -> Edits:
        """Return what replaces numbers of the optimizers of the source.

        Raises:
            UnsupportedFormatError: they cannot be replaced.
        """

    def files(self) -> Mapping[str, Reader]:
        """Return the files it is made of, as `rewritten` calls them; none of a model."""

    def others(self) -> Mapping[str, list[Segment]]:
        """Return the files of a folder that hold no weights, by their path."""

    def recorded(self) -> Mapping[str, Recorded]:
        """Return the provenance record that it holds, by the file that holds it; or none.

        Raises:
            MalformedFileError, RecordError: it is not as it was written, or too large.
        """

    def checks(self) -> list[Check]:
        """Return what must be checked before tensors are taken out of the source."""

    def state_dict(
        self, tensors: Sequence[TensorInfo], origins: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """Return the source as a state dict to pickle; its tensors may hold no values.

        Args:
            tensors: the entries with the dtypes and keys that they are to have.
            origins: for each key that is new, the key in the source.
        """

    def check_unchanged(self, written: Collection[str] | None = None) -> None:
        """Compare the source with what was located.

        Args:
            written: the paths that the command itself writes, where a folder must have no
                other new file either; None where only the files that are read count.

        Raises:
            SourceChangedError: they differ.
        """


class Source(Protocol):
    """A located source."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """Its entries, in order."""

    @property
    def format(self) -> Format | None:
        """Its format; None of a model."""

    @property
    def located(self) -> Located | None:
        """What was found in the file that is read; None for a model."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The strings that it holds besides its tensors."""

    @property
    def path(self) -> str | None:
        """The file or folder that is read, or None."""

    @property
    def fingerprint(self) -> Fingerprint | None:
        """The file as it was when its tensors were located; None where there is not one file."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The path of every file that is read."""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of several files."""

    @property
    def weights(self) -> str | None:
        """The weights that were chosen for a model, or None for a file."""

    @property
    def architecture(self) -> str | None:
        """The name of the torchvision model that it is, or None where that is not known."""

    @property
    def called(self) -> SourceName:
        """Its name in parts, of which outputs are named."""

    def open(self, seed: int) -> Any:
        """Open it, as a context manager that gives `Contents`."""


def files_of_weights(located: Located) -> tuple[str, ...]:
    """Return the files that tensors lie in."""
    places = () if located.parts else located.places.values()
    return located.parts or tuple(dict.fromkeys(each.file for of in places for each in of))


def doubts_about(source: Source) -> tuple[str, ...]:
    """Return what a user should know of a source who only looks at it, too."""
    located = source.located
    return located.doubts(source.path or source.name) if located is not None else ()


def unused_root(root: str | None, sources: Iterable[Source]) -> Iterator[str]:
    """Say that the path of a state dict was given where no source can have one.

    Args:
        root: the path that was asked for, or None.
        sources: all of them: of two that are compared one may have a path.
    """
    sources = tuple(sources)
    if root not in (None, "", ".") and not any(
        each.located and each.located.root for each in sources
    ):
        has = "has" if len(sources) == 1 else "have"
        names = listed([repr(each.name) for each in sources])
        yield f"--root has no effect: {names} {has} no nested state dict"


def empty_state(tensors: Sequence[TensorInfo]) -> Mapping[str, Any]:
    """Return a state dict of such tensors without values; ties are ties again."""
    import torch

    # Memory that is never touched is never there: this costs address space alone.
    state: dict[str, Any] = {}
    ties = tied_groups(tuple(tensors))
    first: dict[tuple[str, ...], Any] = {}
    for tensor in tensors:
        if not tensor.carried:
            group = ties.get(tensor.key, (tensor.key,))
            if group not in first:
                first[group] = torch.empty(tensor.shape, dtype=getattr(torch, tensor.dtype))
            state[tensor.key] = first[group].detach()
    return state
