"""Say which tensor of a layer is meant where a parametrization or a mask gives it another name."""

from __future__ import annotations

from reinit_cli.initializers.fans import UndefinedError
from reinit_cli.tensors.layers.layer import Layer

_PARAMETRIZED = "parametrizations."
_VALUES = "original", "original1"
"""What a parametrization computes a tensor from; of weight norm the second, its direction."""

_ORIGINAL = "_orig"
"""The end of the name of a tensor that `torch.nn.utils.prune` masks, or `spectral_norm` divides."""

_DIRECTION, _NORM = "_v", "_g"


def plain(layer: Layer, role: str) -> str:
    """Return the name of a tensor as its layer has it without parametrizations.

    Args:
        layer: the layer.
        role: one of its tensors.

    Returns:
        The name; of what is computed from others, such as the norms of weight norm, "".
    """
    if role.startswith(_PARAMETRIZED):
        name, _, last = role.removeprefix(_PARAMETRIZED).rpartition(".")
        return name if last in _VALUES else ""
    if role.endswith(_ORIGINAL):
        return role.removesuffix(_ORIGINAL)
    if role.removesuffix(_DIRECTION) + _NORM in layer.shapes and role.endswith(_DIRECTION):
        return role.removesuffix(_DIRECTION)
    if role.removesuffix(_NORM) + _DIRECTION in layer.shapes and role.endswith(_NORM):
        return ""
    return role


def shape_of(layer: Layer, name: str) -> tuple[int, ...]:
    """Return the shape of a tensor of a layer, whatever computes it.

    Raises:
        UndefinedError: the layer has no such tensor.
    """
    for role, shape in layer.shapes.items():
        if plain(layer, role) == name:
            return shape
    raise UndefinedError(f"its start depends on the {name} next to it, which is not known")
