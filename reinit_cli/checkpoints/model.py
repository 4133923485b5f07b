"""Read a torchvision model as a source."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.formats import new_file_for
from reinit_cli.checkpoints.formats.base import Edits, Recorded
from reinit_cli.checkpoints.formats.respelling import Respelling
from reinit_cli.checkpoints.formats.torch.edits.module_versions import new_paths
from reinit_cli.checkpoints.source import Contents, empty_state
from reinit_cli.storage.location import SourceName
from reinit_cli.storage.reader import Modes, Reader
from reinit_cli.storage.segments import Check, Literal, Segment, View
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.optimizer import NewNumber

if TYPE_CHECKING:
    from reinit_cli.checkpoints.models.torchvision import Model


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A torchvision model.

    Attributes:
        model: its name and weights.
        tensors: the entries of its state dict.
    """

    model: Model
    tensors: tuple[TensorInfo, ...]
    path = None
    fingerprint = None
    format = None
    located = None
    is_folder = False

    @property
    def reads(self) -> tuple[str, ...]:
        """The file in torch's cache that holds its weights."""
        from reinit_cli.checkpoints.models.torchvision import cache_path

        return (cache_path(self.model.weights),) if self.model.weights is not None else ()

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def architecture(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def weights(self) -> str:
        """The name of its weights."""
        return self.model.weights.name if self.model.weights is not None else "none"

    @property
    def metadata(self) -> Mapping[str, str]:
        """What files of PyTorch tensors say of themselves."""
        return {"format": "pt"}

    @property
    def called(self) -> SourceName:
        """The model's name, with the suffix of a format that holds all of it."""
        return SourceName("", self.name, new_file_for(self.tensors).suffixes[0])

    @contextmanager
    def open(self, seed: int) -> Iterator[Contents]:
        """Build the model, with its weights downloaded if need be."""
        from reinit_cli.checkpoints.models.torchvision import load_model

        state = load_model(self.model, seed)
        yield _StateContents(_with_own_storages(state))


@dataclass(frozen=True, slots=True)
class _StateContents:
    state: Mapping[str, Any]

    @property
    def modes(self) -> Modes:
        return Modes()

    def view(self, tensor: TensorInfo) -> View:
        from reinit_cli.tensors.convert import bytes_of

        place = Literal(bytes_of(self.state[tensor.key]))
        return View.of(place, tensor.dtype, tensor.shape)

    def files(self) -> Mapping[str, Reader]:
        return {}

    def rewritten(self, edits: Edits, record: str = "") -> Mapping[str, list[Segment]]:
        del edits, record
        raise NotImplementedError("a model has no file of its own")

    def respelled(self, changes: Respelling, record: str = "") -> Mapping[str, list[Segment]]:
        del changes, record
        raise NotImplementedError("a model has no file of its own")

    def renumbered(self, numbers: Sequence[NewNumber]) -> Edits:
        del numbers
        return {}

    def others(self) -> Mapping[str, list[Segment]]:
        return {}

    def recorded(self) -> Mapping[str, Recorded]:
        return {}

    def checks(self) -> list[Check]:
        return []

    def state_dict(
        self, tensors: Sequence[TensorInfo], origins: Mapping[str, str]
    ) -> Mapping[str, Any]:
        import copy

        state: Any = copy.copy(self.state)  # keeps `_metadata`, which torch.save pickles
        state.clear()
        empty = empty_state(tensors)
        for tensor in tensors:
            key = origins.get(tensor.key, tensor.key)
            state[tensor.key] = empty.get(tensor.key, self.state[key])
        if origins and hasattr(state, "_metadata"):
            state._metadata = type(state._metadata)(
                _renamed_modules(state._metadata, {origins.get(key, key): key for key in state})
            )
        renamed: Mapping[str, Any] = state
        return renamed

    def check_unchanged(self, written: Collection[str] | None = None) -> None:
        """Nothing else can reach it."""


def _renamed_modules(
    modules: Mapping[str, object], keys: Mapping[str, str]
) -> Mapping[str, object]:
    """Return what torch says of modules under the names that their tensors get.

    Args:
        modules: what it says of each, by its path.
        keys: for each key before, the new one.
    """
    new = new_paths(modules, keys)
    named = ((new.get(path, path), said) for path, said in modules.items())
    return {path: said for path, said in named if path is not None}


def _with_own_storages(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a state dict whose plain tensors each fill a storage; ties stay ties."""
    import copy

    from reinit_cli.tensors.live import infos_of

    own = copy.copy(state)  # keeps `_metadata`, which torch.save pickles
    moved: dict[Any, Any] = {}
    for info in infos_of(state):
        tensor = state[info.key]
        if info.carried or (
            tensor.is_contiguous() and tensor.untyped_storage().nbytes() == info.nbytes
        ):
            continue
        place = (info.storage, info.offset, info.shape, info.stride)
        whole = moved.setdefault(place, tensor.contiguous().clone())
        own[info.key] = whole.detach()  # type: ignore[index]
    return own
