"""Find the layers that the tensors of a checkpoint are of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from reinit_cli.initializers import Architecture, Elsewhere
from reinit_cli.initializers.stacks import Stacks
from reinit_cli.lazy import dataclass
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.layers.layer import Layer, Layers


@dataclass(frozen=True)
class FoundLayers:
    """The layers of a state dict: as its architecture tells them, otherwise as names do.

    Attributes:
        tensors: the entries of the state dict.
        architecture: the model that they are of, where it is known.
        model_type: returns what a config calls the model, or "".
    """

    tensors: Sequence[TensorInfo]
    architecture: Architecture | None = None
    model_type: Callable[[], str] = str

    def layer(self, key: str) -> Layer | None:
        """Return the layer of a tensor, or None where that cannot be told."""
        told = self.architecture.layer(key) if self.architecture is not None else None
        return told if told is not None else self._named.layer(key)

    @cached_property
    def _named(self) -> Layers:
        # Most runs ask for no layer, and read no names for it.
        from reinit_cli.tensors.layers.told import layers_of

        return layers_of(self.tensors, self.model_type())


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
    found = FoundLayers(tensors, elsewhere.architecture, model_type)
    return replace(elsewhere, layers=found, stacks=Stacks(tensor.key for tensor in tensors))
