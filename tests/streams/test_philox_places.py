"""The same number of elements is chosen in every column: those with the smallest words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinit_cli.streams.philox import places
from reinit_cli.streams.philox.chance import PhiloxChance
from reinit_cli.streams.philox.words import PLACES, Words
from tests.streams import slow_philox

KEY = 0x3D2BAB564EE03B80EC6CD81F338B76BA


def smallest(key: int, at: int, rows: int, columns: int, count: int) -> np.ndarray:
    """Sort each column by the upper bits of its words, and by the row."""
    words = Words(key, PLACES).take(at, rows * columns, 64).reshape(rows, columns)
    words = words >> np.uint64(max(1, (rows - 1).bit_length()))
    mask = np.zeros((rows, columns), bool)
    for column in range(columns):
        mask[np.argsort(words[:, column], kind="stable")[:count], column] = True
    return mask.reshape(-1)


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**40), st.integers(1, 9), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_a_small_choice_is_that_of_the_published_words(
    key: int, at: int, rows: int, columns: int
) -> None:
    bits = max(1, (rows - 1).bit_length())

    def rank(row: int, column: int) -> tuple[int, int]:
        return slow_philox.long_word(key, at + row * columns + column) >> bits, row

    for count in range(rows + 1):
        mask = PhiloxChance(key, at).chosen(rows, columns, count).mask(0, rows * columns)
        found = {divmod(i, columns) for i in np.flatnonzero(mask).tolist()}
        assert found == {
            (row, column)
            for column in range(columns)
            for row in sorted(range(rows), key=lambda row: rank(row, column))[:count]
        }


@pytest.mark.parametrize(
    ("rows", "columns", "count"),
    [
        (1000, 37, 100),
        (300, 700, 299),
        (300, 700, 300),
        (4, 70_000, 2),
        (30_000, 3, 27_000),
        (30_000, 3, 1),
        (255, 257, 0),
        (513, 200, 51),
    ],
)
def test_the_smallest_words_of_every_column_are_chosen(rows: int, columns: int, count: int) -> None:
    found = PhiloxChance(KEY, 5).chosen(rows, columns, count).mask(0, rows * columns)

    assert np.array_equal(found, smallest(KEY, 5, rows, columns, count))


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_any_run_of_a_choice_is_that_of_the_whole(data: st.DataObject) -> None:
    chosen = PhiloxChance(KEY).chosen(400, 300, 40)
    start = data.draw(st.integers(0, 120_000))
    numel = data.draw(st.integers(0, min(700, 120_000 - start)) | st.integers(0, 120_000 - start))

    assert np.array_equal(chosen.mask(start, numel), WHOLE[start : start + numel])


WHOLE = smallest(KEY, 0, 400, 300, 40)


@pytest.mark.parametrize("reach", [1e-6, 1e-3, 0.1, 1.0])
def test_a_window_that_misses_is_opened_wider(
    monkeypatch: pytest.MonkeyPatch, reach: float
) -> None:
    monkeypatch.setattr(places, "_FIRST_REACH", reach)
    chosen = PhiloxChance(KEY).chosen(400, 300, 40)

    assert np.array_equal(chosen.mask(0, 120_000), WHOLE)


def test_threads_may_ask_one_choice_for_runs_together() -> None:
    chosen = PhiloxChance(KEY).chosen(400, 300, 40)
    starts = [*range(0, 120_000, 500)] * 4

    with ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(lambda start: chosen.mask(start, 500), starts))

    assert np.array_equal(np.concatenate(parts), np.tile(WHOLE, 4))


def test_a_choice_moves_nothing_on() -> None:
    chance = PhiloxChance(KEY, 7)
    chance.chosen(20, 3, 2)

    assert chance.element == 7
