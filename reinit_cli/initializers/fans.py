"""Compute how many inputs and outputs a weight has, from its shape and layout."""

from __future__ import annotations

from math import prod, sqrt

from reinit_cli.lazy import dataclass


class UndefinedError(Exception):
    """An initializer has no meaning for a shape; the text says why.

    A wildcard skips such a tensor, a name makes it the user's error: which, planning
    decides, so this is not a `ReinitError`.
    """


@dataclass(frozen=True, slots=True)
class Fans:
    """The two fans of a weight.

    Attributes:
        fan_in: how many inputs one output sums over.
        fan_out: how many outputs one input goes to.
    """

    fan_in: int
    fan_out: int

    def by(self, mode: str) -> float:
        """Return what a law scales by: one of the fans, or a mean of both.

        Args:
            mode: one of `MODES`.
        """
        if mode == "fan_avg":
            return (self.fan_in + self.fan_out) / 2
        if mode == "fan_geo_avg":
            return sqrt(self.fan_in * self.fan_out)
        return self.fan_in if mode == "fan_in" else self.fan_out


MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
"""What laws scale by: the inputs, the outputs, their mean, or their geometric mean."""

AXES = "oikb"
"""The letters of dimensions: output, input, kernel, and batches of weights."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the dimensions of a weight mean, where they do not mean what torch assumes.

    Attributes:
        fan: replaces both fans; None leaves them.
        groups: of a grouped convolution.
        transposed: whether it is that of a transposed convolution, (in, out / groups, *kernel).
        axes: a letter of `AXES` for each dimension; None means torch's order.
    """

    fan: int | None = None
    groups: int = 1
    transposed: bool = False
    axes: str | None = None

    def fans(self, shape: tuple[int, ...]) -> Fans:
        """Return the fans of a weight.

        Of a grouped convolution the side that torch keeps in the first dimension holds the
        channels of all groups: its outputs, or the inputs of a transposed one.

        Raises:
            UndefinedError: the shape has another number of dimensions, or is not divisible
                by the groups.
        """
        axes = self._axes(shape)
        if self.fan is not None:
            return Fans(self.fan, self.fan)
        if len(shape) < 2:
            raise UndefinedError(f"{len(shape)}-D (fans need at least 2 dimensions)")
        inputs, outputs, field = (_size(shape, axes, letter) for letter in "iok")
        if self.transposed:
            inputs = self._per_group(inputs, "input")
        else:
            outputs = self._per_group(outputs, "output")
        return Fans(inputs * field, outputs * field)

    def matrix(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return how many matrices there are, and the rows and columns of each.

        One side of a matrix is the outputs, which come first or last in it; torch's are first.

        Raises:
            UndefinedError: the elements of a matrix are not adjacent.
        """
        axes = self._axes(shape)
        count = len(axes) - len(axes.lstrip("b"))
        inner, dims = axes[count:], shape[count:]
        outputs = _size(dims, inner, "o")
        if "b" in inner or (inner.strip("o") == inner or "o" in inner.strip("o")):
            raise UndefinedError(f"axes={axes} needs its outputs first or last, behind all b")
        rest = prod(dims) // outputs if outputs else 0
        sides = (outputs, rest) if inner.startswith("o") else (rest, outputs)
        return (prod(shape[:count]), *sides)

    def _axes(self, shape: tuple[int, ...]) -> str:
        """Return the letters, torch's where none are given."""
        if self.axes is None:
            first = "io" if self.transposed else "oi"
            return first.ljust(len(shape), "k")[: len(shape)]
        if len(self.axes) != len(shape):
            raise UndefinedError(
                f"{len(shape)}-D (axes={self.axes} is for {len(self.axes)} dimensions)"
            )
        return self.axes

    def _per_group(self, channels: int, side: str) -> int:
        if channels % self.groups:
            raise UndefinedError(
                f"its {channels} {side} channels are not divisible by {self.groups} groups"
            )
        return channels // self.groups


def _size(shape: tuple[int, ...], axes: str, letter: str) -> int:
    return prod(dim for dim, each in zip(shape, axes, strict=True) if each == letter)


TORCHS = Layout()
"""The layout that torch assumes for every shape, whatever the layer."""


def fans(shape: tuple[int, ...]) -> Fans:
    """Return the fans of a weight as torch computes them.

    Groups and transposition are not taken into account: ConvTranspose2d(8, 16, 3, groups=2) has a
    weight of (8, 8, 3, 3) and fans of 72 and 72.

    Raises:
        UndefinedError: the shape has fewer than 2 dimensions.
    """
    return TORCHS.fans(shape)


def fans_by_axes(shape: tuple[int, ...], *, axes: str | None, **_: object) -> Fans:
    """Return the fans of a weight whose initializer takes axes; its other arguments change nothing.

    Raises:
        UndefinedError: as `Layout.fans` does.
    """
    return Layout(axes=axes).fans(shape)


def need_ndim(shape: tuple[int, ...], least: int, most: int | None = None) -> None:
    """Refuse a shape whose number of dimensions is not in [least, most].

    Raises:
        UndefinedError: it is not.
    """
    if len(shape) < least or (most is not None and len(shape) > most):
        wanted = f"at least {least}" if most is None else f"{least} to {most}"
        wanted = f"{least}" if most == least else wanted
        noun = "dimension" if wanted == "1" else "dimensions"
        raise UndefinedError(f"{len(shape)}-D (needs {wanted} {noun})")
