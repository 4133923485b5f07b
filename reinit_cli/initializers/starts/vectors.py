"""Say how the vectors of spectral norm start: as the first singular vectors of their new weight.

torch.nn.utils.spectral_norm                    NAME_orig, NAME_u, NAME_v
torch.nn.utils.parametrizations.spectral_norm   parametrizations.NAME.original, .0._u, .0._v
"""

from __future__ import annotations

import math
import re

from reinit_cli.initializers.fans import UndefinedError
from reinit_cli.initializers.law import Law
from reinit_cli.initializers.singular import SingularVector
from reinit_cli.initializers.starts.roles import shape_of
from reinit_cli.tensors.layers.layer import Layer

_LEFT, _RIGHT = "_u", "_v"
_NEW = re.compile(r"((?:.*\.)?parametrizations\.[^.]+)\.[0-9]+\._[uv]")


def weight_of_vector(key: str) -> str:
    """Return the key of the weight whose singular vector a tensor would be by its name, or ""."""
    found = _NEW.fullmatch(key)
    if found:
        return f"{found[1]}.original"
    return key[: -len(_LEFT)] + "_orig" if key.endswith((_LEFT, _RIGHT)) else ""


def vector_law(key: str, numel: int, weight: Law, layer: Layer, *, is_wide: bool) -> Law:
    """Return the law of a singular vector.

    Args:
        key: that of the vector.
        numel: its elements.
        weight: the law of the weight.
        layer: the layer, with the shape of the weight.
        is_wide: whether the weight is drawn in float64.

    Raises:
        UndefinedError: the vector is not one of the weight.
    """
    shape = shape_of(layer, "weight")
    is_left = key.endswith(_LEFT)
    # torch takes the outputs for rows, which transposed convolutions have in the second dimension.
    dims = (1, 0) if layer.kind.startswith("ConvTranspose") else (0, 1)
    for dim in dims if len(shape) > 1 and 0 not in shape else ():
        if numel == (shape[dim] if is_left else math.prod(shape) // shape[dim]):
            return SingularVector(weight, shape, is_wide, dim, is_left)
    raise UndefinedError("it is not a singular vector of the weight next to it")
