"""What is measured block by block is what numpy measures of the whole, in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from reinit_cli.tensors.distance import Tolerance, distance_of
from reinit_cli.tensors.elements import Elements
from reinit_cli.tensors.histogram import has_room, histogram_of
from reinit_cli.tensors.moments import magnitudes, moments_of, real_numbers, statistics_of
from reinit_cli.tensors.rounding import elements_of_tensor

BLOCKS = [1, 7, 1000]


def _some(seed: int, numel: int = 1000) -> torch.Tensor:
    return torch.randn(numel, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _blocks(values: torch.Tensor, size: int) -> list[Elements]:
    return [elements_of_tensor(each) for each in torch.split(values, size)]


@pytest.mark.parametrize("size", BLOCKS)
def test_statistics_do_not_depend_on_the_blocks(size: int) -> None:
    values = _some(1)
    values[[3, 500]] = torch.tensor([math.nan, -math.inf], dtype=torch.float64)
    values[7] = 0

    found = statistics_of(_blocks(values, size))

    finite = values.numpy()[np.isfinite(values.numpy())]
    assert (found.numel, found.nan, found.inf, found.zeros) == (1000, 1, 1, 1)
    assert found.finite.mean == pytest.approx(finite.mean(), rel=1e-9)
    assert found.finite.std == pytest.approx(finite.std(), rel=1e-12)
    assert (found.finite.low, found.finite.high) == (finite.min(), finite.max())


@pytest.mark.parametrize("size", BLOCKS)
@pytest.mark.parametrize("scale", [1.0, 1e300, 1.7e308 / 4])
def test_bins_hold_what_those_of_numpy_hold(size: int, scale: float) -> None:
    values = _some(2) * scale
    low, high = values.min().item(), values.max().item()

    found = histogram_of(_blocks(values, size), low, high, 10)

    counts, _ = np.histogram((values / scale).numpy(), 10, (low / scale, high / scale))
    assert sum(found.counts) == 1000
    assert np.abs(np.array(found.counts) - counts).max() <= 1  # an edge may round either way


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40), st.integers(1, 70))
def test_bins_hold_what_those_of_torch_hold(values: list[float], bins: int) -> None:
    tensor = torch.tensor(values, dtype=torch.float64)
    low, high = min(values), max(values)
    assume(has_room(low, high))

    found = histogram_of(_blocks(tensor, 7), low, high, bins)

    assert list(found.counts) == torch.histc(tensor, bins, low, high).tolist()


def test_bins_count_neither_nan_nor_infinities() -> None:
    values = torch.tensor([0.0, math.nan, 1.0, math.inf, -math.inf])

    assert histogram_of(_blocks(values, 5), 0.0, 1.0, 2).counts == (1, 1)
    assert histogram_of(_blocks(torch.tensor([3.0, math.nan, 3.0]), 3), 3.0, 3.0, 4).counts == (
        2,
        0,
        0,
        0,
    )


@pytest.mark.parametrize("size", BLOCKS)
def test_distances_are_those_of_numpy(size: int) -> None:
    a, b = _some(3), _some(4)
    b[:600] = a[:600]
    tolerance = Tolerance(rtol=0.1, atol=0.01)

    found = distance_of(zip(_blocks(a, size), _blocks(b, size), strict=True), tolerance)

    x, y = a.numpy(), b.numpy()
    assert found.numel == 1000
    assert found.changed == (~np.isclose(x, y, rtol=0.1, atol=0.01)).sum()
    assert found.max_abs == np.abs(y - x).max()
    assert found.relative_l2 == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x))
    assert found.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


@pytest.mark.parametrize("size", BLOCKS)
def test_norms_and_angles_leave_out_what_is_not_finite_in_either_tensor(size: int) -> None:
    a, b = _some(3), _some(4)
    a[:3] = torch.tensor([math.nan, math.inf, 7.0])
    b[:6] = torch.tensor([math.nan, 2.0, math.inf, math.nan, -math.inf, 5.0])

    found = distance_of(zip(_blocks(a, size), _blocks(b, size), strict=True), Tolerance())

    are_finite = (a.isfinite() & b.isfinite()).numpy()
    x, y = a.numpy()[are_finite], b.numpy()[are_finite]
    assert (found.changed, found.max_abs) == ((a != b).sum() - 1, math.inf)
    assert found.relative_l2 == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x), rel=1e-12)
    cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    assert found.cosine == pytest.approx(cosine, rel=1e-12)


def test_complex_numbers_are_measured_by_magnitude_and_drawn_ones_by_a_part() -> None:
    values = elements_of_tensor(torch.tensor([3 + 4j, 1j]))

    assert magnitudes(values).tolist() == [5.0, 1.0]
    assert real_numbers(values).tolist() == [3.0, 0.0]
    assert moments_of(values).mean == 1.5


def test_what_torch_does_not_compute_with_is_widened() -> None:
    eight = elements_of_tensor(torch.tensor([[0.5, -2.0], [1.0, 0.0]]).to(torch.float8_e4m3fn))

    assert real_numbers(eight).tolist() == [0.5, -2.0, 1.0, 0.0]
    assert real_numbers(eight).dtype == np.float32
    assert real_numbers(Elements(np.ones(2), "float64")).dtype == np.float64


@pytest.mark.parametrize("numel", [3, 1000, 2**17 + 5])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16", "float8_e5m2"])
def test_equal_values_have_exactly_no_spread(dtype: str, numel: int) -> None:
    elements = elements_of_tensor(torch.full((numel,), 0.1).to(getattr(torch, dtype)))

    for found in (moments_of(elements), statistics_of([elements, elements]).finite):
        assert found.std == 0.0
        assert found.mean == found.low == found.high


@pytest.mark.parametrize("numel", [1000, 2**17 + 5])
def test_values_that_are_nearly_equal_keep_their_spread(numel: int) -> None:
    tensor = 1000 + 0.01 * _some(5, numel).float()

    found = moments_of(elements_of_tensor(tensor))

    assert found.mean == pytest.approx(tensor.double().mean().item(), rel=1e-9)
    assert found.std == pytest.approx(tensor.double().std(correction=0).item(), rel=1e-4)


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e30, 1e38])
def test_squares_of_small_and_of_large_numbers_are_not_lost(scale: float) -> None:
    tensor = (_some(6, 2**17).clamp(-3, 3) * scale).float()

    found = moments_of(elements_of_tensor(tensor))

    assert found.std == pytest.approx(tensor.double().std(correction=0).item(), rel=1e-6)


def test_a_mean_is_found_although_the_sum_overflows() -> None:
    values = Elements(np.array([1.5e308, 1.2e308, 0.3e308]), "float64")

    assert moments_of(values).mean == pytest.approx(1e308)
    assert statistics_of([values]).finite.mean == pytest.approx(1e308)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_extremes_of_integers_are_exact(dtype: str) -> None:
    limits = np.iinfo(dtype)
    values = np.array([limits.max, limits.max - 1, limits.min + 1], dtype)

    found = statistics_of([Elements(values, dtype)]).finite

    assert (found.low, found.high) == (limits.min + 1, limits.max)


def test_what_is_not_finite_has_no_moments_that_are() -> None:
    values = torch.tensor([1.0, math.nan, math.inf])

    assert math.isnan(moments_of(elements_of_tensor(values)).mean)
    assert math.isnan(moments_of(elements_of_tensor(torch.full((3,), -math.inf))).std)
