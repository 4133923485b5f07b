"""Describe the layer that a tensor belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Literal, Protocol

from reinit_cli.lazy import dataclass

Told = Literal["architecture", "config", "names", "shapes"]
"""What tells the kind of a layer, the most certain first."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer, and the tensor of it that is meant.

    Attributes:
        kind: the name of its class, as torch has it where torch has it: "Conv2d", "LayerNorm".
        path: its place in the model: the beginning of its keys, without the last dot.
        role: the name of the tensor in it: "weight", "bias", "weight_ih_l0".
        shapes: the shape of each tensor of it, by role.
        sizes: arguments of its constructor that its start depends on and its shapes do not say:
            "groups", "num_heads", "padding_idx".
        told: what tells its kind.
    """

    kind: str
    path: str
    role: str
    shapes: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    told: Told = "names"


class Layers(Protocol):
    """The layers of a state dict."""

    def layer(self, key: str) -> Layer | None:
        """Return the layer of a tensor, or None where that cannot be told."""
