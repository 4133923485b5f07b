"""Describe the tensor that a law is for, and what initializers may refer to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from reinit_cli.initializers.law import Law
from reinit_cli.initializers.prefixes import Prefix
from reinit_cli.initializers.stacks import Stacks
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.layers.layer import Layer, Layers

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")


class Architecture(Protocol):
    """A model as its constructor makes it."""

    def law(self, key: str, shape: tuple[int, ...], seed: int | None = None) -> Law:
        """Return what the constructor fills a tensor with.

        Args:
            key: the tensor.
            shape: its shape.
            seed: that of the run, under which the constructor is run for real where its law
                cannot be followed; None for never.

        Raises:
            UndefinedError: it makes no tensor of that key and shape, or of no law.
        """

    def start(self, key: str, shape: tuple[int, ...]) -> Law | None:
        """Return what the layer of a tensor resets it to; None where it has no start of its own.

        Raises:
            UndefinedError: it has one, which cannot be replayed.
        """

    def layer(self, key: str) -> Layer | None:
        """Return the layer that a tensor belongs to, or None where that cannot be told."""

    def first_equal(self, key: str) -> str:
        """Return the first key whose tensor the constructor makes equal to another.

        Args:
            key: that of the other, which is returned where none comes before it.
        """


Donor = Mapping[str, TensorInfo]
"""The tensors of another checkpoint, by their keys."""


Versions = Mapping[str, int]
"""The versions of initializers by their names, without those of version 1."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What rules refer to besides the tensors that they fill.

    Attributes:
        architecture: the model that the tensors are of, where it is known.
        donors: other checkpoints, by the names that rules have for them.
        prefixes: for each of them, those that make the keys of tensors keys of it.
        versions: the versions of initializers that a record names, each other being of
            version 1; None for the newest of all.
        layers: the layers that the tensors are of; None where nobody looks for them.
        stacks: the stacks of layers that the keys of all tensors count.
        seed: that of the run.
    """

    architecture: Architecture | None = None
    donors: Mapping[str, Donor] = field(default_factory=dict)
    prefixes: Mapping[str, tuple[Prefix, ...]] = field(default_factory=dict)
    versions: Versions | None = None
    layers: Layers | None = None
    stacks: Stacks = field(default_factory=Stacks)
    seed: int = 0

    def version_of(self, name: str, newest: int) -> int:
        """Return the version of an initializer that is to be drawn."""
        return newest if self.versions is None else self.versions.get(name, 1)


NOWHERE = Elsewhere()


@dataclass(frozen=True, slots=True)
class Site:
    """What an initializer may know of a tensor besides its shape.

    Attributes:
        key: its state_dict key.
        dtype: torch's name of its dtype.
        elsewhere: what rules refer to besides it.
        kept_rows: where new rows of it are filled, the number of its old rows; otherwise 0.
        version: the version of the initializer that is to be drawn.
    """

    key: str = ""
    dtype: str = "float32"
    elsewhere: Elsewhere = NOWHERE
    kept_rows: int = 0
    version: int = 1

    @property
    def layer(self) -> Layer | None:
        """The layer that the tensor is of, or None where that cannot be told."""
        layers = self.elsewhere.layers
        return layers.layer(self.key) if layers is not None else None


class Constructor(Protocol):
    """Something that makes a module when it is called, such as a class of modules."""

    def __call__(self) -> torch.nn.Module:
        """Make the module."""


Arch: TypeAlias = str | Constructor
"""A torchvision model's name, or a constructor of a module."""
