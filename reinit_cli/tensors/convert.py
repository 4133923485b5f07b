"""Turn bytes into tensors of torch, and tensors into bytes."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from reinit_cli.storage.segments import Box, Copy, Literal, View
from reinit_cli.threads import stop_here

if TYPE_CHECKING:
    from torch import Tensor


def read(view: View) -> Tensor:
    """Return a tensor; one that lies in one part with the stride that it has there.

    Raises:
        UnreadableSourceError, SourceChangedError: as they say.
    """
    import torch

    sole = view.sole
    if sole is not None:
        return _placed(sole.data, view.dtype, view.shape, sole.stride)
    whole = torch.empty(view.shape, dtype=getattr(torch, view.dtype))
    for box, part in view.apart():
        boxed(whole, box).copy_(read(part))
    return whole


def _placed(
    data: Copy | Literal, dtype: str, shape: tuple[int, ...], stride: tuple[int, ...] | None
) -> Tensor:
    """Return bytes as a tensor of which no second copy was made."""
    import torch

    named = getattr(torch, dtype)
    if not data.nbytes:
        return torch.empty(shape, dtype=named)
    flat = torch.empty(data.nbytes // named.itemsize, dtype=named)
    read_into(bytes_of(flat), data)
    return flat.view(shape) if stride is None else flat.as_strided(shape, stride)


def boxed(tensor: Tensor, box: Box) -> Tensor:
    """Return the elements of a tensor that lie in a box, without a copy."""
    return tensor[tuple(slice(*span) for span in box)]


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


def recast(tensor: Tensor, dtype: str, *, saturates: bool = False) -> tuple[Tensor, int]:
    """Return a tensor contiguously, rounded to a dtype, and how many numbers that makes none.

    Args:
        tensor: of any dtype.
        dtype: torch's name of its own dtype or, for floats, of another of floats.
        saturates: whether numbers beyond the dtype become its largest, with their sign.
    """
    import torch

    wanted = getattr(torch, dtype)
    are_floats = wanted.is_floating_point and tensor.is_floating_point()
    if not are_floats or torch.finfo(wanted).max >= torch.finfo(tensor.dtype).max:
        return tensor.to(wanted).contiguous(), 0
    tensor = _wide(tensor)
    if saturates:
        largest = torch.finfo(wanted).max
        tensor = torch.where(tensor.isinf(), tensor, tensor.clamp(-largest, largest))
    cast = tensor.to(wanted).contiguous()
    is_lost = ~_wide(cast).isfinite()
    return cast, int((is_lost & tensor.isfinite()).sum()) if bool(is_lost.any()) else 0


def _wide(tensor: Tensor) -> Tensor:
    """Return what torch clamps exactly: float8 not at all, bfloat16 to bounds rounded to it."""
    return tensor.float() if tensor.element_size() <= 2 else tensor
