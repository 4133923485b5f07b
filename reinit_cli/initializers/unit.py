"""Divide vectors by their norms, in an order of sums that is the same on every machine."""

from __future__ import annotations

import math

from reinit_cli.initializers.blocks import pieces
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array
from reinit_cli.tensors.halves import sum_by_halves

np = LazyModule("numpy")

SUMMED_NUMEL = 2**16
"""The squares that are summed together. It is part of the values of philox-1."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of a tensor: one for each index of a dimension.

    Attributes:
        before: the product of the dimensions before that one.
        count: the size of that one.
        after: the product of those behind it.
    """

    before: int
    count: int
    after: int

    @property
    def length(self) -> int:
        """The elements of each vector."""
        return self.before * self.after

    @property
    def slab(self) -> int:
        """The elements that each index of the dimensions before has."""
        return self.count * self.after


def vectors_of(shape: tuple[int, ...], dim: int) -> Vectors:
    """Return the vectors along a dimension."""
    return Vectors(math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1 :]))


def squared_row(row: Array) -> float:
    """Return the sum of the squares of a row, portion by portion."""
    total = 0.0
    for start in range(0, len(row), SUMMED_NUMEL):
        total += float(
            sum_by_halves(np.square(row[start : start + SUMMED_NUMEL], dtype=np.float64))
        )
    return total


def squared_rows(rows: Array) -> Array:
    """Return the sums of the squares of each of some rows, as `squared_row` does."""
    if rows.shape[1] > SUMMED_NUMEL:
        found: Array = np.array([squared_row(row) for row in rows])
        return found
    columns = np.square(rows.T, dtype=np.float64, order="C")
    total: Array = sum_by_halves(columns)
    return total


def factors(squares: Array, norm: float) -> Array:
    """Return what vectors are multiplied by, in float64; 0 for vectors of zeros."""
    roots = np.sqrt(squares)
    found: Array = np.divide(norm, roots, out=np.zeros_like(roots), where=roots > 0)
    return found


class Slabs:
    """Sums of squares of vectors that do not lie in one piece, some slabs after the other."""

    def __init__(self, vectors: Vectors) -> None:
        """Start with nothing."""
        self._vectors = vectors
        self._squares = np.zeros(vectors.count)
        self.numel = vectors.slab * max(1, SUMMED_NUMEL // max(1, vectors.slab))
        """The elements that are added together."""

    def add(self, some: Array) -> None:
        """Add the next elements."""
        by_slab = np.square(some, dtype=np.float64).reshape(
            -1, self._vectors.count, self._vectors.after
        )
        together = sum_by_halves(by_slab)
        self._squares += sum_by_halves(together.T.copy())

    def factors(self, norm: float) -> Array:
        """Return what the vectors are multiplied by."""
        return factors(self._squares, norm)


def give_norm(values: Array, vectors: Vectors, norm: float) -> None:
    """Give all vectors of a tensor a norm, in place."""
    flat = values.reshape(-1)
    if vectors.before == 1:
        at_once = max(1, SUMMED_NUMEL // max(1, vectors.after))
        for rows in pieces(flat.reshape(vectors.count, vectors.after), at_once):
            rows[...] = rows * factors(squared_rows(rows), norm)[:, np.newaxis]
        return
    slabs = Slabs(vectors)
    for some in pieces(flat, slabs.numel):
        slabs.add(some)
    found = slabs.factors(norm)
    for at in range(0, len(flat), SUMMED_NUMEL):
        multiply(flat[at : at + SUMMED_NUMEL], at, vectors, found)


def multiply(run: Array, at: int, vectors: Vectors, found: Array) -> None:
    """Multiply a run, the first element of which has an index, by the factors of its vectors."""
    for start in range(0, len(run), SUMMED_NUMEL):
        some = run[start : start + SUMMED_NUMEL]
        places = np.arange(at + start, at + start + len(some)) // vectors.after
        some[...] = some * found[places % vectors.count]
