"""Write versioned JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from reinit_cli.storage.segments import View
    from reinit_cli.tensors.moments import Moments


VERSION = 1
"""Of all forms; it grows when a member changes its meaning or goes."""


def dumps(value: Any) -> str:
    """Return one line of ASCII JSON; NaN and infinities are "NaN", "Infinity" and "-Infinity"."""
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else json.dumps(value)
    if isinstance(value, Mapping):
        return {name: _finite(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(member) for member in value]
    return value


def moments_form(moments: Moments) -> dict[str, float]:
    """Return the form of measured values."""
    return {
        "mean": moments.mean,
        "std": moments.std,
        "min": moments.low,
        "max": moments.high,
    }


def values_form(tensor: Tensor) -> Any:
    """Return the values of a tensor as nested lists; complex ones as pairs of numbers."""
    import torch

    if tensor.is_complex():
        return torch.view_as_real(tensor.resolve_conj().to(torch.complex128)).tolist()
    return (tensor.double() if tensor.is_floating_point() else tensor).tolist()


def values_texts(view: View) -> Iterator[str]:
    """Yield the text of the same lists block by block, of a tensor that is not all in memory."""
    from reinit_cli.tensors.blocks import blocks_row_by_row, gathered
    from reinit_cli.tensors.rounding import torch_tensor

    shape = view.shape
    if not math.prod(shape) or not shape:
        yield dumps(values_form(torch_tensor(gathered(view)).view(view.shape)))
        return
    is_complex = view.dtype.startswith("complex")
    numels = [math.prod(shape[axis:]) * (1 + is_complex) for axis in range(len(shape))]
    numels += [2] if is_complex else []
    reached = 0
    for block in blocks_row_by_row(view):
        values = values_form(torch_tensor(block))
        flat = [each for pair in values for each in pair] if is_complex else values
        for text, count in _rows(flat, reached, numels):
            reached += count
            yield text


def _rows(
    values: Sequence[float], reached: int, numels: Sequence[int]
) -> Iterator[tuple[str, int]]:
    """Yield the text of numbers row by row, in the brackets that begin and end there.

    Args:
        values: the numbers.
        reached: how many came before them.
        numels: how many are in a list, from the outermost to the innermost.
    """
    at = 0
    while at < len(values):
        before = reached + at
        count = min(len(values) - at, numels[-1] - before % numels[-1])
        after = before + count
        opened = "[" * sum(before % numel == 0 for numel in numels)
        closed = "]" * sum(after % numel == 0 for numel in numels)
        comma = ", " if before else ""
        yield f"{comma}{opened}{dumps(values[at : at + count])[1:-1]}{closed}", count
        at += count
