"""Rows become those of the one QR factorization with a positive diagonal, to the same bits always."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch

from reinit_cli.initializers import householder
from reinit_cli.streams.philox.chance import PhiloxChance

SHAPES = [(1, 1), (1, 9), (2, 2), (3, 5), (64, 64), (130, 200), (300, 300), (20, 5000)]


def normals(shape: tuple[int, int]) -> np.ndarray:
    matrix = np.empty(shape)
    PhiloxChance(9).normal(matrix, 0.0, 1.0)
    return matrix


@pytest.mark.parametrize("shape", SHAPES)
def test_the_rows_are_those_of_lapack(shape: tuple[int, int]) -> None:
    matrix = normals(shape)
    q, r = torch.linalg.qr(torch.from_numpy(matrix.T.copy()))
    expected = (q * r.diagonal().sign()).T

    householder.orthonormalize(matrix)

    assert torch.allclose(torch.from_numpy(matrix), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_rows_are_orthonormal(shape: tuple[int, int]) -> None:
    matrix = normals(shape)
    householder.orthonormalize(matrix)

    assert np.abs(matrix @ matrix.T - np.eye(shape[0])).max() < 1e-14


def reflected_one_by_one(matrix: list[list[float]]) -> list[list[float]]:
    """Apply the same reflections to one number after the other, as the textbook has them."""

    def total(terms: list[float]) -> float:
        while len(terms) > 1:
            half = len(terms) // 2
            rest = terms[2 * half :]
            terms = [terms[i] + terms[half + i] for i in range(half)] + rest
        return terms[0]

    def reflect(column: list[float], v: list[float], at: int) -> None:
        along = total([a * b for a, b in zip(v, column[at:], strict=True)])
        for i, each in enumerate(v):
            column[at + i] -= 2 * each * along

    length, directions, signs = len(matrix[0]), [], []
    for row, column in enumerate(map(list, matrix)):
        for at, v in enumerate(directions):
            reflect(column, v, at)
        x = column[row:]
        norm = math.sqrt(total([each * each for each in x]))
        target = -norm if x[0] > 0 else norm
        signs.append(math.copysign(1, target))
        x[0] -= target
        size = math.sqrt(total([each * each for each in x]))
        directions.append([each / size for each in x])
    found = []
    for row, sign in enumerate(signs):
        unit = [0.0] * length
        unit[row] = 1.0
        for at in reversed(range(row + 1)):
            reflect(unit, directions[at], at)
        found.append([sign * each for each in unit])
    return found


@pytest.mark.parametrize("panel", [1, 8, 9, 1000])
@pytest.mark.parametrize("shape", [(1, 3), (6, 6), (17, 23), (30, 31)])
def test_every_bit_is_that_of_the_single_steps(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], panel: int
) -> None:
    monkeypatch.setattr(householder, "_PANEL_NUMEL", panel * shape[1])
    matrix = normals(shape)
    expected = reflected_one_by_one(matrix.tolist())

    householder.orthonormalize(matrix)

    assert matrix.tolist() == expected


def test_the_bits_of_a_matrix_are_fixed() -> None:
    """An independent implementation of the same steps gave this digest."""
    matrix = normals((200, 130)).T.copy()
    householder.orthonormalize(matrix)

    digest = hashlib.sha256(matrix.astype("<f4").tobytes()).hexdigest()
    assert digest == "9f787c6f2a9863cffafd9d88e475bc4943fa19de541afb2a2d5930a16dd0509a"


def test_only_small_matrices_are_quick() -> None:
    assert householder.is_quick(512, 512)
    assert not householder.is_quick(513, 512)
    assert householder.is_quick(2**20, 4)
    assert not householder.is_quick(2**23, 1)
