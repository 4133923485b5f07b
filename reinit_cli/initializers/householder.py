"""Make rows orthonormal by steps whose result is the same on every machine.

LAPACK's last bits depend on the library, the processor and the number of threads. These are
Householder's reflections in float64, in products, sums and differences of single elements, and
with sums by halves. They take about ten times as long as LAPACK.
"""

from __future__ import annotations

from reinit_cli.lazy import LazyModule
from reinit_cli.streams.chance import Array
from reinit_cli.tensors.halves import sum_by_halves

np = LazyModule("numpy")

_MOST_WORK = 2**27
"""The most products, numel · the shorter side: those of 512 × 512, which take 0.2 seconds."""

_MOST_NUMEL = 2**22
"""The most elements: of long and thin matrices, more would not fit into the processor's cache."""

_PANEL_NUMEL = 2**16
"""The elements of the rows that are reflected together: they stay in the processor's cache.

How many they are does not change a bit.
"""


def is_quick(rows: int, columns: int) -> bool:
    """Whether a matrix is so small that `orthonormalize` takes little time."""
    numel = rows * columns
    return numel <= _MOST_NUMEL and numel * min(rows, columns) <= _MOST_WORK


def orthonormalize(matrix: Array) -> None:
    """Replace rows by orthonormal ones, as many, that span the same.

    For the matrix A of these rows as columns it is Q of A = Q·R, R with a positive diagonal.

    Args:
        matrix: (m, n) in float64, m ≤ n.
    """
    import numpy as np

    count, length = matrix.shape
    panel = max(8, min(128, _PANEL_NUMEL // length))
    signs = np.empty(count)
    for first in range(0, count, panel):
        _reduce(matrix, first, min(first + panel, count), signs)
    for first in reversed(range(0, count, panel)):
        _expand(matrix, first, min(first + panel, count))
    matrix *= signs[:, None]


def _reduce(matrix: Array, first: int, end: int, signs: Array) -> None:
    """Replace some rows by the directions of their reflections, and keep the signs of R."""
    import numpy as np

    columns = np.ascontiguousarray(matrix[first:end].T)  # (n, rows)
    for done in range(first):
        _reflect(columns[done:], matrix[done, done:])
    for row in range(first, end):
        x = columns[row:, row - first].copy()
        norm = np.sqrt(sum_by_halves(x * x))
        target = -norm if x[0] > 0 else norm
        signs[row] = np.sign(target)
        x[0] -= target
        matrix[row, :row] = 0
        matrix[row, row:] = x / np.sqrt(sum_by_halves(x * x))
        if row + 1 < end:
            _reflect(columns[row:, row + 1 - first :], matrix[row, row:])


def _expand(matrix: Array, first: int, end: int) -> None:
    """Replace some directions by the rows that all reflections up to them make of unit vectors."""
    import numpy as np

    length = matrix.shape[1]
    columns = np.zeros((length, end - first))
    columns[range(first, end), range(end - first)] = 1
    for row in reversed(range(end)):
        _reflect(columns[row:, max(0, row - first) :], matrix[row, row:])
    matrix[first:end] = columns.T


def _reflect(columns: Array, direction: Array) -> None:
    """Reflect columns at the plane that a direction of length 1 is perpendicular to, in place."""
    import numpy as np

    terms = direction[:, None] * columns
    along = sum_by_halves(terms).copy()
    np.multiply((2 * direction)[:, None], along, out=terms)
    columns -= terms
