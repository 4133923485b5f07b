"""Find what is resized with a tensor because it has an element for each of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from itertools import islice

from reinit_cli.lazy import dataclass
from reinit_cli.planning.counted import (
    counted_as,
    is_bias_of_words,
    is_embedding,
    is_head,
    nearest,
)
from reinit_cli.tensors.info import TensorInfo, tied_groups

Rows = Mapping[str, int]
"""For some keys the first dimension that they are to have."""

_CONV1D = frozenset(("c_attn", "c_proj", "c_fc", "q_attn"))
"""The modules of GPT-2 whose weights have their outputs in the second dimension."""

_MOST_NAMED = 5
"""How many of the tensors that stay as they are are named."""


@dataclass(frozen=True, slots=True)
class Followers:
    """What is resized with other tensors, and what may have to be.

    Attributes:
        of: for each key that is resized with another, that other.
        shapes: for each of them what it becomes.
        notes: what a user should know of tensors that stay as they are.
    """

    of: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def followers(tensors: Sequence[TensorInfo], rows: Rows) -> Followers:
    """Return the biases of resized weights, and what else has as many rows as these had.

    Args:
        tensors: all of them, as they are.
        rows: what each tensor gets that is asked for by name.
    """
    known = {tensor.key: tensor for tensor in tensors}
    changed = [known[key] for key, count in rows.items() if known[key].shape[0] != count]
    if not changed:
        return Followers()
    words, ties = _Words(tensors, rows), tied_groups(tuple(tensors))
    of: dict[str, str] = {}
    for tensor in changed:
        for bias in (*_own_bias(tensor, known), *words.biases_of(tensor)):
            if bias not in rows:
                of |= dict.fromkeys(ties.get(bias, (bias,)), tensor.key)
    shapes = {bias: (*known[bias].shape[:-1], rows[key]) for bias, key in of.items()}
    return Followers(of, shapes, tuple(_left_behind(tensors, changed, rows.keys() | of.keys())))


def _own_bias(tensor: TensorInfo, known: Mapping[str, TensorInfo]) -> Iterator[str]:
    """Yield the bias of a weight's own module, where it surely has an element for each row."""
    module, _, name = tensor.key.rpartition(".")
    bias = known.get(".".join(filter(None, (module, name.replace("weight", "bias", 1)))))
    if bias is None or bias is tensor or bias.shape != tensor.shape[:1] or not _is_float(bias):
        return
    # A transposed convolution has its outputs in the second dimension.
    is_square = len(tensor.shape) > 2 and tensor.shape[0] == tensor.shape[1]
    if not is_square and module.rpartition(".")[2] not in _CONV1D:
        yield bias.key


class _Words:
    """The tensors of vocabularies: which bias belongs to which of them."""

    def __init__(self, tensors: Sequence[TensorInfo], rows: Rows) -> None:
        self._rows = rows
        self._known = {tensor.key for tensor in tensors}
        self._weights = [
            tensor
            for tensor in tensors
            if len(tensor.shape) == 2
            and "bias" not in tensor.key
            and (is_embedding(tensor.key) or is_head(tensor.key))
        ]
        self._biases = [
            tensor
            for tensor in tensors
            if _is_float(tensor)
            and tensor.shape in (tensor.shape[-1:], (1, *tensor.shape[-1:]))
            and is_bias_of_words(tensor)
        ]

    def biases_of(self, tensor: TensorInfo) -> Iterator[str]:
        """Yield the biases of the head that a weight is, or is tied to when it is loaded."""
        count = tensor.shape[0]
        if not any(tensor is weight for weight in self._weights):
            return
        alike = [each.key for each in self._weights if each.shape[0] == count]
        for bias in self._biases:
            if bias.shape[-1:] == (count,):
                own = [key for key in _weights_of(bias.key) if key in self._known]
                owners = own or list(nearest(bias.key, alike))
                if tensor.key in owners and self._agree(owners, self._rows[tensor.key]):
                    yield bias.key

    def _agree(self, keys: Iterable[str], count: int) -> bool:
        return all(self._rows.get(key) == count for key in keys)


def _weights_of(bias: str) -> tuple[str, ...]:
    """Return the keys that the weight of a head's bias has, where it is stored for itself."""
    module = bias.rpartition(".")[0]
    return (f"{module}.weight", f"{module}.decoder.weight") if module else ()


def _left_behind(
    tensors: Sequence[TensorInfo], changed: Sequence[TensorInfo], resized: Iterable[str]
) -> Iterator[str]:
    """Say which tensors still have as many rows as one that is resized had, and go with it."""
    moved = frozenset(resized)
    modules = {(tensor.key.rpartition(".")[0], tensor.shape[0]): tensor for tensor in changed}
    kinds = {
        (kind.what, tensor.shape[0]): tensor
        for tensor in changed
        if len(tensor.shape) > 1
        for kind in counted_as(tensor.key)
    }
    words = {count: tensor for (what, count), tensor in kinds.items() if what == "vocabulary"}
    left: dict[str, list[str]] = {}
    for tensor in tensors:
        if not tensor.shape or tensor.key in moved:
            continue
        count = tensor.shape[0]
        like = modules.get((tensor.key.rpartition(".")[0], count))
        if like is None and len(tensor.shape) > 1:
            found = (kinds.get((kind.what, count)) for kind in counted_as(tensor.key))
            like = next(filter(None, found), None)
        if like is None and is_bias_of_words(tensor):
            like = words.get(tensor.shape[-1])
        if like is not None:
            left.setdefault(like.key, []).append(tensor.key)
    for key, others in left.items():
        more = f" and {len(others) - _MOST_NAMED:,} more" if len(others) > _MOST_NAMED else ""
        named = ", ".join(map(repr, islice(others, _MOST_NAMED)))
        have = "has" if len(others) == 1 else "have"
        yield f"{named}{more} still {have} as many rows as {key!r} had"


def _is_float(tensor: TensorInfo) -> bool:
    dtype = tensor.fillable_dtype
    return dtype is not None and dtype.kind in ("float", "complex")
