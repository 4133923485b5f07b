"""Constants and `keep`."""

from __future__ import annotations

import math
from typing import Annotated

from reinit_cli.errors import ArgumentError
from reinit_cli.initializers.declaration import Arguments
from reinit_cli.initializers.law import Constant, Law
from reinit_cli.initializers.parameters import Number
from reinit_cli.initializers.registry import register


@register(purpose="constant", law="every element is 0", example="zeros")
def zeros(shape: tuple[int, ...]) -> Law:
    """Fill with zeros, the usual choice for biases."""
    del shape
    return Constant(0.0)


@register(purpose="constant", law="every element is 1", example="ones")
def ones(shape: tuple[int, ...]) -> Law:
    """Fill with ones, the usual choice for normalization weights."""
    del shape
    return Constant(1.0)


@register(purpose="constant", law="every element is val", example="constant:0.5")
def constant(
    shape: tuple[int, ...], *, val: Annotated[float, Number(finite=False, exact=True)]
) -> Law:
    """Fill with one value, which may be inf or nan."""
    del shape
    return Constant(val)


def _strictly_between(name: str, given: Arguments) -> Arguments:
    if given.get("p") in (0, 1):
        raise ArgumentError(name, f"p={given['p']:g} is certain, and has no finite log odds")
    return given


@register(
    purpose="constant",
    law="every element is −ln((1 − p) / p)",
    example="prior_bias:p=0.01",
    usage='-r "*.cls_logits.bias={}"',
    paper="Lin, Goyal, Girshick, He & Dollár 2017, Focal loss for dense object detection, ICCV "
    "(RetinaNet)",
    complete=_strictly_between,
)
def prior_bias(
    shape: tuple[int, ...], *, p: Annotated[float, Number(minimum=0, maximum=1)] = 0.01
) -> Law:
    """Start sigmoid outputs at probability p (focal-loss prior)."""
    del shape
    return Constant(-math.log((1 - p) / p))


@register(purpose="existing", law="every element stays as it is", example="keep")
def keep(shape: tuple[int, ...]) -> Law | None:
    """Leave tensors as they are, as an exception to earlier rules."""
    del shape
    return None
