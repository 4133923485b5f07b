"""Write versioned JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reinit_cli.storage.segments import View
    from reinit_cli.tensors.elements import Elements
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


def values_form(elements: Elements, shape: Sequence[int]) -> Any:
    """Return elements in row-major order as nested lists; complex ones as pairs of numbers."""
    dims = [*shape, 2] if elements.dtype.startswith("complex") else [*shape]
    return _nested(_flat(elements), dims)


def _flat(elements: Elements) -> list[Any]:
    """Return elements as numbers; of complex ones the real and the imaginary part in turn."""
    from reinit_cli.tensors.rounding import numbers

    values = numbers(elements.flat)
    flat: list[Any] = (
        values.view(values.real.dtype) if values.dtype.kind == "c" else values
    ).tolist()
    return flat


def _nested(flat: list[Any], dims: Sequence[int]) -> Any:
    if not dims:
        return flat[0]
    if len(dims) == 1:
        return flat
    count = math.prod(dims[1:])
    starts = range(0, dims[0] * count, count) if count else [0] * dims[0]
    return [_nested(flat[at : at + count], dims[1:]) for at in starts]


def values_texts(view: View) -> Iterator[str]:
    """Yield the text of the same lists block by block, of a tensor that is not all in memory."""
    from reinit_cli.tensors.blocks import blocks_row_by_row, gathered

    shape = view.shape
    if not math.prod(shape) or not shape:
        yield dumps(values_form(gathered(view), shape))
        return
    is_complex = view.dtype.startswith("complex")
    numels = [math.prod(shape[axis:]) * (1 + is_complex) for axis in range(len(shape))]
    numels += [2] if is_complex else []
    reached = 0
    for block in blocks_row_by_row(view):
        for text, count in _rows(_flat(block), reached, numels):
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
