"""Part of a tensor, as Python and torch spell it: "0,:,::2,..."."""

from __future__ import annotations

from dataclasses import replace
from types import EllipsisType

from reinit_cli.errors import SliceError
from reinit_cli.storage.segments import Copy, Literal, View
from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.text import plural

Index = int | slice | EllipsisType


def parse_slice(text: str) -> tuple[Index, ...]:
    """Read a slice: for each dimension a number or start:stop:step, and "..." once.

    Raises:
        SliceError: it is none.
    """
    words = [word.strip() for word in text.strip().strip("[]").split(",")]
    index = tuple(_parse_word(text, word) for word in words)
    if sum(word is ... for word in index) > 1:
        raise SliceError(text, "'...' can stand in it once")
    return index


def _parse_word(text: str, word: str) -> Index:
    if word == "...":
        return ...
    try:
        parts = [int(part) if part.strip() else None for part in word.split(":")]
    except ValueError:
        raise SliceError(text, f"{word!r} is neither a number nor start:stop:step") from None
    if len(parts) > 3 or parts == [None]:
        raise SliceError(text, f"{word!r} is neither a number nor start:stop:step")
    if len(parts) == 1 and parts[0] is not None:
        return parts[0]
    if len(parts) == 3 and parts[2] is not None and parts[2] < 1:
        raise SliceError(text, "a step is at least 1")
    return slice(*parts)


def sliced(view: View, index: tuple[Index, ...], text: str) -> View:
    """Return the part of a tensor, without reading it.

    Args:
        view: the tensor as it lies in bytes.
        index: for each dimension what is taken, as torch has it.
        text: the index as written, for messages.

    Raises:
        SliceError: the tensor has no such part.
    """
    ndim = len(view.shape)
    given = sum(part is not ... for part in index)
    if given > ndim:
        raise SliceError(text, f"it has {plural(given, 'dimension')}, and the tensor has {ndim}")
    at = next((at for at, part in enumerate(index) if part is ...), len(index))
    whole = (slice(None),) * (ndim - given)
    parts = (*index[:at], *whole, *index[at + 1 :])
    strides = view.stride if view.stride is not None else _row_major(view.shape)
    first = 0
    shape: list[int] = []
    stride: list[int] = []
    for axis, (part, dim, step) in enumerate(zip(parts, view.shape, strides, strict=True)):
        if isinstance(part, slice):
            taken = range(dim)[part]
            first += taken.start * step if taken else 0
            shape.append(len(taken))
            stride.append(taken.step * step)
        else:
            assert isinstance(part, int)
            if not -dim <= part < dim:
                raise SliceError(text, f"{part} is outside dimension {axis}, which has {dim}")
            first += part % dim * step
    return _part(view, first, tuple(shape), tuple(stride))


def _part(view: View, first: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> View:
    """Return a view of the elements from one on; what is before and behind is not read."""
    itemsize = DTYPES[view.dtype].nbits // 8
    reach = sum((dim - 1) * step for dim, step in zip(shape, stride, strict=True)) + 1
    start, nbytes = first * itemsize, (0 if 0 in shape else reach * itemsize)
    place: Copy | Literal
    if isinstance(view.place, Copy):
        place = replace(view.place, offset=view.place.offset + start, nbytes=nbytes)
    else:
        place = Literal(memoryview(view.place.data)[start : start + nbytes])
    return View(place, view.dtype, shape, stride)


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = [1]
    for dim in reversed(shape[1:]):
        strides.append(strides[-1] * dim)
    return tuple(reversed(strides)) if shape else ()
