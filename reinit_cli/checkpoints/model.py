"""Read a model that is chosen by its name as a source."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from reinit_cli.checkpoints.formats import new_file_for
from reinit_cli.checkpoints.models.model import NO_WEIGHTS, Download, NamedModel
from reinit_cli.checkpoints.source import Contents, Source
from reinit_cli.checkpoints.state import StateContents, with_own_storages
from reinit_cli.lazy import dataclass
from reinit_cli.storage.location import SourceName
from reinit_cli.streams.stream import DEFAULT_STREAM, stream_named
from reinit_cli.tensors.info import TensorInfo

MODEL, MODEL_VERSION = "model", 2
"""How records name the way in which models without weights are made: version 2 draws each tensor
from its own stream, where torch drew all of them together."""

_OF_TORCH = "torch-1"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that is chosen by its name.

    Attributes:
        model: its name and weights.
        tensors: the entries of its state dict.
        stream: the stream that it is drawn from where it has no weights; that of torch means
            that torch draws it, under one seed for all tensors.
    """

    model: NamedModel
    tensors: tuple[TensorInfo, ...]
    stream: str = DEFAULT_STREAM
    path = None
    fingerprint = None
    format = None
    located = None
    is_folder = False

    @property
    def reads(self) -> tuple[str, ...]:
        """The files in the cache of its library that hold its weights."""
        return self.model.reads

    @property
    def download(self) -> Download | None:
        """What is downloaded when it is opened, or None."""
        return self.model.download

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.label

    @property
    def architecture(self) -> str:
        """The name under which its constructor is found."""
        return self.model.arch

    @property
    def weights(self) -> str:
        """The name of its weights."""
        return self.model.weights_name

    @property
    def metadata(self) -> Mapping[str, str]:
        """What files of PyTorch tensors say of themselves."""
        return {"format": "pt"}

    @property
    def called(self) -> SourceName:
        """The model's name, with the suffix of a format that holds all of it."""
        return SourceName("", self.model.stem, new_file_for(self.tensors).suffixes[0])

    @property
    def is_drawn(self) -> bool:
        """Whether its tensors are drawn one by one, each from its own stream."""
        return self.weights == NO_WEIGHTS and not stream_named(self.stream).needs_torch

    def undrawn(self, keys: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield those of some keys whose laws cannot be replayed, and why.

        They are taken as torch draws them in the constructor, under one seed.
        """
        from reinit_cli.checkpoints.models.drawn import Laws

        if self.is_drawn:
            tensors = tuple(tensor for tensor in self.tensors if tensor.key in keys)
            yield from Laws(self.model.laws(), self.tensors).lost(tensors)

    @contextmanager
    def open(self, seed: int) -> Iterator[Contents]:
        """Build the model, with its weights downloaded if need be."""
        if self.is_drawn:
            from reinit_cli.checkpoints.models.drawn import DrawnContents, Laws

            laws = Laws(self.model.laws(), self.tensors)
            yield DrawnContents.of(self.model, laws, seed, self.stream)
            return
        yield StateContents(with_own_storages(self.model.loaded(seed)))


def drawn_from(source: Source, stream: str, versions: Mapping[str, int] | None = None) -> Source:
    """Return a source that is drawn from a stream, if it is a model without weights.

    Args:
        source: any source.
        stream: the exact name of the stream.
        versions: those that a record names, or None.
    """
    if not isinstance(source, ModelSource):
        return source
    is_former = versions is not None and versions.get(MODEL, 1) < MODEL_VERSION
    return replace(source, stream=_OF_TORCH if is_former else stream)
