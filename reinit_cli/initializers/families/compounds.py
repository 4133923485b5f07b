"""Tensors that consist of smaller ones, filled by an inner initializer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from reinit_cli.errors import ArgumentError
from reinit_cli.initializers.arguments import inner_init
from reinit_cli.initializers.declaration import Arguments
from reinit_cli.initializers.fans import Fans, UndefinedError, need_ndim
from reinit_cli.initializers.law import GROUP_NUMEL, Constant, Law, Normal, Statistic
from reinit_cli.initializers.parameters import Integer, Nested
from reinit_cli.initializers.registry import register
from reinit_cli.initializers.site import Site

if TYPE_CHECKING:
    from torch import Generator, Tensor

# --- their laws --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _OfParts(Law):
    """A law whose elements all follow the law of a smaller tensor.

    Attributes:
        part: the law of the smaller one.
        shape: the shape of the whole tensor.
    """

    part: Law
    shape: tuple[int, ...]

    @property
    def mean(self) -> float:
        """As of a part."""
        return self.part.mean

    @property
    def std(self) -> float:
        """As of a part."""
        return self.part.std

    @property
    def low(self) -> float:
        """As of a part."""
        return self.part.low

    @property
    def high(self) -> float:
        """As of a part."""
        return self.part.high

    @property
    def is_random(self) -> bool:
        """Whether its parts are."""
        return self.part.is_random

    def cdf(self, x: float) -> float:
        """As of a part."""
        return self.part.cdf(x)


@dataclass(frozen=True)
class Blocks(_OfParts):
    """Equal parts along one dimension, each of one law, drawn one after the other.

    Attributes:
        count: how many there are.
        axis: along which dimension they lie.
    """

    count: int
    axis: int = 0

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """As of a part, since parts are independent."""
        return self.part.statistics

    @property
    def spread(self) -> float:
        """As of a part."""
        return self.part.spread

    @property
    def identity(self) -> str:
        """As of a part."""
        return self.part.identity

    def misfit(self, values: Tensor) -> tuple[float, float]:
        """Return the largest of all parts."""
        parts = values.view(self.shape).chunk(self.count, self.axis)
        found = [self.part.misfit(part.contiguous()) for part in parts]
        return max(misfit for misfit, _ in found), max(allowed for _, allowed in found)

    def fill(self, tensor: Tensor, generator: Generator) -> None:
        """Fill each part as a tensor of its own, from one generator."""
        for part in tensor.view(self.shape).chunk(self.count, self.axis):
            drawn = part.contiguous()
            self.part.fill(drawn, generator)
            if drawn.data_ptr() != part.data_ptr():
                part.copy_(drawn)


@dataclass(frozen=True)
class Repeated(_OfParts):
    """A smaller tensor with each row repeated `times` times.

    Attributes:
        times: how often each row is repeated.
    """

    times: int
    identity = "repetition"

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """The mean, and of normals the standard deviation.

        The shares of fewer elements stray further than `distribution` allows, and the spread
        of others bounds their deviation only where they do not depend on each other.
        """
        known: tuple[Statistic, ...] = (
            ("mean", "std") if isinstance(self.part, Normal) else ("mean",)
        )
        return tuple(each for each in known if each in self.part.statistics)

    @property
    def spread(self) -> float:
        """√times that of the smaller tensor, which has all the independent elements."""
        return math.sqrt(self.times) * self.part.spread

    def misfit(self, values: Tensor) -> tuple[float, float]:
        """Count elements that differ from the first row of their group, plus the misfit of the part."""
        rows = values.view(-1, self.times, *self.shape[1:])
        first = rows[:, :1]
        misfit, allowed = self.part.misfit(first.squeeze(1).contiguous())
        return float((rows != first).count_nonzero()) + misfit, allowed

    def fill(self, tensor: Tensor, generator: Generator) -> None:
        """Fill the smaller one and repeat its rows."""
        part = tensor.new_empty((self.shape[0] // self.times, *self.shape[1:]))
        self.part.fill(part, generator)
        tensor.view(-1, self.times, *self.shape[1:]).copy_(part.unsqueeze(1))


# --- initializers within others ----------------------------------------------------------------


def _check_inner(name: str, given: Arguments) -> Arguments:
    """Return the given arguments, if the inner initializer replaces all values.

    Raises:
        ArgumentError: it keeps or transforms values, or has an inner initializer itself.
    """
    text = given.get("inner")
    if isinstance(text, str):
        init = inner_init(text)
        if init.keeps or init.initializer.stream or init.keep_zeros:
            raise ArgumentError(name, f"{init} depends on what is there, and a part cannot")
        if any(isinstance(each.kind, Nested) for each in init.initializer.parameters):
            raise ArgumentError(name, f"{init.initializer.name} cannot be within another")
    return given


def _inner_law(text: str, shape: tuple[int, ...], site: Site) -> Law:
    law = inner_init(text).law(shape, site)
    assert law is not None  # only keep has none, and that was refused
    return law


# --- blocks --------------------------------------------------------------------------------------


def _block_shape(shape: tuple[int, ...], parts: int, axis: int) -> tuple[int, ...]:
    """Return the shape of one part.

    Raises:
        UndefinedError: the shape has no such dimension, or it is not divisible.
    """
    need_ndim(shape, axis + 1)
    if shape[axis] % parts:
        raise UndefinedError(f"its dimension {axis}, {shape[axis]}, is no multiple of {parts}")
    return (*shape[:axis], shape[axis] // parts, *shape[axis + 1 :])


def _block_fans(shape: tuple[int, ...], *, parts: int, inner: str, axis: int) -> Fans | None:
    return inner_init(inner).fans(_block_shape(shape, parts, axis))


@register(
    law="equal parts along dimension axis, each drawn by inner with the part's own shape and fans",
    example="block:parts=2,inner=xavier_uniform",
    defined="shapes whose dimension axis is divisible by parts, and whose parts inner can fill",
    complete=_check_inner,
    fans=_block_fans,
)
def block(
    shape: tuple[int, ...],
    site: Site,
    *,
    parts: Annotated[int, Integer(minimum=1)],
    inner: Annotated[str, Nested()] = "xavier_uniform",
    axis: Annotated[int, Integer(minimum=0)] = 0,
) -> Law:
    """Fill fused matrices, such as the gates of an LSTM or q, k and v, as the matrices they are."""
    block_shape = _block_shape(shape, parts, axis)
    law = _inner_law(inner, block_shape, site)
    numel = math.prod(block_shape)
    # With whole groups, drawing part by part gives the values of one draw of the whole.
    is_plain = law.is_sequential and axis == 0 and numel % GROUP_NUMEL == 0
    if isinstance(law, Constant) or is_plain or parts == 1:
        return law
    return Blocks(law, shape, parts, axis)


# --- checkerboards -------------------------------------------------------------------------------


def _sub_kernel(shape: tuple[int, ...], upscale: int) -> tuple[int, ...]:
    """Return the shape of the kernel whose upsampled output is meant.

    Raises:
        UndefinedError: there is none of that shape.
    """
    need_ndim(shape, 2)
    if shape[0] % upscale**2:
        raise UndefinedError(f"its {shape[0]} outputs are no multiple of {upscale}² = {upscale**2}")
    return (shape[0] // upscale**2, *shape[1:])


def _sub_kernel_fans(shape: tuple[int, ...], *, upscale: int, inner: str) -> Fans | None:
    return inner_init(inner).fans(_sub_kernel(shape, upscale))


@register(
    law="a kernel of out / upscale² channels drawn by inner, each channel upscale² times in a row",
    example="icnr:upscale=2,inner=kaiming_normal:relu",
    defined="2 dimensions or more; shape[0] divisible by upscale²",
    paper="Aitken, Ledig, Theis, Caballero, Wang & Shi 2017, Checkerboard artifact free sub-pixel "
    "convolution, arXiv:1707.02937",
    complete=_check_inner,
    fans=_sub_kernel_fans,
)
def icnr(
    shape: tuple[int, ...],
    site: Site,
    *,
    upscale: Annotated[int, Integer(minimum=1)] = 2,
    inner: Annotated[str, Nested()] = "kaiming_normal",
) -> Law:
    """Let a convolution before a PixelShuffle begin as nearest-neighbour upsampling."""
    law = _inner_law(inner, _sub_kernel(shape, upscale), site)
    return law if isinstance(law, Constant) else Repeated(law, shape, upscale**2)
