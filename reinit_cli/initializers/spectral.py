"""Find the largest singular value of a matrix."""

from __future__ import annotations

from reinit_cli.lazy import LazyModule
from reinit_cli.streams.chance import Array

np = LazyModule("numpy")

_STEPS_BETWEEN = 8
"""The steps after which the result is compared with the one before."""

_CLOSE = 1e-14
"""What the largest eigenvalue may still grow by, of itself."""


def spectral_norm(matrix: Array) -> float:
    """Return the largest singular value of a float64 matrix, to about 14 digits.

    Lanczos's method on the shorter side, whose vectors are all kept and made orthogonal again;
    with as many steps as rows it is exact.
    """
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    largest = float(np.abs(short).max(initial=0.0))
    if not largest:
        return 0.0
    count = len(short)
    # Not a vector of ones: of matrices whose columns sum to 0 it would find nothing.
    vector = np.sqrt(np.arange(2.0, count + 2)) % 1.0 - 0.4
    vectors = [vector / np.sqrt(vector @ vector)]
    diagonal: list[float] = []
    beside: list[float] = []
    found = 0.0
    while True:
        step = short @ (short.T @ vectors[-1])
        diagonal.append(float(step @ vectors[-1]))
        basis = np.array(vectors)
        for _ in range(2):
            step -= (basis @ step) @ basis
        size = float(np.sqrt(step @ step))
        is_last = len(vectors) == count or size <= _CLOSE * diagonal[0]
        if is_last or len(vectors) % _STEPS_BETWEEN == 0:
            before, found = found, _largest_eigenvalue(diagonal, beside)
            if is_last or found - before <= _CLOSE * found:
                return float(np.sqrt(found))
        beside.append(size)
        vectors.append(step / size)


def _largest_eigenvalue(diagonal: list[float], beside: list[float]) -> float:
    """Return that of a symmetric tridiagonal matrix."""
    matrix = np.diag(diagonal) + np.diag(beside, -1)
    return float(np.linalg.eigvalsh(matrix)[-1])  # reads the lower triangle
