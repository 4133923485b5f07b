"""Turn bytes into tensors of torch, and tensors into bytes."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from reinit_cli.storage.segments import Copy, Literal, View

if TYPE_CHECKING:
    from torch import Tensor


def read(view: View) -> Tensor:
    """Return a tensor as it lies in bytes.

    Raises:
        UnreadableSourceError, SourceChangedError: as they say.
    """
    return tensor_of(bytes_at(view.place), view.dtype, view.shape, view.stride)


def bytes_at(place: Copy | Literal) -> bytes | memoryview:
    """Return the bytes of a place."""
    return place.data if isinstance(place, Literal) else place.file.read(place.offset, place.nbytes)


def rounded(drawn: Tensor, dtype: str) -> Tensor:
    """Return drawn values in their dtype, contiguous, in main memory."""
    import torch

    return drawn.to(getattr(torch, dtype)).cpu().contiguous()


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of a contiguous tensor in main memory, without a copy.

    The view keeps the tensor alive.
    """
    nbytes = tensor.numel() * tensor.element_size()
    if not nbytes:
        return memoryview(b"")
    buffer = (ctypes.c_char * nbytes).from_address(tensor.data_ptr())
    buffer.tensor = tensor  # type: ignore[attr-defined]
    return memoryview(buffer).cast("B")


def tensor_of(
    data: bytes | memoryview,
    dtype: str,
    shape: tuple[int, ...],
    stride: tuple[int, ...] | None = None,
) -> Tensor:
    """Return bytes as a tensor.

    Args:
        data: from its first element to its last.
        dtype: torch's name of its dtype.
        shape: its dimensions.
        stride: in elements; None means contiguous.
    """
    import torch

    named = getattr(torch, dtype)
    if not len(data):
        return torch.empty(shape, dtype=named)
    flat = torch.frombuffer(bytearray(data), dtype=named)
    return flat.view(shape) if stride is None else flat.as_strided(shape, stride)


def strided(
    blocks: Sequence[Tensor],
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    under: bytes | memoryview,
) -> memoryview:
    """Return bytes in which the elements of a tensor have been written, a stride apart.

    Args:
        blocks: the elements, in row-major order.
        shape: the tensor's dimensions.
        stride: their distances, in elements.
        under: the bytes from the first to the last as they are.
    """
    import torch

    values = torch.cat(tuple(blocks)).view(shape)
    flat = torch.frombuffer(bytearray(under), dtype=values.dtype)
    flat.as_strided(shape, stride).copy_(values)
    return bytes_of(flat)


def printed(tensor: Tensor, *, full: bool) -> str:
    """Return a tensor as torch prints it.

    Args:
        tensor: the tensor.
        full: whether all of its elements are shown, however many there are.
    """
    from torch._tensor_str import printoptions

    with printoptions(threshold=math.inf) if full else nullcontext():
        return str(tensor)


def recast(tensor: Tensor, dtype: str) -> Tensor:
    """Return a tensor contiguously, rounded to a dtype."""
    import torch

    return tensor.to(getattr(torch, dtype)).contiguous()
