"""Cast elements between dtypes with numpy alone, to the bits that torch's casts give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule
from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.elements import Array, Elements, stored_dtype
from reinit_cli.tensors.narrow import NARROW, narrowed, widened

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
else:
    np = LazyModule("numpy")


def numbers(elements: Elements) -> Array:
    """Return what elements are in a dtype that numpy computes with, exactly.

    Floats become float32 (float64 stays), complex32 becomes complex64, and all others stay.
    """
    if elements.dtype in NARROW:
        return widened(elements.array, elements.dtype)
    if elements.dtype == "complex32":
        pairs = np.ascontiguousarray(elements.array)[..., None].view("<f2")
        return widened(pairs, "float16").view(np.complex64)[..., 0]
    return elements.array


def rounded(values: Array, dtype: str) -> Elements:
    """Return numbers in a dtype, to nearest even, contiguous, as torch's casts give them.

    What is narrower than float32 is rounded to float32 first, as torch does. Only the bits of a
    NaN may differ. Floats become integers towards zero; where an integer dtype does not have the
    number, the result is the processor's, as in torch.

    Args:
        values: floats of 32 or 64 bits, integers, booleans or complex numbers.
        dtype: torch's name of the dtype.
    """
    if dtype == "complex32":
        pairs = _plain(values, "complex64")[..., None].view(np.float32)
        return Elements(narrowed(pairs, "float16").view("<u4")[..., 0], dtype)
    if dtype in NARROW:
        return Elements(narrowed(_plain(values, "float32"), dtype), dtype)
    return Elements(_plain(values, dtype), dtype)


def in_dtype(elements: Elements, dtype: str) -> Elements:
    """Return elements rounded to a dtype; themselves where they have it."""
    return elements if elements.dtype == dtype else rounded(numbers(elements), dtype)


def _plain(values: Array, dtype: str) -> Array:
    """Return numbers in a dtype of numpy's, contiguous; of complex numbers their real parts."""
    real = values.real if values.dtype.kind == "c" and DTYPES[dtype].kind != "complex" else values
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(real, stored_dtype(dtype)).reshape(values.shape)


def recast(elements: Elements, dtype: str, *, saturates: bool = False) -> tuple[Elements, int]:
    """Return elements contiguously, rounded to a dtype, and how many numbers that makes none.

    Args:
        elements: of any dtype.
        dtype: torch's name of their own dtype or, for floats, of another of floats.
        saturates: whether numbers beyond the dtype become its largest, with their sign.
    """
    if elements.dtype == dtype:
        array = elements.array
        return Elements(np.ascontiguousarray(array).reshape(array.shape), dtype), 0
    wide = numbers(elements)
    if not _is_narrower(dtype, elements.dtype):
        return rounded(wide, dtype), 0
    if saturates:
        wide = _saturated(wide, DTYPES[dtype].largest)
    cast = rounded(wide, dtype)
    return cast, _lost(wide, numbers(cast))


def _is_narrower(wanted: str, present: str) -> bool:
    """Return whether a dtype of floats lacks numbers that another has for being too large."""
    new, old = DTYPES[wanted], DTYPES[present]
    return new.kind == old.kind == "float" and new.largest < old.largest


def _saturated(wide: Array, largest: float) -> Array:
    """Return the numbers within a range; infinities stay what they are."""
    return np.where(np.isinf(wide), wide, np.clip(wide, -largest, largest))


def _lost(wide: Array, cast: Array) -> int:
    """Count the numbers that a cast made infinite or NaN."""
    is_lost = ~np.isfinite(cast)
    return int(np.count_nonzero(is_lost & np.isfinite(wide))) if is_lost.any() else 0


_FIRST_BEYOND = {"float8_e4m3fn": 464.0}
"""Where a dtype without infinities has its largest number for all larger ones, the last number
that is nearer to it than the next one would be."""


def are_beyond(wide: Array, dtype: str) -> Array:
    """Return which finite numbers are too large for a dtype of floats, whatever they become."""
    limit = _FIRST_BEYOND.get(dtype)
    if limit is not None:
        return np.isfinite(wide) & (np.abs(wide) > limit)
    return np.isfinite(wide) & ~np.isfinite(numbers(rounded(wide, dtype)))


def torch_tensor(elements: Elements) -> Tensor:
    """Return elements as a tensor, of which no second copy is made if torch may write to them."""
    import torch

    array = elements.array
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()
    return torch.from_numpy(_as_torch_knows(array)).view(getattr(torch, elements.dtype))


def _as_torch_knows(array: Array) -> Array:
    """Return the same bits, those of unsigned integers as signed ones."""
    if array.dtype.kind != "u":
        return array
    return array.view(f"i{array.itemsize}")


def elements_of_tensor(tensor: Tensor) -> Elements:
    """Return the elements of a tensor in main memory, of which no second copy is made."""
    import torch

    dtype = str(tensor.dtype).removeprefix("torch.")
    plain = tensor.detach().resolve_conj().resolve_neg()
    stored = stored_dtype(dtype)
    if stored.kind != "u":
        return Elements(plain.numpy(), dtype)
    bits = plain.view(getattr(torch, f"int{8 * stored.itemsize}")).numpy()
    return Elements(bits.view(stored), dtype)
