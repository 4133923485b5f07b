"""Count tensors, parameters and buffers, each in one way wherever they are counted.

A module knows which of its tensors are buffers. A file does not say, so that names and dtypes
decide: running statistics, what is in the table of `spared`, integers and bools are buffers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from reinit_cli.lazy import dataclass
from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.info import TensorInfo, repeated_keys
from reinit_cli.tensors.spared import Spared, quantized_weights, spared
from reinit_cli.text import nbytes, plural


@dataclass(frozen=True, slots=True)
class Counts:
    """How much some entries of a state dict are.

    Attributes:
        tensors: how many of them are tensors, those of ties each.
        parameters: the elements of those that are trained, of ties once. A quantized weight has
            as many as are stored.
        buffers: the elements of the others, of ties once.
        nbytes: the bytes of both.
    """

    tensors: int = 0
    parameters: int = 0
    buffers: int = 0
    nbytes: int = 0


def buffer_keys(
    tensors: Sequence[TensorInfo], left_alone: Mapping[str, Spared] | None = None
) -> frozenset[str]:
    """Return the keys of the buffers among the entries of a state dict.

    Args:
        tensors: all entries, since some are buffers only next to others.
        left_alone: what `spared` says of them, where that is known already.
    """
    left_alone = spared(tensors) if left_alone is None else left_alone
    weights = quantized_weights(left_alone)
    return frozenset(
        tensor.key
        for tensor in tensors
        if (
            tensor.is_buffer
            if tensor.is_buffer is not None
            else tensor.key not in weights and (tensor.key in left_alone or _is_exact(tensor))
        )
    )


def _is_exact(tensor: TensorInfo) -> bool:
    """Whether a tensor has integers or bools, which have no gradient."""
    known = DTYPES.get(tensor.dtype)
    return known is not None and known.kind in ("integer", "bool")


def count(
    tensors: Iterable[TensorInfo], repeated: Collection[str] = (), buffers: Collection[str] = ()
) -> Counts:
    """Count some entries of a state dict.

    Args:
        tensors: the entries; those that are not tensors do not count.
        repeated: the keys that add nothing to a sum, since a tied one does.
        buffers: the keys of the buffers.
    """
    found = [tensor for tensor in tensors if not tensor.is_no_tensor]
    own = [tensor for tensor in found if tensor.key not in repeated]
    in_buffers = sum(tensor.numel for tensor in own if tensor.key in buffers)
    return Counts(
        len(found),
        sum(tensor.numel for tensor in own) - in_buffers,
        in_buffers,
        sum(tensor.nbytes for tensor in own),
    )


def counts_of(tensors: Sequence[TensorInfo]) -> Counts:
    """Count all entries of a state dict."""
    return count(tensors, repeated_keys(tensors), buffer_keys(tensors))


def counted_text(counts: Counts) -> str:
    """Return "102 tensors, 11,689,512 parameters, 9,620 in buffers, 46.8 MB"."""
    parameters = [plural(counts.parameters, "parameter")] if _has_any(counts) else []
    buffers = [f"{counts.buffers:,} in buffers"] if counts.buffers else []
    return ", ".join(
        (plural(counts.tensors, "tensor"), *parameters, *buffers, nbytes(counts.nbytes))
    )


def _has_any(counts: Counts) -> bool:
    """Whether parameters are worth a word: a selection may have buffers alone."""
    return bool(counts.parameters or not counts.buffers)
