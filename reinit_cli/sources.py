"""A name or a path → a source: its tensors located, its bytes at hand when it is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from reinit_cli.errors import (
    SourceError,
    UnknownModelError,
    UnsupportedFormatError,
    WeightsMismatchError,
)
from reinit_cli.formats import safetensors
from reinit_cli.inputs import Fingerprint, InputFile
from reinit_cli.segments import Copy, Literal, Segment
from reinit_cli.tensors import TensorInfo
from reinit_cli.text import near, plural, shape

if TYPE_CHECKING:
    from reinit_cli.models import Model

DEFAULT_WEIGHTS = "DEFAULT"


class Contents(Protocol):
    """A source that is open."""

    def place(self, tensor: TensorInfo) -> Copy | Literal:
        """Return where the bytes of a tensor are."""

    def rewritten(self, fills: Mapping[str, Segment]) -> list[Segment] | None:
        """Return the source's own bytes with some tensors replaced; None if it has none."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return the source as a state dict to pickle; its tensors may hold no values."""

    def check_unchanged(self) -> None:
        """Compare the source with what was located.

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
    def metadata(self) -> Mapping[str, str]:
        """The strings it holds beside its tensors."""

    @property
    def path(self) -> str | None:
        """The file that is read, or None."""

    @property
    def weights(self) -> str | None:
        """The weights that were chosen for a model, or None for a file."""

    def default_output(self) -> str:
        """Return the name of the output where none is given."""

    def open(self, seed: int) -> Any:
        """Open it, as a context manager that gives `Contents`."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """A safetensors file, or a model whose weights are taken from one.

    Attributes:
        name: what people call it.
        path: the file.
        located: its tensors and where they lie.
        fingerprint: the file as it was when they were located.
        weights: the path, where the file was given as a model's weights.
    """

    name: str
    path: str
    located: safetensors.Located
    fingerprint: Fingerprint
    weights: str | None = None

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """Its tensors, in the order of the header."""
        return self.located.tensors

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's metadata."""
        return self.located.metadata

    def default_output(self) -> str:
        """Return "dir/m-reinit.safetensors" for "dir/m.safetensors"."""
        if self.weights is not None:
            return f"{self.name}-reinit{safetensors.SUFFIX}"
        stem, suffix = os.path.splitext(self.path)
        return f"{stem}-reinit{suffix}"

    @contextmanager
    def open(self, seed: int) -> Iterator[Contents]:
        """Open the file."""
        del seed
        with InputFile(self.path) as file:
            file.check_unchanged(self.fingerprint)
            yield _FileContents(file, self.located)


@dataclass(frozen=True, slots=True)
class _FileContents:
    file: InputFile
    located: safetensors.Located

    def place(self, tensor: TensorInfo) -> Copy | Literal:
        return Copy(self.file, self.located.offsets[tensor.key], tensor.nbytes)

    def rewritten(self, fills: Mapping[str, Segment]) -> list[Segment] | None:
        return safetensors.rewritten(self.file, self.located, fills)

    def state_dict(self) -> Mapping[str, Any]:
        import torch

        # Memory that is never touched is never there: this costs address space alone.
        return {
            tensor.key: torch.empty(tensor.shape, dtype=getattr(torch, tensor.dtype))
            for tensor in self.located.tensors
        }

    def check_unchanged(self) -> None:
        self.file.check_unchanged()


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

    @property
    def name(self) -> str:
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

    def default_output(self) -> str:
        """Return "alexnet-reinit.safetensors", or .pt for what safetensors cannot hold."""
        fits = all(map(safetensors.holds, self.tensors))
        return f"{self.name}-reinit{safetensors.SUFFIX if fits else '.pt'}"

    @contextmanager
    def open(self, seed: int) -> Iterator[Contents]:
        """Build the model, with its weights downloaded if need be."""
        from reinit_cli.models import load_model

        state = load_model(self.model, seed)
        yield _StateContents(_with_own_storages(state))


@dataclass(frozen=True, slots=True)
class _StateContents:
    state: Mapping[str, Any]

    def place(self, tensor: TensorInfo) -> Copy | Literal:
        from reinit_cli.drawing import bytes_of

        return Literal(bytes_of(self.state[tensor.key]))

    def rewritten(self, fills: Mapping[str, Segment]) -> list[Segment] | None:
        del fills
        return None

    def state_dict(self) -> Mapping[str, Any]:
        return self.state

    def check_unchanged(self) -> None:
        """Nothing else can reach it."""


def _with_own_storages(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a state dict whose plain tensors each fill a storage; ties stay ties."""
    import copy

    from reinit_cli.live import infos_of

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


def find_source(text: str, weights: str | None = None) -> Source:
    """Return the source that a user names.

    A word without dots and slashes is a torchvision model, or a file if no model has the
    name; anything else is a path.

    Args:
        text: what the user wrote.
        weights: for a model "DEFAULT", the name of its weights, "none", or a file; None
            means "DEFAULT".

    Raises:
        SourceError: there is no such source, or it cannot be read.
    """
    if text == "-":
        raise UnsupportedFormatError(text, "standard input")
    if _is_path(text):
        if weights is not None:
            raise SourceError(f"{text!r} is a path, and weights are chosen for a model's name")
        return _file_source(text, text)
    return _model_source(text, weights or DEFAULT_WEIGHTS)


def _is_path(text: str) -> bool:
    return not text.isidentifier()


def _file_source(path: str, name: str) -> FileSource:
    with InputFile(path) as file:
        return FileSource(name, path, safetensors.locate(file), file.fingerprint)


def _model_source(name: str, weights: str) -> Source:
    from reinit_cli.models import find_model, inspect_model, model_names

    if name not in model_names():
        if os.path.lexists(name):
            return _file_source(name, name)
        raise UnknownModelError(name, near(name, (*model_names(), *os.listdir())))
    if _is_file_of_weights(weights):
        return _with_weights_of(name, weights)
    model = find_model(name, weights)
    return ModelSource(model, inspect_model(model))


def _is_file_of_weights(weights: str) -> bool:
    return os.sep in weights or weights.endswith(safetensors.SUFFIX) or os.path.isfile(weights)


def _with_weights_of(name: str, path: str) -> FileSource:
    """Return a file as the weights of a model, after a look at every key and shape."""
    from reinit_cli.models import NO_WEIGHTS, find_model, inspect_model

    source = _file_source(path, name)
    wanted = {tensor.key: tensor.shape for tensor in inspect_model(find_model(name, NO_WEIGHTS))}
    found = {tensor.key: tensor.shape for tensor in source.tensors}
    missing = [key for key in wanted if key not in found]
    extra = [key for key in found if key not in wanted]
    if missing or extra:
        problem = f"{_some(missing)} missing" if missing else f"{_some(extra)} not of the model"
        raise WeightsMismatchError(name, path, problem)
    for key, dims in wanted.items():
        if found[key] != dims:
            problem = f"{key!r} is {shape(found[key])}, not {shape(dims)}"
            raise WeightsMismatchError(name, path, problem)
    return replace(source, weights=path)


def _some(keys: list[str]) -> str:
    return f"{plural(len(keys), 'key')} ({keys[0]!r}{', ...' if len(keys) > 1 else ''})"
