"""Describe what a model's own constructor fills each tensor with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache, cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.models.constructor import (
    Fills,
    Recorded,
    laws_of,
    laws_of_layers,
)
from reinit_cli.checkpoints.models.model import NO_WEIGHTS
from reinit_cli.checkpoints.models.recording.fills import Unknown
from reinit_cli.checkpoints.models.starts import below, endings, start_in, starts_of
from reinit_cli.checkpoints.models.torchvision import (
    build_model,
    default_num_classes,
    find_model,
    float_weights,
    model_names,
)
from reinit_cli.errors import UnknownNameError
from reinit_cli.initializers import Architecture, Law, UndefinedError
from reinit_cli.initializers.site import Arch
from reinit_cli.lazy import dataclass
from reinit_cli.streams.stream import seed_for
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.layers.layer import Layer
from reinit_cli.text import shape as written

if TYPE_CHECKING:
    from torch import nn


_MOST_GUESSES = 8
"""The most numbers of classes that are tried, each with a call of the constructor."""


class Constructed:
    """The laws and shapes that one call of a constructor gives a state dict."""

    def __init__(
        self, name: str, fills: Callable[[], Fills], starts: Callable[[], Fills] = dict
    ) -> None:
        """Remember how to record the constructor.

        Args:
            name: what people call the model.
            fills: calls the constructor and records it; called when it is first needed.
            starts: calls it, and records what its layers reset themselves to; as late.
        """
        self.name = name
        self._record = fills
        self._record_starts = starts

    @cached_property
    def _fills(self) -> Fills:
        return self._record()

    @cached_property
    def _starts(self) -> Fills:
        return self._record_starts()

    def _made(self, key: str) -> Recorded | None:
        """Return a tensor of either recording; the starts take fewer calls of the constructor."""
        is_recorded = "_fills" in self.__dict__
        return below(self._fills, key) if is_recorded else below(self._starts or self._fills, key)

    def start(self, key: str, shape: tuple[int, ...]) -> Law | None:
        """Return what the layer of a tensor resets it to; None where it has no start of its own.

        Raises:
            UndefinedError: it has one, which cannot be replayed.
        """
        return start_in(below(self._starts, key), shape)

    def layer(self, key: str) -> Layer | None:
        """Return the layer that a tensor belongs to, where the constructor tells it."""
        found = self._made(key)
        if found is None or found.layer is None:
            return None
        layer = found.layer
        prefix = key.removesuffix(f"{layer.path}.{layer.role}" if layer.path else layer.role)
        return replace(layer, path=f"{prefix}{layer.path}".removesuffix("."))

    def first_equal(self, key: str) -> str:
        """Return the first key whose tensor the constructor makes equal to another."""
        ending = next((each for each in endings(key) if each in self._fills), key)
        found = self._fills.get(ending)
        return key.removesuffix(ending) + found.equal_to if found is not None else key

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each tensor that it makes."""
        return {key: fill.shape for key, fill in self._fills.items()}

    def shape(self, key: str) -> tuple[int, ...] | None:
        """Return the shape of a tensor, or None where it makes none of that key."""
        found = self._made(key)
        return found.shape if found is not None else None

    def law(self, key: str, shape: tuple[int, ...], seed: int | None = None) -> Law:
        """Return what it fills a tensor with.

        Args:
            key: as in its own state dict, or after a prefix such as "module.".
            shape: the tensor's shape.
            seed: that of the run; None where the constructor is not to run for real.

        Raises:
            UndefinedError: it makes no such tensor, or in a way that cannot be replayed.
        """
        found = below(self._fills, key)
        if found is None:
            raise UndefinedError(f"{self.name} has no such key")
        if found.shape != shape:
            raise UndefinedError(f"{self.name} makes it {written(found.shape)}")
        law = found.law
        if isinstance(law, Unknown) and found.run is not None and seed is not None:
            law = found.run.law(found.key, seed_for(seed, self.name))
        if isinstance(law, Unknown):
            raise UndefinedError(law.reason)
        return law


class Classifier:
    """A model by its name, whose number of classes is read from the tensors it is asked for."""

    def __init__(self, name: str, tensors: Iterable[TensorInfo]) -> None:
        """Remember a model.

        Args:
            name: its name.
            tensors: those of the state dict whose architecture it is.
        """
        self.name = name
        self._shapes = {tensor.key: tensor.shape for tensor in tensors}

    def built(self, **arguments: Any) -> Constructed:
        """Return the model as its constructor makes it with these arguments."""
        raise NotImplementedError

    def default_num_classes(self) -> int | None:
        """Return how many classes it tells apart by default, or None if it has none."""
        raise NotImplementedError

    def variants(self) -> Iterable[Constructed]:
        """Return the model with other arguments that people use, such as a larger image."""
        return ()

    def law(self, key: str, shape: tuple[int, ...], seed: int | None = None) -> Law:
        """Return what the constructor fills a tensor with.

        Raises:
            UndefinedError: it makes no such tensor, or in a way that cannot be replayed.
        """
        try:
            return self._plain.law(key, shape, seed)
        except UndefinedError:
            for other in self._others:
                try:
                    return other.law(key, shape, seed)
                except UndefinedError:
                    continue
            raise

    def start(self, key: str, shape: tuple[int, ...]) -> Law | None:
        """Return what the layer of a tensor resets it to; None where it has no start of its own.

        Raises:
            UndefinedError: it has one, which cannot be replayed.
        """
        started = self._plain.start(key, shape)
        if started is not None or self._plain.shape(key) in (None, shape):
            return started
        return next(filter(None, (other.start(key, shape) for other in self._others)), None)

    def layer(self, key: str) -> Layer | None:
        """Return the layer that a tensor belongs to, with the shapes of the plain constructor."""
        return self._plain.layer(key)

    def first_equal(self, key: str) -> str:
        """Return the first key whose tensor the constructor makes equal to another."""
        return self._plain.first_equal(key)

    @cached_property
    def _plain(self) -> Constructed:
        return self.built()

    @cached_property
    def _others(self) -> tuple[Constructed, ...]:
        """The same constructor with other arguments."""
        differing = {
            key: (made[0], shape[0])
            for key, shape in self._shapes.items()
            if (made := self._plain.shape(key)) and made != shape and made[1:] == shape[1:]
        }
        with_classes = (
            self.built(num_classes=number)
            for number in _numbers_of_classes(self.default_num_classes(), differing.values())
        )
        fitting = (
            each
            for each in with_classes
            if all(each.shape(key) == self._shapes[key] for key in differing)
        )
        first = next(fitting, None)
        return (*((first,) if first else ()), *self.variants())


class Torchvision(Classifier):
    """A torchvision model.

    A constructor without weights is what fills; where the arguments of pretrained weights
    make other shapes, as a larger image does, the constructor with those arguments.
    """

    def __init__(self, name: str, tensors: Iterable[TensorInfo]) -> None:
        """Find a model.

        Args:
            name: its name.
            tensors: those of the state dict whose architecture it is.

        Raises:
            UnknownNameError: there is no such model.
        """
        if name not in model_names():
            raise UnknownNameError(name, known=model_names(), kind="architecture")
        super().__init__(name, tensors)

    def built(self, **arguments: Any) -> Constructed:
        """Return the model as its constructor makes it with these arguments."""
        return constructed(self.name, **arguments)

    def default_num_classes(self) -> int | None:
        """Return how many classes it tells apart by default, or None if it has none."""
        return default_num_classes(self.name)

    def variants(self) -> Iterable[Constructed]:
        """Return the model with the arguments of each of its pretrained weights."""
        return [constructed(self.name, weights) for weights in float_weights(self.name)]


def _numbers_of_classes(default: int | None, differing: Iterable[tuple[int, int]]) -> list[int]:
    """Return what the number of classes may be.

    Args:
        default: the number by default.
        differing: first dimensions, by default and as they are; a detector has several
            outputs for each class.
    """
    if default is None:
        return []
    numbers: dict[int, None] = {}
    for usual, there in differing:
        numbers[there] = None
        if there * default % usual == 0:
            numbers[there * default // usual] = None
    return list(numbers)[:_MOST_GUESSES]


def constructed(name: str, weights: str = NO_WEIGHTS, **arguments: Any) -> Constructed:
    """Return a torchvision model as its constructor makes it.

    Args:
        name: its name.
        weights: those whose arguments the constructor is given; their values are not loaded.
        arguments: others of its constructor.
    """

    def build() -> nn.Module:
        return build_model(find_model(name, weights), **arguments)

    return Constructed(name, lambda: laws_of(build), lambda: starts_of(build))


class NamedConstructor:
    """A constructor that is given by its name.

    Attributes:
        origin: what a record says of where it is from.
    """

    origin: Mapping[str, str]

    def __call__(self) -> nn.Module:
        """Make the module."""
        raise NotImplementedError

    def architecture(self, tensors: Iterable[TensorInfo]) -> Architecture:
        """Return what it fills the tensors of a state dict with."""
        raise NotImplementedError


def architecture_of(
    arch: Arch,
    tensors: Iterable[TensorInfo],
    origins: Mapping[str, str] = MappingProxyType({}),
) -> Architecture:
    """Return the architecture that a user names.

    Args:
        arch: a torchvision model's name, or what makes a module.
        tensors: those of the state dict.
        origins: for those that were renamed, the key before.

    Raises:
        UnknownNameError: there is no such model.
    """
    found: Architecture
    if isinstance(arch, str):
        found = Torchvision(arch, renamed(tensors, origins))
    elif isinstance(arch, NamedConstructor):
        found = arch.architecture(list(renamed(tensors, origins)))
    else:
        name = getattr(arch, "__name__", "the constructor")
        found = Constructed(name, lambda: laws_of(arch), lambda: starts_of(arch))
    return Renamed(found, origins) if origins else found


@dataclass(frozen=True, slots=True)
class Renamed:
    """An architecture whose tensors have other names in a checkpoint.

    Attributes:
        architecture: by its own names.
        origins: for each new name, the one before.
    """

    architecture: Architecture
    origins: Mapping[str, str]

    def law(self, key: str, shape: tuple[int, ...], seed: int | None = None) -> Law:
        """Return what fills a tensor: the one of this name, or else the one that had another.

        Raises:
            UndefinedError: it makes no such tensor, or in a way that cannot be replayed.
        """
        try:
            return self.architecture.law(key, shape, seed)
        except UndefinedError:
            if key not in self.origins:
                raise
        return self.architecture.law(self.origins[key], shape, seed)

    def start(self, key: str, shape: tuple[int, ...]) -> Law | None:
        """Return what the layer of a tensor resets it to; None where it has no start of its own.

        Raises:
            UndefinedError: it has one, which cannot be replayed.
        """
        started = self.architecture.start(key, shape)
        if started is not None or key not in self.origins:
            return started
        return self.architecture.start(self.origins[key], shape)

    def layer(self, key: str) -> Layer | None:
        """Return the layer that a tensor belongs to, by its own names."""
        return self.architecture.layer(key) or self.architecture.layer(self.origins.get(key, key))

    def first_equal(self, key: str) -> str:
        """Return the first key whose tensor the constructor makes equal to another.

        It is a key of the checkpoint where that has the tensor.
        """
        before = self.origins.get(key, key)
        first = self.architecture.first_equal(before)
        if first == before:
            return key
        return next((new for new, old in self.origins.items() if old == first), first)


def renamed(tensors: Iterable[TensorInfo], origins: Mapping[str, str]) -> Iterator[TensorInfo]:
    """Yield tensors under their names, and where these are new, under those before."""
    for tensor in tensors:
        yield tensor
        if tensor.key in origins:
            yield replace(tensor, key=origins[tensor.key])


def architecture_of_layers(module: nn.Module) -> Constructed:
    """Return what the layers of a module fill themselves with."""
    found = cache(lambda: laws_of_layers(module))
    return Constructed(type(module).__name__, found, found)
