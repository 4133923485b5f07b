"""Read a torchvision model as a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from reinit_cli.checkpoints.formats import new_file_for
from reinit_cli.checkpoints.source import Contents
from reinit_cli.checkpoints.state import StateContents, with_own_storages
from reinit_cli.lazy import dataclass
from reinit_cli.storage.location import SourceName
from reinit_cli.tensors.info import TensorInfo

if TYPE_CHECKING:
    from reinit_cli.checkpoints.models.torchvision import Download, Model


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
    def download(self) -> Download | None:
        """What is downloaded when it is opened, or None."""
        from reinit_cli.checkpoints.models.torchvision import download_of

        return download_of(self.model)

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
        yield StateContents(with_own_storages(state))
