"""The values of tensors of a source, read as tensors of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reinit_cli.segments import Copy, Literal, View

if TYPE_CHECKING:
    from torch import Tensor


def read(view: View) -> Tensor:
    """Return a tensor as it lies in bytes.

    Raises:
        UnreadableSourceError, SourceChangedError: as they say.
    """
    from reinit_cli.drawing import tensor_of

    return tensor_of(bytes_at(view.place), view.dtype, view.shape, view.stride)


def bytes_at(place: Copy | Literal) -> bytes | memoryview:
    """Return the bytes of a place."""
    return place.data if isinstance(place, Literal) else place.file.read(place.offset, place.nbytes)
