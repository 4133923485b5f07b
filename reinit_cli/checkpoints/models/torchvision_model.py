"""A model of torchvision as a source reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.models.architecture import constructed
from reinit_cli.checkpoints.models.model import NO_WEIGHTS
from reinit_cli.checkpoints.models.published import PublishedWeights, published_weights
from reinit_cli.checkpoints.models.torchvision import (
    build_empty_model,
    cache_path,
    download_of,
    inspect_model,
    load_model,
)
from reinit_cli.initializers import Architecture
from reinit_cli.lazy import dataclass
from reinit_cli.tensors.info import TensorInfo

if TYPE_CHECKING:
    from reinit_cli.checkpoints.models.model import Download
    from reinit_cli.checkpoints.models.torchvision import Model


@dataclass(frozen=True, slots=True)
class TorchvisionModel:
    """A model of torchvision; see `NamedModel`.

    Attributes:
        model: its name and weights.
    """

    model: Model
    library = "torchvision"

    @property
    def label(self) -> str:
        """Its name."""
        return self.model.name

    stem = arch = label

    @property
    def weights_name(self) -> str:
        """The name of its weights."""
        return self.model.weights.name if self.model.weights is not None else NO_WEIGHTS

    @property
    def reads(self) -> tuple[str, ...]:
        """The file in torch's cache that holds its weights."""
        return (cache_path(self.model.weights),) if self.model.weights is not None else ()

    @property
    def download(self) -> Download | None:
        """What is downloaded before it can be loaded; None where nothing is."""
        return download_of(self.model)

    def inspected(self) -> tuple[TensorInfo, ...]:
        """Return the entries of its state dict, without its weights and offline."""
        return inspect_model(self.model)

    def emptied(self) -> Mapping[str, Any]:
        """Return its state dict without values."""
        return build_empty_model(self.model)

    def loaded(self, seed: int) -> Mapping[str, Any]:
        """Return its state dict, with its weights downloaded if need be."""
        return load_model(self.model, seed)

    def changes(self, tensors: Iterable[TensorInfo]) -> Iterator[str]:
        """Yield nothing: torchvision loads its weights as they are."""
        del tensors
        yield from ()

    def published(self) -> tuple[PublishedWeights, ...]:
        """Return the weights that torchvision offers, the default first."""
        return published_weights(self.model.name)

    def laws(self) -> Architecture:
        """Return what its constructor fills it with where it has no weights."""
        return constructed(self.model.name)
