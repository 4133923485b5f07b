"""Laws that are not elementwise give the same values everywhere, and any run of them, with philox-1."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch

from reinit_cli.execution import draw
from reinit_cli.initializers import Law, mean_rows
from reinit_cli.initializers.families.orthogonals import DeltaOrthogonal, Orthogonal
from reinit_cli.initializers.families.sparses import SparseNormal
from reinit_cli.initializers.families.transforms import RelativeNoise, Resampled, Shuffled
from reinit_cli.initializers.householder import is_quick
from reinit_cli.initializers.mean_rows import MeanRows
from reinit_cli.initializers.parts import Blocks
from reinit_cli.streams.philox.chance import PhiloxChance
from reinit_cli.streams.philox.stream import PhiloxStream
from reinit_cli.streams.shifted import Shifted
from reinit_cli.tensors.elements import Elements
from tests.streams import slow_philox

KEY = PhiloxStream().seed_for(7, "embed.weight")

LAWS: dict[str, tuple[Law, tuple[int, ...]]] = {
    "sparse": (SparseNormal(100, 10, 0.02), (100, 37)),
    "sparse, all zero": (SparseNormal(9, 9, 0.02), (9, 4)),
    "orthogonal, wide": (Orthogonal(20, 33, 1.5), (20, 33)),
    "orthogonal, tall": (Orthogonal(33, 20, 1.5), (33, 2, 10)),
    "orthogonal, large": (Orthogonal(520, 530, 1.0), (520, 530)),
    "delta_orthogonal": (DeltaOrthogonal((12, 8, 3, 3), 2.0), (12, 8, 3, 3)),
    "orthogonal parts": (Blocks(Orthogonal(16, 8, 1.0), (64, 8), 4), (64, 8)),
    "sparse parts": (Blocks(SparseNormal(16, 4, 1.0), (64, 8), 4), (64, 8)),
}


def filled(law: Law, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    values = np.full(shape, np.nan, dtype)
    law.fill(values, PhiloxChance(KEY))
    return values


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LAWS)
def test_runs_in_any_order_from_any_thread_are_those_of_the_whole(name: str, dtype: type) -> None:
    law, shape = LAWS[name]
    numel = math.prod(shape)
    cuts = sorted({0, numel, *(random.Random(5).randrange(numel) for _ in range(20))})
    runs = list(pairwise(cuts))
    random.Random(6).shuffle(runs)
    values = np.full(numel, np.nan, dtype)
    fill = law.filler(shape, np.dtype(dtype), PhiloxChance(KEY))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda run: fill(values[run[0] : run[1]], run[0]), runs))

    assert values.tobytes() == filled(law, shape, dtype).tobytes()


def test_sparse_has_the_normals_of_its_elements_and_the_zeros_of_the_smallest_words() -> None:
    values = filled(SparseNormal(9, 3, 0.5), (9, 2))

    for column in range(2):
        ranks = [slow_philox.long_word(KEY, 2 * row + column) >> 4 for row in range(9)]
        zeros = sorted(range(9), key=lambda row: (ranks[row], row))[:3]
        assert values[:, column].tolist() == [
            0.0 if row in zeros else slow_philox.normal(KEY, 2 * row + column, 0.0, 0.5)
            for row in range(9)
        ]


@pytest.mark.parametrize("shape", [(6, 6), (5, 9), (9, 5), (100, 300)])
def test_orthogonal_is_the_factor_of_the_normals_with_a_positive_diagonal(
    shape: tuple[int, int],
) -> None:
    normals = np.empty(shape, np.float32)
    PhiloxChance(KEY).normal(normals, 0.0, 1.0)
    tall = torch.from_numpy(normals).double()
    q, r = torch.linalg.qr(tall.T if shape[0] < shape[1] else tall)
    q *= r.diagonal().sign()
    expected = 1.5 * (q.T if shape[0] < shape[1] else q)

    found = filled(Orthogonal(*shape, 1.5), shape)

    assert torch.equal(torch.from_numpy(found), expected.float())


def test_a_small_orthogonal_matrix_calls_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_quick(64, 64)
    monkeypatch.setattr(torch, "geqrf", None)
    monkeypatch.setattr(np.linalg, "qr", None)

    assert np.isfinite(filled(Orthogonal(64, 64, 1.0), (64, 64))).all()


def test_shuffle_permutes_by_the_words_of_places() -> None:
    values = np.arange(50, dtype=np.float32)
    Shuffled().fill(values, PhiloxChance(KEY))

    assert values.tolist() == slow_philox.permutation(KEY, 50)


# --- sums -------------------------------------------------------------------------------------


def _drawn(monkeypatch: pytest.MonkeyPatch, law: Law, blocks: list[Elements]) -> np.ndarray:
    monkeypatch.setattr(draw, "stream_named", lambda _: PhiloxStream())
    there = draw.There(lambda: iter(blocks))
    numel = sum(block.numel for block in blocks)
    found = draw.draw_blocks(law, (numel,), "float32", KEY, "cpu", there, "philox-1")
    return np.concatenate([block.array.copy() for block in found])


@pytest.mark.parametrize("law", [RelativeNoise(0.1), Resampled("normal"), Resampled("uniform")])
def test_measured_moments_do_not_depend_on_how_values_are_read(
    monkeypatch: pytest.MonkeyPatch, law: Law
) -> None:
    values = (np.random.default_rng(3).standard_normal(150_001) * 0.3 + 1).astype(np.float32)
    whole = [Elements(values, "float32")]
    parts = [Elements(part, "float32") for part in np.split(values, [5, 70_000, 149_999])]

    found = _drawn(monkeypatch, law, whole)

    assert found.tobytes() == _drawn(monkeypatch, law, parts).tobytes()
    std = math.hypot(0.3, 0.03) if isinstance(law, RelativeNoise) else 0.3
    assert (found.mean(), found.std()) == pytest.approx((1, std), rel=0.01)


def _take(rows: np.ndarray) -> Iterator[np.ndarray]:
    flat, reached = rows.reshape(-1), 0

    def take(out: np.ndarray) -> None:
        nonlocal reached
        out[...] = flat[reached : reached + len(out)]
        reached += len(out)

    return take


def new_rows(old: np.ndarray, new: int) -> np.ndarray:
    shape = (new, old.shape[1])
    chance = Shifted(PhiloxChance(KEY), old.size)
    (block,) = MeanRows(len(old)).blocks(shape, old.dtype, chance, _take(old))
    return block.reshape(shape)


OLD = (np.random.default_rng(4).standard_normal((1000, 30)) * 0.1 + 0.5).astype(np.float32)


def test_new_rows_are_the_mean_and_a_mixture_of_the_old_ones() -> None:
    z = np.empty((3, 1000), np.float32)
    for row, normals in enumerate(z, 1000):
        PhiloxChance(KEY, row * (row - 1) // 2).normal(normals, 0.0, 1.0)
    exact = [sum(map(Fraction, column), Fraction(0)) / 1000 for column in OLD.T.tolist()]
    mean = np.array([float(each) for each in exact])
    expected = mean + math.sqrt(1e-9 / 1000) * (z.astype(float) @ (OLD - mean))

    found = new_rows(OLD, 3)

    assert np.abs(found - expected).max() <= np.spacing(np.float32(1))
    assert np.count_nonzero(found == expected.astype(np.float32)) > 85  # of 90


def test_the_normals_of_a_new_row_do_not_depend_on_when_it_is_added() -> None:
    """The old rows are orthogonal, so that their mixture shows each normal."""
    old = np.diag(np.full(40, 2.0, np.float64))

    once = new_rows(old, 5)
    first = new_rows(old, 2)
    grown = np.vstack((old, first))
    second = new_rows(grown, 3)

    assert np.array_equal(once[:2], first)
    ratios = (once[2:] - old.mean(axis=0)) / (second - grown.mean(axis=0))
    assert ratios == pytest.approx(math.sqrt(42 / 40), rel=0.01)
    correlations = np.corrcoef(np.vstack((first, second)))
    assert np.abs(correlations[np.triu_indices(5, 1)]).max() < 4 / math.sqrt(40)


@pytest.mark.parametrize("numel", [1, 30 * 64, 30 * 200, 30 * 999])
def test_new_rows_do_not_depend_on_how_many_old_ones_are_read_together(
    monkeypatch: pytest.MonkeyPatch, numel: int
) -> None:
    expected = new_rows(OLD, 3)
    monkeypatch.setattr(mean_rows, "_CHUNK_NUMEL", numel)
    monkeypatch.setattr(mean_rows, "_SUMMED_COLUMNS", 7)

    assert new_rows(OLD, 3).tobytes() == expected.tobytes()


@pytest.mark.parametrize("values", [[np.inf, -np.inf], [np.nan, 1.0], [3e38, 3e38], [np.inf, 1.0]])
def test_old_rows_that_are_not_finite_spoil_their_columns_alone_without_a_warning(
    values: list[float],
) -> None:
    old = OLD.copy()
    old[[3, 500], 7] = values

    found = np.delete(new_rows(old, 3), 7, axis=1)

    assert found.tobytes() == np.delete(new_rows(OLD, 3), 7, axis=1).tobytes()


def test_a_new_row_does_not_depend_on_how_many_follow() -> None:
    assert new_rows(OLD, 2).tobytes() == new_rows(OLD, 5)[:2].tobytes()
