"""Find the layers of a source's tensors, where patterns ask for kinds of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from reinit_cli.checkpoints.source import Source
from reinit_cli.checkpoints.state import StateSource
from reinit_cli.initializers import Architecture
from reinit_cli.initializers.site import Arch
from reinit_cli.lazy import dataclass
from reinit_cli.operations.folder_facts import model_type_of
from reinit_cli.planning.layers import FoundLayers, RenamedLayers
from reinit_cli.request.pattern import Pattern
from reinit_cli.tensors.layers.layer import Layer, Layers


def layers_for(
    patterns: Iterable[Pattern], source: Source, arch: Arch | None = None
) -> Layers | None:
    """Return the layers of a source's tensors; None where no pattern asks for a kind.

    Args:
        patterns: what chooses tensors.
        source: what has them.
        arch: the architecture that a user names.
    """
    if all(pattern.kinds is None for pattern in patterns):
        return None
    return FoundLayers(
        source.tensors, partial(_architecture, source, arch), partial(model_type_of, source)
    )


def _architecture(source: Source, arch: Arch | None) -> Architecture | None:
    if arch is None and source.architecture is None:
        return source.layers if isinstance(source, StateSource) else None
    from reinit_cli.checkpoints.models.architecture import architecture_of
    from reinit_cli.checkpoints.models.named import arch_given

    named = arch or arch_given(None, {}, source)
    assert named is not None

    return architecture_of(named, source.tensors)


@dataclass(frozen=True, slots=True)
class LayersOfBoth:
    """The layers of two sources, of which the first decides where both tell a key.

    Attributes:
        first: those of one.
        second: those of the other.
    """

    first: Layers
    second: Layers

    def layer(self, key: str) -> Layer | None:
        """Return the layer of a tensor, or None where that cannot be told."""
        return self.first.layer(key) or self.second.layer(key)


def layers_for_both(
    patterns: Sequence[Pattern], first: Source, second: Source, names: Mapping[str, str]
) -> Layers | None:
    """Return the layers of two sources' tensors; None where no pattern asks for a kind.

    Args:
        patterns: what chooses tensors.
        first: one source.
        second: the other.
        names: new names of keys of the first.
    """
    one, other = (layers_for(patterns, each) for each in (first, second))
    if one is None or other is None:
        return None
    origins = {name: key for key, name in names.items()}
    return LayersOfBoth(RenamedLayers(one, origins), other)
