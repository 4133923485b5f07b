"""Read tensors that say of each element of another whether it is meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule
from reinit_cli.storage.segments import View
from reinit_cli.tensors.blocks import blocks_row_by_row
from reinit_cli.tensors.elements import Array
from reinit_cli.tensors.rounding import numbers

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")


def mask_blocks(view: View) -> Iterator[Array]:
    """Yield which elements a mask covers, in row-major order, as 1-D arrays of booleans."""
    for block in blocks_row_by_row(view):
        yield numbers(block) != 0


def count_ones(view: View) -> int:
    """Return how many elements a mask covers.

    Raises:
        ValueError: it has other values than 0 and 1.
    """
    ones = 0
    for block in blocks_row_by_row(view):
        values = numbers(block)
        are_ones = values == 1
        ones += int(np.count_nonzero(are_ones))
        if not (are_ones | (values == 0)).all():
            raise ValueError("it has other values than 0 and 1")
    return ones
