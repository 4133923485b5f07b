"""A name or a path → a source: its tensors located, its bytes at hand when it is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from reinit_cli.errors import (
    SourceError,
    UnknownModelError,
    WeightsMismatchError,
)
from reinit_cli.formats import detection, safetensors, torch_zip
from reinit_cli.formats.hugging_face import INDEX_SUFFIX, Shards, check_keys, find_shards
from reinit_cli.formats.located import Located
from reinit_cli.inputs import Fingerprint, InputFile, StandardInput
from reinit_cli.names import SourceName
from reinit_cli.segments import Check, Copy, Fill, Literal, Reserved, Segment, View
from reinit_cli.tensors import TensorInfo, tied_groups
from reinit_cli.text import near, plural, shape

if TYPE_CHECKING:
    from reinit_cli.models import Model

DEFAULT_WEIGHTS = "DEFAULT"


RECORD_FILE = "reinit.json"
"""The file in a folder that is a record of its making."""

DASH = "-"
"""The source that stands for standard input, and the output for standard output."""


class Contents(Protocol):
    """A source that is open."""

    def view(self, tensor: TensorInfo) -> View:
        """Return a tensor as it lies in bytes."""

    def rewritten(
        self, fills: Mapping[str, Fill], record: str = ""
    ) -> Mapping[str, list[Segment]] | None:
        """Return the source's own bytes with some tensors replaced; None if it has none.

        For each file of a folder its segments, by its path there; of a lone file under "".

        Args:
            fills: what replaces tensors, by key.
            record: a text as long as the record for which room is kept; "" for none.
        """

    def files(self) -> Mapping[str, InputFile]:
        """Return the files it is read from, as `rewritten` calls them; none of a model."""

    def beside(self) -> Mapping[str, list[Segment]]:
        """Return the files that lie beside those of the weights, by their path."""

    def checks(self) -> list[Check]:
        """Return what must be checked before tensors are taken out of the source."""

    def state_dict(self, tensors: Sequence[TensorInfo]) -> Mapping[str, Any]:
        """Return the source as a state dict to pickle; its tensors may hold no values.

        Args:
            tensors: the entries with the dtypes that they are to have.
        """

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
    def located(self) -> Located | None:
        """What was found in the file that is read; None for a model."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The strings it holds beside its tensors."""

    @property
    def path(self) -> str | None:
        """The file or folder that is read, or None."""

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


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file, or a model whose weights are taken from one.

    Attributes:
        name: what people call it.
        path: the file.
        located: its tensors and where they lie.
        fingerprint: the file as it was when they were located.
        weights: the path, where the file was given as a model's weights.
    """

    name: str
    path: str
    located: Located
    fingerprint: Fingerprint
    weights: str | None = None
    is_folder = False

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """Its tensors, in the order of the file."""
        return self.located.tensors

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's metadata."""
        return self.located.metadata

    @property
    def architecture(self) -> str | None:
        """The model's name, where it has a model's weights."""
        return self.name if self.weights is not None else None

    @property
    def called(self) -> SourceName:
        """Those of its path; a model is called by its own name."""
        parts = SourceName.of_file(self.path)
        return parts if self.weights is None else SourceName("", self.name, parts.suffix)

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
    located: Located

    def view(self, tensor: TensorInfo) -> View:
        self.file.make_seekable()
        return View(self._place(tensor), tensor.dtype, tensor.shape, tensor.stride)

    def _place(self, tensor: TensorInfo) -> Copy:
        first, last = tensor.extent
        return Copy(self.file, self.located.starts.get(tensor.key, 0), last - first)

    def files(self) -> Mapping[str, InputFile]:
        self.file.make_seekable()
        return {"": self.file}

    def rewritten(
        self, fills: Mapping[str, Fill], record: str = ""
    ) -> Mapping[str, list[Segment]] | None:
        edits: dict[int, Segment] = {}
        empty: list[Segment] = []
        for key, fill in fills.items():
            place = self._place(fill.step.tensor)
            under = place if place.nbytes != fill.nbytes else None
            if key != fill.step.seed_key and fill.step.tied:
                continue  # of one tensor under several keys, the first is drawn
            stride = fill.step.tensor.stride
            laid = replace(fill, nbytes=place.nbytes, stride=stride, under=under)
            if place.nbytes:
                edits[self.located.starts[key]] = laid
            else:
                empty.append(laid)
        return {"": [*self.located.layout.patched(self.file, edits, record), *empty]}

    def beside(self) -> Mapping[str, list[Segment]]:
        return {}

    def checks(self) -> list[Check]:
        return self.located.layout.checks(self.file)

    def state_dict(self, tensors: Sequence[TensorInfo]) -> Mapping[str, Any]:
        return _empty_state(tensors)

    def check_unchanged(self) -> None:
        self.file.check_unchanged()


@dataclass(frozen=True, slots=True)
class StreamSource:
    """Standard input.

    Attributes:
        file: what it is.
        located: its tensors and where they lie.
    """

    file: StandardInput
    located: Located
    name = DASH
    path = None
    weights = None
    architecture = None
    is_folder = False

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """Its tensors, in their order."""
        return self.located.tensors

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata that came with them."""
        return self.located.metadata

    @property
    def called(self) -> SourceName:
        """What a file of it is called where one is named after it."""
        is_torch = self.located.format.startswith("torch")
        return SourceName("", "stdin", ".pt" if is_torch else safetensors.SUFFIX)

    @contextmanager
    def open(self, seed: int) -> Iterator[Contents]:
        """Go on where the tensors were located; a second time only a file can."""
        del seed
        yield _FileContents(self.file, self.located)


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder whose files hold the weights together.

    Attributes:
        name: what people call it.
        shards: which files it has.
        parts: the files of weights, by their names.
        located: what they hold together.
    """

    name: str
    shards: Shards
    parts: Mapping[str, FileSource]
    located: Located
    weights = None
    architecture = None
    is_folder = True

    @property
    def path(self) -> str:
        """The folder."""
        return self.shards.folder

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """Its tensors, in the order of the files."""
        return self.located.tensors

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata of its files."""
        return self.located.metadata

    @property
    def called(self) -> SourceName:
        """Those of the folder, whose dots start no suffix."""
        path = self.path.rstrip(os.sep)
        is_name = os.path.basename(path) not in ("", ".", "..")
        return SourceName(*os.path.split(path if is_name else os.path.abspath(self.path)), "")

    @contextmanager
    def open(self, seed: int) -> Iterator[Contents]:
        """Open all its files."""
        with ExitStack() as stack:
            opened = {
                name: stack.enter_context(part.open(seed)) for name, part in self.parts.items()
            }
            index = self.shards.index
            beside = {
                name: stack.enter_context(InputFile(os.path.join(self.path, name)))
                for name in (*((index,) if index is not None else ()), *self.shards.others)
            }
            of = {tensor.key: name for name, part in self.parts.items() for tensor in part.tensors}
            yield _FolderContents(opened, beside, of, index)


@dataclass(frozen=True, slots=True)
class _FolderContents:
    parts: Mapping[str, Contents]
    others: Mapping[str, InputFile]
    of: Mapping[str, str]
    index: str | None

    def view(self, tensor: TensorInfo) -> View:
        return self.parts[self.of[tensor.key]].view(tensor)

    def files(self) -> Mapping[str, InputFile]:
        parts = {name: part.files()[""] for name, part in self.parts.items()}
        return {**parts, **self.others}

    def rewritten(
        self, fills: Mapping[str, Fill], record: str = ""
    ) -> Mapping[str, list[Segment]] | None:
        files: dict[str, list[Segment]] = {}
        for name, part in self.parts.items():
            here = {key: fill for key, fill in fills.items() if self.of[key] == name}
            files[name] = (part.rewritten(here) or {})[""]
        if self.index is not None:
            files[self.index] = _whole(self.others[self.index])
        own: dict[str, list[Segment]] = (
            {RECORD_FILE: [Reserved(len(record), "text")]} if record else {}
        )
        return {**files, **self.beside(), **own}

    def beside(self) -> Mapping[str, list[Segment]]:
        left_out = (self.index, RECORD_FILE)
        return {name: _whole(file) for name, file in self.others.items() if name not in left_out}

    def checks(self) -> list[Check]:
        return [check for part in self.parts.values() for check in part.checks()]

    def state_dict(self, tensors: Sequence[TensorInfo]) -> Mapping[str, Any]:
        return _empty_state(tensors)

    def check_unchanged(self) -> None:
        for part in self.parts.values():
            part.check_unchanged()
        for file in self.others.values():
            file.check_unchanged()


def _whole(file: InputFile) -> list[Segment]:
    return [Copy(file, 0, file.nbytes)]


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
    located = None
    is_folder = False

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
        """The model's name, with the suffix .pt for what safetensors cannot hold."""
        fits = all(map(safetensors.holds, self.tensors))
        return SourceName("", self.name, safetensors.SUFFIX if fits else ".pt")

    @contextmanager
    def open(self, seed: int) -> Iterator[Contents]:
        """Build the model, with its weights downloaded if need be."""
        from reinit_cli.models import load_model

        state = load_model(self.model, seed)
        yield _StateContents(_with_own_storages(state))


@dataclass(frozen=True, slots=True)
class _StateContents:
    state: Mapping[str, Any]

    def view(self, tensor: TensorInfo) -> View:
        from reinit_cli.drawing import bytes_of

        place = Literal(bytes_of(self.state[tensor.key]))
        return View(place, tensor.dtype, tensor.shape)

    def files(self) -> Mapping[str, InputFile]:
        return {}

    def rewritten(
        self, fills: Mapping[str, Fill], record: str = ""
    ) -> Mapping[str, list[Segment]] | None:
        del fills, record
        return None

    def beside(self) -> Mapping[str, list[Segment]]:
        return {}

    def checks(self) -> list[Check]:
        return []

    def state_dict(self, tensors: Sequence[TensorInfo]) -> Mapping[str, Any]:
        import copy

        state = copy.copy(self.state)  # keeps `_metadata`, which torch.save pickles
        for key, tensor in _empty_state(tensors).items():
            state[key] = tensor  # type: ignore[index]
        return state

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


def _empty_state(tensors: Sequence[TensorInfo]) -> Mapping[str, Any]:
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


def find_source(text: str, weights: str | None = None, root: str | None = None) -> Source:
    """Return the source that a user names.

    A word without dots and slashes is a torchvision model, or a file if no model has the
    name; anything else is a path.

    Args:
        text: what the user wrote.
        weights: for a model "DEFAULT", the name of its weights, "none", or a file; None
            means "DEFAULT".
        root: the path of the state dict in what a torch file holds; None to look for it.

    Raises:
        SourceError: there is no such source, or it cannot be read.
    """
    if text == DASH:
        file = StandardInput()
        return StreamSource(file, detection.locate(file, root))
    if _is_path(text):
        if weights is not None:
            raise SourceError(f"{text!r} is a path, and weights are chosen for a model's name")
        return _path_source(text, root)
    return _model_source(text, weights or DEFAULT_WEIGHTS, root)


def _is_path(text: str) -> bool:
    return not text.isidentifier()


def _path_source(path: str, root: str | None) -> Source:
    if os.path.isdir(path) or path.endswith(INDEX_SUFFIX):
        return _folder_source(path, root)
    return _file_source(path, path, root)


def _folder_source(path: str, root: str | None) -> FolderSource:
    shards = find_shards(path)
    paths = {name: os.path.join(shards.folder, name) for name in shards.files}
    parts = {name: _file_source(paths[name], paths[name], root) for name in shards.files}
    keys = {name: tuple(tensor.key for tensor in part.tensors) for name, part in parts.items()}
    check_keys(shards, keys)
    return FolderSource(path, shards, parts, _together(shards, parts))


def _together(shards: Shards, parts: Mapping[str, FileSource]) -> Located:
    """Return what the files of a folder hold together; storages stay apart."""
    found = [(name, part.located) for name, part in parts.items()]
    metadata: dict[str, str] = {}
    for _, located in found:
        metadata |= located.metadata
    notes = tuple(note for _, located in found for note in located.notes)
    if shards.left_out:
        notes += (f"not copied from {shards.folder!r}: {', '.join(shards.left_out)}",)
    return Located(
        found[0][1].format,
        tuple(
            tensor if tensor.storage is None else replace(tensor, storage=(name, tensor.storage))
            for name, located in found
            for tensor in located.tensors
        ),
        {},  # an offset means nothing without its file
        metadata=metadata,
        root=found[0][1].root,
        outside=tuple(
            replace(tensor, storage=(name, tensor.storage))
            for name, located in found
            for tensor in located.outside
        ),
        rest=tuple(item for _, located in found for item in located.rest),
        attributes=tuple(
            dict.fromkeys(each for _, located in found for each in located.attributes)
        ),
        unknown_names=tuple(
            dict.fromkeys(each for _, located in found for each in located.unknown_names)
        ),
        notes=notes,
        has_record=RECORD_FILE in shards.others,
    )


def _file_source(path: str, name: str, root: str | None) -> FileSource:
    with InputFile(path) as file:
        return FileSource(name, path, detection.locate(file, root), file.fingerprint)


def _model_source(name: str, weights: str, root: str | None) -> Source:
    from reinit_cli.models import find_model, inspect_model, model_names

    if name not in model_names():
        if os.path.lexists(name):
            return _path_source(name, root)
        raise UnknownModelError(name, near(name, (*model_names(), *os.listdir())))
    if _is_file_of_weights(weights):
        return _with_weights_of(name, weights, root)
    model = find_model(name, weights)
    return ModelSource(model, inspect_model(model))


def _is_file_of_weights(weights: str) -> bool:
    suffix = os.path.splitext(weights)[1].lower()
    is_suffix = suffix in (safetensors.SUFFIX, *torch_zip.SUFFIXES)
    return os.sep in weights or is_suffix or os.path.isfile(weights)


def _with_weights_of(name: str, path: str, root: str | None) -> FileSource:
    """Return a file as the weights of a model, after a look at every key and shape."""
    from reinit_cli.models import NO_WEIGHTS, find_model, inspect_model

    source = _file_source(path, name, root)
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
