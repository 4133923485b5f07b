"""Describe a tensor without reading it, and find ties and overlaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from math import prod

from reinit_cli.lazy import dataclass
from reinit_cli.tensors.dtype import DTYPES, Dtype
from reinit_cli.text import quoted

RUNNING_STATISTICS = frozenset(("running_mean", "running_var", "num_batches_tracked"))
"""The last segments of buffers that a random law ruins: a negative variance gives NaN."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One entry of a state dict.

    Attributes:
        key: its name, relative to the root of the state dict.
        dtype: torch's name without "torch."; for an entry of another kind the name of
            what it is (a quantized dtype, a Python type).
        shape: its dimensions.
        nbytes: the bytes of its elements.
        storage: what it shares with other tensors; None for a tensor that shares nothing.
        offset: where in the storage it starts, in elements.
        stride: in elements; None means contiguous.
        carried: why it can only be carried along ("a sparse tensor"), or None.
        is_buffer: whether the module that has it has it as a buffer; None where no module says.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    storage: Hashable = None
    offset: int = 0
    stride: tuple[int, ...] | None = None
    carried: str | None = None
    is_buffer: bool | None = field(default=None, compare=False)

    @property
    def numel(self) -> int:
        """The number of its elements; 0 for an entry that is not a tensor."""
        return 0 if self.dtype not in DTYPES and not self.nbytes else prod(self.shape)

    @property
    def is_no_tensor(self) -> bool:
        """Whether the entry is something else that a state dict holds."""
        return (self.carried or "").startswith("not a tensor")

    @property
    def fillable_dtype(self) -> Dtype | None:
        """Its dtype where values can be written to it."""
        return None if self.carried else DTYPES.get(self.dtype)

    def with_shape(self, shape: tuple[int, ...], storage: Hashable = None) -> TensorInfo:
        """Return the entry with another shape, contiguous at the start of another storage.

        Args:
            shape: its dimensions.
            storage: what it shares with other tensors; None where it shares nothing.
        """
        nbytes = prod(shape) * self._itemsize
        return replace(self, shape=shape, nbytes=nbytes, storage=storage, offset=0, stride=None)

    @property
    def start(self) -> int:
        """The byte of its storage at which its first element starts."""
        return self.offset and self.offset * self._itemsize

    @property
    def extent(self) -> tuple[int, int]:
        """The range of bytes of its storage from its first element to its last."""
        if self.stride is None or 0 in self.shape:
            return self.start, self.start + self.nbytes
        last = sum((dim - 1) * step for dim, step in zip(self.shape, self.stride, strict=True))
        return self.start, (self.offset + last + 1) * self._itemsize

    @property
    def _itemsize(self) -> int:
        known = DTYPES.get(self.dtype)
        return known.nbits // 8 if known else 1

    @property
    def overlaps_itself(self) -> bool:
        """Whether one element of its storage stands for several of its own."""
        if self.stride is None or 0 in self.shape:
            return False
        spread = sorted(
            (step, dim) for dim, step in zip(self.shape, self.stride, strict=True) if dim > 1
        )
        # Sound for what torch builds: each dimension must step over all smaller ones.
        reach = 0
        for step, dim in spread:
            if step <= reach:
                return True
            reach += step * (dim - 1)
        return False


def _sharing(tensors: Iterable[TensorInfo]) -> list[TensorInfo]:
    """Return the tensors that share their storage with others; most files have none."""
    stored = [tensor for tensor in tensors if tensor.storage is not None]
    counts = Counter(tensor.storage for tensor in stored)
    return [tensor for tensor in stored if counts[tensor.storage] > 1 and tensor.numel]


def tied_groups(tensors: tuple[TensorInfo, ...]) -> dict[str, tuple[str, ...]]:
    """Return, for each key that shares its tensor, all keys of it by code point.

    Keys with equal storage, offset, shape and stride are one tensor.
    """
    groups: dict[Hashable, list[str]] = {}
    for tensor in _sharing(tensors):
        # As text: files choose the numbers, and integers can be chosen with one hash.
        place = tensor.storage, f"{tensor.dtype} {tensor.offset} {tensor.shape} {tensor.stride}"
        groups.setdefault(place, []).append(tensor.key)
    shared = (tuple(sorted(keys)) for keys in groups.values() if len(keys) > 1)
    return {key: keys for keys in shared for key in keys}


def repeated_keys(
    tensors: Sequence[TensorInfo], groups: Mapping[str, tuple[str, ...]] | None = None
) -> frozenset[str]:
    """Return the keys whose tensor is already counted under another key.

    Args:
        tensors: the entries that are counted.
        groups: the ties of all that a source has, or None where these are all.
    """
    groups = tied_groups(tuple(tensors)) if groups is None else groups
    tied = sorted(tensor.key for tensor in tensors if tensor.key in groups)
    # All keys of a group have one tuple; a hash of it would look at every key each time.
    first: dict[int, str] = {}
    return frozenset(key for key in tied if first.setdefault(id(groups[key]), key) != key)


def overlapping(tensors: tuple[TensorInfo, ...]) -> dict[str, str]:
    """Return, for each key whose bytes partly overlap those of another tensor, a reason.

    A tensor that overlaps itself (stride 0 over more than one element) is in it too.
    """
    reasons = {
        tensor.key: "its elements overlap in memory" for tensor in tensors if tensor.overlaps_itself
    }
    by_storage: dict[Hashable, list[TensorInfo]] = {}
    for tensor in _sharing(tensors):
        by_storage.setdefault(tensor.storage, []).append(tensor)
    ties = tied_groups(tensors)
    for sharers in by_storage.values():
        sharers.sort(key=lambda tensor: tensor.extent)
        furthest = sharers[0]
        for tensor in sharers[1:]:
            meets = tensor.extent[0] < furthest.extent[1]
            is_tied = tensor.key in ties and ties[tensor.key] is ties.get(furthest.key)
            if meets and not is_tied:
                reasons.setdefault(tensor.key, f"it shares memory with {quoted(furthest.key)}")
                reasons.setdefault(furthest.key, f"it shares memory with {quoted(tensor.key)}")
            if tensor.extent[1] > furthest.extent[1]:
                furthest = tensor
    return reasons
