"""Read the optimizer that a training run left next to the weights in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from reinit_cli.checkpoints.folder import FolderSource, readers_of
from reinit_cli.checkpoints.formats import training_format
from reinit_cli.checkpoints.formats.base import Edits, Files, Format, Located, Renumber
from reinit_cli.collector import collector_paused
from reinit_cli.lazy import dataclass
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.optimizer import STATE_FILES, Group, NewNumber, Optimizer, State


def with_optimizer(source: FolderSource) -> FolderSource:
    """Return a folder with the optimizer that is in it, if there is one.

    Raises:
        SourceError: it cannot be read.
    """
    name = next((name for name in STATE_FILES if name in source.located.others), None)
    if name is None:
        return source
    with ExitStack() as stack, collector_paused():
        readers = readers_of(source.store, source.path, {name: source.listed[name]}, stack)
        format_ = training_format(readers[name])
        found = format_.training(Files.lone(readers[name]))
    return replace(source, located=_together(source.located, name, format_, found))


def _together(located: Located, name: str, format_: Format, found: Located) -> Located:
    """Return what a folder holds, with what is in one more of its files."""
    of = _Renaming(name)
    places = {
        of.key(key): tuple(place._replace(file=name) for place in places)
        for key, places in found.places.items()
    }
    return replace(
        located,
        outside=(*located.outside, *map(of.tensor, found.outside)),
        places={**located.places, **places},
        optimizers=tuple(map(of.optimizer, found.optimizers)),
        renumber=_Renumbering(name, found.renumber) if found.renumber else None,
        trained={name: (format_, found)},
    )


@dataclass(frozen=True, slots=True)
class _Renaming:
    """Names what is in a file after the file.

    Attributes:
        name: the name of the file.
    """

    name: str

    def key(self, key: str) -> str:
        return f"{self.name}: {key}"

    def tensor(self, tensor: TensorInfo) -> TensorInfo:
        """Return a tensor whose storage is one of the file."""
        storage = None if tensor.storage is None else (self.name, tensor.storage)
        return replace(tensor, key=self.key(tensor.key), storage=storage)

    def optimizer(self, optimizer: Optimizer) -> Optimizer:
        """Return an optimizer."""
        return Optimizer(
            ": ".join(filter(None, (self.name, optimizer.path))),
            tuple(map(self._group, optimizer.groups)),
            {id_: self._state(state) for id_, state in optimizer.states.items()},
            optimizer.copies,
        )

    def _group(self, group: Group) -> Group:
        masters = tuple(map(self.tensor, group.masters))
        return replace(group, shared=self._state(group.shared), masters=masters)

    def _state(self, state: State) -> State:
        tensors = {slot: self.tensor(tensor) for slot, tensor in state.tensors.items()}
        return replace(state, tensors=tensors)


@dataclass(frozen=True, slots=True)
class _Renumbering:
    """Replaces numbers in a file of a folder.

    Attributes:
        name: the name of the file.
        within: replaces them in the file.
    """

    name: str
    within: Renumber

    def __call__(self, files: Files, numbers: Sequence[NewNumber]) -> Edits:
        """Return what replaces numbers."""
        own = [
            replace(each, at=each.at._replace(optimizer=self._path(each.at.optimizer)))
            for each in numbers
        ]
        return {self.name: self.within(Files.lone(files[self.name]), own)[""]}

    def _path(self, path: str) -> str:
        return path.removeprefix(self.name).removeprefix(": ")
