"""Select elements of a tensor without reading them; parse "0,:,::2,..."."""

from __future__ import annotations

import re
from dataclasses import replace
from types import EllipsisType
from typing import TypeVar

from reinit_cli.errors import TensorError
from reinit_cli.storage.segments import Box, Copy, Literal, Part, Range, View
from reinit_cli.tensors.dtype import itemsize_of
from reinit_cli.text import parse_integer, plural, quoted

_Each = TypeVar("_Each")

_SHARE = re.compile(r"[0-9]+/[0-9]+", re.ASCII)

Index = int | slice | EllipsisType


def parse_slice(text: str) -> tuple[Index, ...]:
    """Read a slice: for each dimension a number or start:stop:step, and "..." once.

    Raises:
        TensorError: it is not a valid slice.
    """
    words = [word.strip() for word in text.strip().strip("[]").split(",")]
    index = tuple(_parse_word(text, word) for word in words)
    if sum(word is ... for word in index) > 1:
        raise TensorError(text, "'...' can stand in it once", kind="slice")
    return index


def _parse_word(text: str, word: str) -> Index:
    if word == "...":
        return ...
    if not text.strip().strip("[]").strip():
        raise TensorError(text, "it names no elements", kind="slice")
    if _SHARE.fullmatch(word):
        problem = f"{quoted(word)} is one of equal shares, as only rules can name them"
        raise TensorError(text, problem, kind="slice")
    try:
        parts = [parse_integer(part) if part.strip() else None for part in word.split(":")]
    except ValueError:
        raise TensorError(
            text, f"{quoted(word)} is neither a number nor start:stop:step", kind="slice"
        ) from None
    if len(parts) > 3 or parts == [None]:
        raise TensorError(
            text, f"{quoted(word)} is neither a number nor start:stop:step", kind="slice"
        )
    if len(parts) == 1 and parts[0] is not None:
        return parts[0]
    if len(parts) == 3 and parts[2] is not None and parts[2] < 1:
        raise TensorError(text, "a step is at least 1", kind="slice")
    return slice(*parts)


def sliced(view: View, index: tuple[Index, ...], text: str) -> View:
    """Return a part of a tensor, without reading it.

    Args:
        view: the tensor.
        index: for each dimension what is taken, as torch has it.
        text: the index as written, for messages.

    Raises:
        TensorError: the tensor has no such part.
    """
    taken, kept = taken_of(view.shape, index, text)
    return _with_axes(selected(view, taken), kept)


def taken_of(
    shape: tuple[int, ...], index: tuple[Index, ...], text: str
) -> tuple[tuple[range, ...], list[int]]:
    """Return which elements an index takes of each dimension, and the dimensions that it leaves.

    Args:
        shape: that of the tensor.
        index: for each dimension what is taken, as torch has it.
        text: the index as written, for messages.

    Raises:
        TensorError: the tensor has no such part.
    """
    ndim = len(shape)
    given = sum(part is not ... for part in index)
    if given > ndim:
        raise TensorError(
            text, f"it has {plural(given, 'dimension')}, and the tensor has {ndim}", kind="slice"
        )
    at = next((at for at, part in enumerate(index) if part is ...), len(index))
    whole = (slice(None),) * (ndim - given)
    parts = (*index[:at], *whole, *index[at + 1 :])
    taken = []
    for axis, (part, dim) in enumerate(zip(parts, shape, strict=True)):
        if isinstance(part, slice):
            taken.append(range(dim)[part])
            continue
        assert isinstance(part, int)
        if not -dim <= part < dim:
            problem = f"{part} is outside dimension {axis}, which has {dim}"
            raise TensorError(text, problem, kind="slice")
        taken.append(range(part % dim, part % dim + 1))
    return tuple(taken), [axis for axis, part in enumerate(parts) if isinstance(part, slice)]


def selected(view: View, taken: tuple[range, ...]) -> View:
    """Return the elements in a range of each dimension, without reading them."""
    found = [_selected(box, part, taken) for box, part in view.apart()]
    return View(tuple(each for each in found if each), view.dtype, tuple(map(len, taken)))


def narrowed(view: View, axis: int, start: int, count: int) -> View:
    """Return some of the rows of a dimension, without reading them."""
    taken = [range(dim) for dim in view.shape]
    taken[axis] = range(start, start + count)
    return selected(view, tuple(taken))


def without_first(view: View) -> View:
    """Return the only row of a tensor."""
    return _with_axes(view, list(range(1, len(view.shape))))


def without_ones(view: View) -> View:
    """Return a tensor without its dimensions of one."""
    return _with_axes(view, longer_axes(view.shape))


def longer_axes(shape: tuple[int, ...]) -> list[int]:
    """Return the dimensions that are not one: arrays of numpy have 32 or 64 at most."""
    return [axis for axis, dim in enumerate(shape) if dim != 1]


def _with_axes(view: View, kept: list[int]) -> View:
    """Return a tensor without dimensions of one."""

    def of(values: tuple[_Each, ...]) -> tuple[_Each, ...]:
        return tuple(values[axis] for axis in kept)

    parts = tuple(
        replace(
            part,
            box=of(part.box) if part.box is not None else None,
            stride=of(part.stride) if part.stride is not None else None,
        )
        for part in view.parts
    )
    return View(parts, view.dtype, of(view.shape))


def _selected(box: Box, part: View, taken: tuple[range, ...]) -> Part | None:
    """Return what of a part is taken; the bytes before and after it are not read.

    Args:
        box: which elements of the tensor it has.
        part: the part as a tensor of its own.
        taken: which elements are wanted, as the tensor counts them.
    """
    sole = part.sole
    assert sole is not None
    strides = sole.stride if sole.stride is not None else row_major(part.shape)
    met = tuple(_met(each, *span) for each, span in zip(taken, box, strict=True))
    shape = tuple(stop - start for start, stop in met)
    if 0 in shape:
        return None
    found = list(zip(taken, met, box, strides, strict=True))
    first = sum((each[start] - low) * step for each, (start, _), (low, _), step in found)
    stride = tuple(each.step * step for each, _, _, step in found)
    reach = sum((dim - 1) * step for dim, step in zip(shape, stride, strict=True)) + 1
    itemsize = itemsize_of(part.dtype)
    is_all = shape == tuple(map(len, taken))
    return Part(
        within(sole.data, first * itemsize, reach * itemsize),
        None if is_all else met,
        None if _is_row_major(shape, stride) else stride,
    )


def _met(taken: range, low: int, high: int) -> Range:
    """Return which of the elements that are taken lie between two numbers."""
    start, stop = (max(0, -((taken.start - bound) // taken.step)) for bound in (low, high))
    return min(start, len(taken)), max(min(start, len(taken)), min(stop, len(taken)))


def within(data: Copy | Literal, start: int, nbytes: int) -> Copy | Literal:
    """Return some of the bytes of a run."""
    if isinstance(data, Copy):
        return replace(data, offset=data.offset + start, nbytes=nbytes)
    return Literal(memoryview(data.data)[start : start + nbytes])


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a contiguous tensor."""
    strides = [1]
    for dim in reversed(shape[1:]):
        strides.append(strides[-1] * dim)
    return tuple(reversed(strides)) if shape else ()


def _is_row_major(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    found = zip(shape, stride, row_major(shape), strict=True)
    return all(step == wanted for dim, step, wanted in found if dim > 1)
