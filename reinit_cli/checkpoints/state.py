"""Read a state dict in memory, or that of a module, as a source."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.formats import new_file_for
from reinit_cli.checkpoints.formats.base import Edits, Recorded
from reinit_cli.checkpoints.formats.respelling import Respelling
from reinit_cli.checkpoints.source import Contents, empty_state
from reinit_cli.errors import SourceError
from reinit_cli.lazy import dataclass
from reinit_cli.storage.location import SourceName
from reinit_cli.storage.reader import Modes, Reader
from reinit_cli.storage.segments import Check, Literal, Segment, View
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.optimizer import NewNumber
from reinit_cli.text import kind_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reinit_cli.initializers import Architecture


@dataclass(frozen=True, slots=True, eq=False)
class StateSource:
    """A state dict in memory.

    Attributes:
        name: what people call it.
        state: its entries.
        tensors: what is known of them.
        layers: what the layers of the module fill themselves with, where it is one's.
    """

    name: str
    state: Mapping[str, Any]
    tensors: tuple[TensorInfo, ...]
    layers: Architecture | None = None
    path = None
    fingerprint = None
    format = None
    located = None
    is_folder = False
    reads = ()
    weights = None
    architecture = None

    @property
    def metadata(self) -> Mapping[str, str]:
        """What files of PyTorch tensors say of themselves."""
        return {"format": "pt"}

    @property
    def called(self) -> SourceName:
        """Its name, with the suffix of a format that holds all of it."""
        return SourceName("", self.name, new_file_for(self.tensors).suffixes[0])

    @contextmanager
    def open(self, seed: int) -> Iterator[Contents]:
        """Bring its tensors to main memory, if they are elsewhere."""
        del seed
        yield StateContents(with_own_storages(self.state))


def state_source(held: nn.Module | Mapping[str, Any]) -> StateSource:
    """Return a module, or a state dict, as a source.

    Raises:
        SourceError: a key is not a text, or no entry is a tensor.
    """
    import torch

    from reinit_cli.checkpoints.models.architecture import architecture_of_layers

    if isinstance(held, torch.nn.Module):
        state = held.state_dict(keep_vars=True)
        layers = architecture_of_layers(held)
        return StateSource(type(held).__name__, state, entries_in_memory(state), layers)
    _refuse_others(held)
    state = held if isinstance(held, dict) else dict(held)
    return StateSource(STATE_DICT, state, entries_in_memory(state))


STATE_DICT = "the state dict"
"""What people call one that is of no module."""


def _refuse_others(state: Mapping[Any, Any]) -> None:
    """Refuse a mapping that is no state dict, such as a whole training checkpoint.

    Raises:
        SourceError: it is one.
    """
    import torch

    for key in state:
        if not isinstance(key, str):
            problem = f"a key of {STATE_DICT} must be a text, not {kind_of(key)}"
            raise SourceError(STATE_DICT, problem)
    if any(isinstance(each, torch.Tensor) for each in state.values()):
        return
    inside = [key for key, each in state.items() if isinstance(each, Mapping)]
    raise SourceError(STATE_DICT, known=inside, kind="no tensors")


def entries_in_memory(state: Mapping[str, Any]) -> tuple[TensorInfo, ...]:
    """Return what is known of every entry of a state dict whose values are needed."""
    from reinit_cli.tensors.live import infos_of

    return tuple(
        replace(info, carried="a meta tensor, which has no values")
        if getattr(state[info.key], "is_meta", False)
        else info
        for info in infos_of(state)
    )


@dataclass(frozen=True, slots=True)
class StateContents:
    """A state dict as the contents of a source.

    Attributes:
        state: its tensors, each of which fills a storage in main memory, or is copied as it is.
    """

    state: Mapping[str, Any]

    @property
    def modes(self) -> Modes:
        """None that are not those of any new file."""
        return Modes()

    def view(self, tensor: TensorInfo) -> View:
        """Return the bytes of a tensor."""
        from reinit_cli.tensors.convert import bytes_of
        from reinit_cli.tensors.rounding import elements_of_tensor

        place = Literal(bytes_of(elements_of_tensor(self.state[tensor.key]).array))
        return View.of(place, tensor.dtype, tensor.shape)

    def files(self) -> Mapping[str, Reader]:
        """Return none: it is in memory."""
        return {}

    def rewritten(self, edits: Edits, record: str = "") -> Mapping[str, list[Segment]]:
        """Fail: there is no file."""
        del edits, record
        raise NotImplementedError("a model has no file of its own")

    def respelled(self, changes: Respelling, record: str = "") -> Mapping[str, list[Segment]]:
        """Fail: there is no file."""
        del changes, record
        raise NotImplementedError("a model has no file of its own")

    def renumbered(self, numbers: Sequence[NewNumber]) -> Edits:
        """Return nothing: there is no optimizer."""
        del numbers
        return {}

    def others(self) -> Mapping[str, list[Segment]]:
        """Return none."""
        return {}

    def recorded(self) -> Mapping[str, Recorded]:
        """Return none."""
        return {}

    def checks(self) -> list[Check]:
        """Return none."""
        return []

    def state_dict(
        self, tensors: Sequence[TensorInfo], origins: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """Return it without values, under new keys."""
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
    from reinit_cli.checkpoints.formats.torch.edits.module_versions import new_paths

    new = new_paths(modules, keys)
    named = ((new.get(path, path), said) for path, said in modules.items())
    return {path: said for path, said in named if path is not None}


def with_own_storages(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a state dict whose plain tensors each fill a storage in main memory.

    Ties stay ties.
    """
    import copy

    own = copy.copy(state)  # keeps `_metadata`, which torch.save pickles
    moved: dict[Any, Any] = {}
    for info in entries_in_memory(state):
        tensor = state[info.key]
        if info.carried or _fills_storage(tensor, info.nbytes):
            continue
        place = (info.storage, info.offset, info.shape, info.stride)
        if place not in moved:
            moved[place] = _moved(tensor)
        own[info.key] = moved[place].detach()  # type: ignore[index]
    return own


def _fills_storage(tensor: Tensor, nbytes: int) -> bool:
    """Whether a tensor is all of its storage, in main memory."""
    is_plain = tensor.device.type == "cpu" and tensor.is_contiguous() and not tensor.is_neg()
    return is_plain and not tensor.is_conj() and tensor.untyped_storage().nbytes() == nbytes


def _moved(tensor: Tensor) -> Tensor:
    """Return a copy of a tensor that is all of its storage, in main memory."""
    import torch

    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
