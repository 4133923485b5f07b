"""Declare what a model is that is chosen by its name, whichever library has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from reinit_cli.errors import SourceError, SourceNotFoundError
from reinit_cli.lazy import dataclass
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import plural, shape

if TYPE_CHECKING:
    from reinit_cli.checkpoints.models.published import PublishedWeights
    from reinit_cli.initializers import Architecture

NO_WEIGHTS = "none"
"""The word for a model as its constructor makes it."""

TIMM = "timm:"
"""What names of timm's models start with, as those of architectures do; the package of these takes
too long to import where any source is looked for."""

DEFAULT_WEIGHTS = "DEFAULT"
"""The word for the weights that a library prefers."""


@dataclass(frozen=True, slots=True)
class Download:
    """Pretrained weights that are not in the cache of their library yet.

    Attributes:
        model: the name of the model.
        weights: that of its weights.
        path: the file that they will be, or the folder that it will lie in.
        nbytes: its size, where the library says it.
    """

    model: str
    weights: str
    path: str
    nbytes: int | None


class NamedModel(Protocol):
    """A model of a library with the weights that were chosen for it."""

    @property
    def library(self) -> str:
        """The name of the package that has it."""

    @property
    def label(self) -> str:
        """What people call it, as they write it."""

    @property
    def stem(self) -> str:
        """What files of it are called."""

    @property
    def arch(self) -> str:
        """The name under which its architecture is found."""

    @property
    def weights_name(self) -> str:
        """The name of its weights, or "none"."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The files that hold its weights, as far as they are known."""

    @property
    def download(self) -> Download | None:
        """What is downloaded before it can be loaded; None where nothing is."""

    def inspected(self) -> tuple[TensorInfo, ...]:
        """Return the entries of its state dict, without its weights and offline."""

    def emptied(self) -> Mapping[str, Any]:
        """Return its state dict as its constructor makes it, without values."""

    def loaded(self, seed: int) -> Mapping[str, Any]:
        """Return its state dict, with its weights downloaded if need be.

        Raises:
            SourceNotFoundError: the weights are not here and cannot be had.
            SourceError: a file in the cache holds other weights.
        """

    def changes(self, tensors: Iterable[TensorInfo]) -> Iterator[str]:
        """Say how its library changes the weights as it loads them, where they are here already.

        Args:
            tensors: the entries of its state dict.
        """

    def published(self) -> tuple[PublishedWeights, ...]:
        """Return the weights that its library offers, the default first."""

    def laws(self) -> Architecture:
        """Return what its constructor fills it with."""


def not_the_weights(model: str, path: str, problem: str) -> SourceError:
    """Return that a file does not hold the weights of a model."""
    return SourceError(path, f"{path!r} does not hold the weights of {model}: {problem}")


def unavailable(model: str, path: str, problem: str, command: str = "") -> SourceNotFoundError:
    """Return that weights are not where they would have been downloaded to.

    Args:
        model: what people call the model.
        path: that place.
        problem: why they cannot be downloaded.
        command: what downloads them where there is a network, if it is not a lone file.
    """
    known = (command,) if command else ()
    return SourceNotFoundError(path, problem, known, kind="weights", of=model)


def misfit(wanted: Iterable[TensorInfo], found: Iterable[TensorInfo]) -> str:
    """Say how entries differ from those that are wanted, or "" where keys and shapes agree."""
    there = {tensor.key: tensor.shape for tensor in found}
    shapes = {tensor.key: tensor.shape for tensor in wanted}
    missing = [key for key in shapes if key not in there]
    extra = [key for key in there if key not in shapes]
    if missing or extra:
        return f"{some(missing)} missing" if missing else f"{some(extra)} not of the model"
    for key, dims in shapes.items():
        if there[key] != dims:
            return f"{key!r} is {shape(there[key])}, not {shape(dims)}"
    return ""


def some(keys: Sequence[str]) -> str:
    """Return how many keys there are, and the first."""
    return f"{plural(len(keys), 'key')} ({keys[0]!r}{', ...' if len(keys) > 1 else ''})"
