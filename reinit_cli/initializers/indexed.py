"""Define laws without chance, whose elements follow from their indices."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

from reinit_cli.initializers.blocks import Filler, Take, nothing
from reinit_cli.initializers.law import Dtype, Law
from reinit_cli.lazy import LazyModule
from reinit_cli.streams.chance import Array, Chance
from reinit_cli.tensors.moments import BLOCK_NUMEL

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_PORTION_NUMEL = 2**14
"""The elements that are computed together: what that takes stays in the processor's cache."""


class Indexed(Law):
    """A function of the index of an element, computed in float64 and rounded once."""

    __slots__ = ()
    is_random = False
    statistics = ()
    identity = "values"

    @abstractmethod
    def at(self, places: Array) -> Array:
        """Return the elements with some indices, in float64."""

    def fill(self, values: Array, chance: Chance) -> None:
        """Write a whole tensor."""
        del chance
        self._write(values.reshape(-1), 0)

    def filler(self, shape: tuple[int, ...], dtype: Dtype, chance: Chance) -> Filler:
        """Return what writes runs."""
        del shape, dtype, chance
        return self._write

    def blocks(
        self, shape: tuple[int, ...], dtype: Dtype, chance: Chance, take: Take = nothing
    ) -> Iterator[Array]:
        """Yield what `fill` writes."""
        del chance, take
        numel = math.prod(shape)
        block = np.empty(min(numel, BLOCK_NUMEL), dtype)
        for at in range(0, numel, BLOCK_NUMEL):
            some = block[: numel - at]
            self._write(some, at)
            yield some

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return nothing."""
        del shape, itemsize
        return 0

    def filling_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return nothing."""
        del shape, itemsize
        return 0

    def _write(self, run: Array, at: int) -> None:
        for start in range(0, len(run), _PORTION_NUMEL):
            some = run[start : start + _PORTION_NUMEL]
            some[...] = self.at(np.arange(at + start, at + start + len(some)))

    def misfit(self, values: Array) -> tuple[float, float]:
        """Return the largest difference from what is computed again."""
        expected = np.empty_like(values)
        self._write(expected.reshape(-1), 0)
        return float(np.abs(values - expected).max(initial=0.0)), 0.0
