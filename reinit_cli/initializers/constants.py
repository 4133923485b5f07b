"""One value everywhere, and none at all."""

from __future__ import annotations

from typing import Annotated

from reinit_cli.initializers.kinds import Number
from reinit_cli.initializers.laws import Constant, Law
from reinit_cli.initializers.registry import register


@register(law="every element is 0", example="zeros")
def zeros(shape: tuple[int, ...]) -> Law:
    """Fill with zeros, as biases usually are."""
    del shape
    return Constant(0.0)


@register(law="every element is 1", example="ones")
def ones(shape: tuple[int, ...]) -> Law:
    """Fill with ones, as the scales of normalisations usually are."""
    del shape
    return Constant(1.0)


@register(law="every element is val", example="constant:0.5")
def constant(
    shape: tuple[int, ...], *, val: Annotated[float, Number(finite=False, exact=True)]
) -> Law:
    """Fill with one value; inf and nan are values too."""
    del shape
    return Constant(val)


@register(law="every element stays as it is", example="keep")
def keep(shape: tuple[int, ...]) -> Law | None:
    """Leave tensors as they are; the last rule that matches wins, so it makes exceptions."""
    del shape
    return None
