"""Find the layers that the tensors of a checkpoint are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType

from reinit_cli.initializers import Architecture, Elsewhere
from reinit_cli.initializers.stacks import Stacks
from reinit_cli.lazy import dataclass
from reinit_cli.request.rule import Rule
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.layers.layer import Layer, Layers


@dataclass(frozen=True)
class FoundLayers:
    """The layers of a state dict: as its architecture tells them, otherwise as names do.

    Attributes:
        tensors: the entries of the state dict.
        architecture: returns the model that they are of, where it is known.
        model_type: returns what a config calls the model, or "".
    """

    tensors: Sequence[TensorInfo]
    architecture: Callable[[], Architecture | None]
    model_type: Callable[[], str] = str

    def layer(self, key: str) -> Layer | None:
        """Return the layer of a tensor, or None where that cannot be told."""
        told = self._model.layer(key) if self._model is not None else None
        return self._as_here(told) if told is not None else self._named.layer(key)

    def _as_here(self, told: Layer) -> Layer:
        """Return a layer with the shapes of this state dict, which may have other classes."""
        keys = {role: f"{told.path}.{role}" if told.path else role for role in told.shapes}
        here = {role: self._shapes.get(key, told.shapes[role]) for role, key in keys.items()}
        return replace(told, shapes=MappingProxyType(here))

    @cached_property
    def _shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {tensor.key: tensor.shape for tensor in self.tensors}

    @property
    def by_names(self) -> FoundLayers:
        """The layers as they are told without the architecture."""
        return replace(self, architecture=lambda: None)

    @cached_property
    def _model(self) -> Architecture | None:
        return self.architecture()

    @cached_property
    def _named(self) -> Layers:
        # Most runs ask for no layer, and read no names for it.
        from reinit_cli.tensors.layers.told import layers_of

        return layers_of(self.tensors, self.model_type())


def asks_for_layer(rule: Rule) -> bool:
    """Whether it depends on the layer of a tensor what a rule does with it."""
    return rule.pattern.kinds is not None or rule.init.initializer.by_layer


def with_layers(
    elsewhere: Elsewhere, tensors: Sequence[TensorInfo], model_type: Callable[[], str] = str
) -> Elsewhere:
    """Return what rules refer to, with the layers of the tensors that they fill.

    Args:
        elsewhere: everything else that they refer to.
        tensors: the entries of the state dict, with the names and shapes that are asked for.
        model_type: returns what a config calls their model, or "".
    """
    if elsewhere.layers is not None:
        return elsewhere
    found = FoundLayers(tensors, lambda: elsewhere.architecture, model_type)
    return replace(elsewhere, layers=found, stacks=Stacks(tensor.key for tensor in tensors))


@dataclass(frozen=True, slots=True)
class RenamedLayers:
    """The layers of tensors that have other names.

    Attributes:
        layers: by the names before.
        origins: for each new name, the one before.
    """

    layers: Layers
    origins: Mapping[str, str]

    @classmethod
    def of(cls, layers: Layers | None, origins: Mapping[str, str]) -> Layers | None:
        """Return the layers of tensors, of which some may be renamed."""
        return cls(layers, origins) if layers is not None and origins else layers

    def layer(self, key: str) -> Layer | None:
        """Return the layer of a tensor, or None where that cannot be told."""
        return self.layers.layer(self.origins.get(key, key))
