"""Tensors that consist of smaller ones, filled by an inner initializer."""

from __future__ import annotations

import math
from typing import Annotated

from reinit_cli.errors import ArgumentError
from reinit_cli.initializers.arguments import inner_init, inner_text
from reinit_cli.initializers.declaration import Arguments
from reinit_cli.initializers.fans import Fans, UndefinedError, need_ndim
from reinit_cli.initializers.law import Constant, Law
from reinit_cli.initializers.parameters import Integer, Nested
from reinit_cli.initializers.parts import Blocks, Repeated
from reinit_cli.initializers.registry import REGISTRY, register
from reinit_cli.initializers.site import Site
from reinit_cli.streams.torch.groups import GROUP_NUMEL

# --- initializers within others ----------------------------------------------------------------


def check_inner(name: str, given: Arguments) -> Arguments:
    """Return the given arguments, if the inner initializer replaces all values.

    Raises:
        ArgumentError: it keeps or transforms values, or has an inner initializer itself.
    """
    text = given.get("inner")
    if isinstance(text, str):
        inner = text.partition(":")[0].strip()
        # It is refused before it is read, since a thousand of them within each other are deep.
        if inner in REGISTRY and _is_too_deep(name, inner):
            raise ArgumentError(name, f"{REGISTRY[inner].name} cannot be within another")
        init = inner_init(text)
        if init.keeps or init.initializer.stream or init.keep_zeros:
            raise ArgumentError(name, f"{init} depends on existing values, which inner cannot")
        return {**given, "inner": inner_text(text)}
    return given


def _is_too_deep(name: str, inner: str) -> bool:
    """Whether an initializer has one within it that may not be within that one.

    Only what changes existing values may have one that consists of smaller tensors.
    """
    has_inner = any(isinstance(each.kind, Nested) for each in REGISTRY[inner].parameters)
    is_within_change = bool(REGISTRY[name].stream) and not REGISTRY[inner].stream
    return has_inner and not is_within_change


def inner_law(text: str, shape: tuple[int, ...], site: Site) -> Law:
    """Return the law of an initializer within another.

    Raises:
        UndefinedError: it is not defined on the shape, or there.
    """
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
        raise UndefinedError(f"its dimension {axis}, {shape[axis]}, is not a multiple of {parts}")
    return (*shape[:axis], shape[axis] // parts, *shape[axis + 1 :])


def _block_fans(shape: tuple[int, ...], *, parts: int, inner: str, axis: int) -> Fans | None:
    return inner_init(inner).fans(_block_shape(shape, parts, axis))


@register(
    purpose="structure",
    law="equal parts along dimension axis, each drawn by inner with the part's own shape and fans",
    example="block:parts=2,inner=xavier_uniform",
    defined="shapes whose dimension axis is divisible by parts, and whose parts inner can fill",
    complete=check_inner,
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
    """Fill fused matrices (LSTM gates, qkv) part by part."""
    block_shape = _block_shape(shape, parts, axis)
    law = inner_law(inner, block_shape, site)
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
        raise UndefinedError(
            f"its {shape[0]} outputs are not a multiple of {upscale}² = {upscale**2}"
        )
    return (shape[0] // upscale**2, *shape[1:])


def _sub_kernel_fans(shape: tuple[int, ...], *, upscale: int, inner: str) -> Fans | None:
    return inner_init(inner).fans(_sub_kernel(shape, upscale))


@register(
    purpose="structure",
    law="a kernel of out / upscale² channels drawn by inner, each channel upscale² times in a row",
    example="icnr:upscale=2,inner=kaiming_normal:relu",
    defined="2 dimensions or more; shape[0] divisible by upscale²",
    paper="Aitken, Ledig, Theis, Caballero, Wang & Shi 2017, Checkerboard artifact free sub-pixel "
    "convolution, arXiv:1707.02937",
    complete=check_inner,
    fans=_sub_kernel_fans,
)
def icnr(
    shape: tuple[int, ...],
    site: Site,
    *,
    upscale: Annotated[int, Integer(minimum=1)] = 2,
    inner: Annotated[str, Nested()] = "kaiming_normal",
) -> Law:
    """Start sub-pixel convolutions as nearest-neighbor upsampling."""
    law = inner_law(inner, _sub_kernel(shape, upscale), site)
    return law if isinstance(law, Constant) else Repeated(law, shape, upscale**2)
