"""Turn bytes into elements in arrays, and arrays into bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reinit_cli.lazy import LazyModule
from reinit_cli.storage.segments import Box, Copy, Literal, View
from reinit_cli.tensors.elements import Array, Elements, stored_dtype
from reinit_cli.threads import stop_here

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")


def read(view: View) -> Elements:
    """Return a tensor; one that lies in one part with the stride that it has there.

    Raises:
        UnreadableSourceError, SourceChangedError: as they say.
    """
    sole = view.sole
    if sole is not None:
        return Elements(_placed(sole.data, view.dtype, view.shape, sole.stride), view.dtype)
    whole = np.empty(view.shape, stored_dtype(view.dtype))
    for box, part in view.apart():
        boxed(whole, box)[...] = read(part).array
    return Elements(whole, view.dtype)


def _placed(
    data: Copy | Literal, dtype: str, shape: tuple[int, ...], stride: tuple[int, ...] | None
) -> Array:
    """Return bytes as an array of which no second copy was made."""
    stored = stored_dtype(dtype)
    if not data.nbytes:
        return np.empty(shape, stored)
    flat = np.empty(data.nbytes // stored.itemsize, stored)
    read_into(bytes_of(flat), data)
    return flat.reshape(shape) if stride is None else strided(flat, shape, stride)


def strided(flat: Array, shape: tuple[int, ...], stride: tuple[int, ...]) -> Array:
    """Return elements of an array that lie some distances apart, without a copy.

    Args:
        flat: the elements and what lies between them.
        shape: the dimensions.
        stride: the distance in each of them, in elements.
    """
    steps = tuple(step * flat.itemsize for step in stride)
    return np.ndarray(shape, flat.dtype, flat, strides=steps)


def boxed(array: Array, box: Box) -> Array:
    """Return the elements of an array that lie in a box, without a copy."""
    # Without an ellipsis, what has no dimensions would be a number and no view.
    index: tuple[Any, ...] = (*(slice(*span) for span in box), ...)
    found: Array = array[index]
    return found


def bytes_at(data: Copy | Literal) -> bytes | memoryview:
    """Return the bytes of a run; whoever reads block by block stops here."""
    stop_here()
    return data.data if isinstance(data, Literal) else data.file.read(data.offset, data.nbytes)


def read_into(buffer: memoryview, data: Copy | Literal) -> None:
    """Put the bytes of a run into a buffer; whoever reads block by block stops here."""
    stop_here()
    if isinstance(data, Literal):
        buffer[:] = data.data
    else:
        data.file.read_into(buffer, data.offset)


def bytes_of(array: Array) -> memoryview:
    """Return the bytes of a contiguous array, without a copy.

    The view keeps the array alive.
    """
    assert array.flags.c_contiguous  # else it would be a copy, and what is read into it be lost
    return array.reshape(-1).view(np.uint8).data
