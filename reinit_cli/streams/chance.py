"""Say what a source of chance can do, whichever stream its numbers come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from reinit_cli.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import torch

    Array = np.ndarray[Any, np.dtype[Any]]
else:
    np = LazyModule("numpy")
    torch = LazyModule("torch")
    Array = Any


class Choice(Protocol):
    """Elements of a matrix that were chosen at random."""

    def mask(self, start: int, numel: int) -> Array:
        """Return which elements of a run are chosen, in row-major order; any thread may ask.

        Args:
            start: the index of the first.
            numel: how many there are.
        """


class Chance(Protocol):
    """Random numbers of one key, taken from the first on.

    Every method takes the numbers that follow those of the call before it. An array to fill is
    contiguous, in float32 or float64; its first element gets the next number.
    """

    @property
    def is_indexed(self) -> bool:
        """Whether the numbers of any element can be had by themselves, with `at`."""

    @property
    def portion_numel(self) -> int:
        """How many elements it draws together: fewer take it as long."""

    def at(self, element: int) -> Chance:
        """Return the chance of the elements from one on; this one stays where it is.

        Args:
            element: the index of an element, in row-major order, from 0.

        Raises:
            NotImplementedError: it is not indexed.
        """

    def uniform(self, out: Array, low: float, high: float) -> None:
        """Fill an array from U[low, high)."""

    def normal(self, out: Array, mean: float, std: float) -> None:
        """Fill an array from N(mean, std²)."""

    def truncated(self, out: Array, center: float, scale: float, low: float, high: float) -> None:
        """Fill an array from N(center, scale²) given that it lies in [low, high]."""

    def permutation(self, numel: int) -> Array:
        """Return 0, 1, …, numel − 1 in a random order, in int32 or int64."""

    def chosen(self, rows: int, columns: int, count: int) -> Choice:
        """Choose as many elements in each column of a matrix, of which this is the first element.

        Raises:
            NotImplementedError: it is not indexed.
        """

    def generator(self) -> torch.Generator:
        """Return a generator of torch for laws that draw with torch themselves."""
