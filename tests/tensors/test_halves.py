"""Sums by halves are those of their definition, and moments depend on no cut into blocks."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.tensors.halves import measured, sum_by_halves

RNG = np.random.default_rng(7)


def by_halves(terms: list[float]) -> float:
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return by_halves(
        [a + b for a, b in zip(terms, terms[half:], strict=False)][:half] + terms[2 * half :]
    )


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=70))
def test_the_second_half_is_added_to_the_first(terms: list[float]) -> None:
    assert float(sum_by_halves(np.array(terms))) == by_halves(terms)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 1000])
def test_columns_are_summed_each_by_itself(count: int) -> None:
    terms = RNG.standard_normal((count, 5))

    expected = [by_halves(column) for column in terms.T.tolist()]

    assert sum_by_halves(terms.copy()).tolist() == expected
    assert expected == pytest.approx([math.fsum(column) for column in terms.T.tolist()])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("numel", [1, 1000, 2**16, 200_003])
def test_moments_are_the_exact_ones_to_fifteen_digits(dtype: type, numel: int) -> None:
    values = (RNG.standard_normal(numel) * 0.02 + 0.5).astype(dtype)

    found = measured([values])

    exact = list(map(Fraction, values.astype(np.float64).tolist()))
    mean = sum(exact) / numel
    squares = sum((each - mean) ** 2 for each in exact)
    assert found.numel == numel
    assert found.mean == pytest.approx(float(mean), rel=1e-15)
    assert found.squares == pytest.approx(float(squares), rel=1e-12)
    assert (found.low, found.high) == (values.min(), values.max())


@given(st.lists(st.integers(0, 140_000), max_size=6))
def test_moments_do_not_depend_on_how_values_are_cut(cuts: list[int]) -> None:
    assert measured(np.split(VALUES, sorted(cuts))) == MEASURED


VALUES = RNG.standard_normal(140_000).astype(np.float32)
MEASURED = measured([VALUES])


def test_moments_of_nothing_are_those_of_no_elements() -> None:
    assert measured([]).numel == measured([np.empty((3, 0))]).numel == 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_moments_of_values_that_are_not_finite_are_not_either(value: float) -> None:
    assert not math.isfinite(measured([np.array([1.0, value])]).squares)
