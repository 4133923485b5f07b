"""How many inputs and outputs one weight has, from its shape alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod


class UndefinedError(Exception):
    """An initializer has no meaning for a shape; the text says why.

    A wildcard skips such a tensor, a name makes it the user's error: which, planning
    decides, so this is no `ReinitError`.
    """


@dataclass(frozen=True, slots=True)
class Fans:
    """The two fans of a weight.

    Attributes:
        fan_in: shape[1] × receptive field.
        fan_out: shape[0] × receptive field.
    """

    fan_in: int
    fan_out: int


def fans(shape: tuple[int, ...]) -> Fans:
    """Return the fans of a weight as torch computes them.

    Groups and transposition are not seen: ConvTranspose2d(8, 16, 3, groups=2) has a
    weight of (8, 8, 3, 3) and fans of 72 and 72.

    Raises:
        UndefinedError: the shape has fewer than 2 dimensions.
    """
    if len(shape) < 2:
        raise UndefinedError(f"{_dimensions(len(shape))}, and fans need 2 or more")
    receptive_field = prod(shape[2:])
    return Fans(shape[1] * receptive_field, shape[0] * receptive_field)


def need_ndim(shape: tuple[int, ...], least: int, most: int | None = None) -> None:
    """Refuse a shape whose number of dimensions is not in [least, most].

    Raises:
        UndefinedError: it is not.
    """
    if len(shape) < least or (most is not None and len(shape) > most):
        wanted = f"{least} or more" if most is None else f"{least} to {most}"
        wanted = f"{least}" if most == least else wanted
        raise UndefinedError(f"{_dimensions(len(shape))}, and {wanted} are needed")


def _dimensions(count: int) -> str:
    return "it has 1 dimension" if count == 1 else f"it has {count} dimensions"
