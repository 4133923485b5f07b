"""What is measured is what numpy measures in float64."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli import threads
from reinit_cli.checkpoints.find import find_source
from reinit_cli.operations.stats import BINS, histograms, measure, measure_source
from reinit_cli.storage.segments import Literal, View
from reinit_cli.tensors.moments import Statistics


def _view(tensor: torch.Tensor) -> View:
    data = tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return View.of(Literal(data), str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def _measured(tensor: torch.Tensor) -> Statistics:
    return measure({"x": _view(tensor)}, lambda _: None)["x"]


def _check(found: Statistics, values: Any) -> None:
    numbers = np.abs(values) if np.iscomplexobj(values) else values
    numbers = numbers.astype(np.float64).ravel()
    finite = numbers[np.isfinite(numbers)]
    assert found.numel == numbers.size
    assert found.nan == np.isnan(numbers).sum()
    assert found.inf == np.isinf(numbers).sum()
    assert found.zeros == (finite == 0).sum()
    if finite.size:
        assert found.finite.mean == pytest.approx(finite.mean(), rel=1e-12, abs=1e-12)
        assert found.finite.std == pytest.approx(finite.std(), rel=1e-9, abs=1e-12)
        assert (found.finite.low, found.finite.high) == (finite.min(), finite.max())
        assert found.norm == pytest.approx(np.linalg.norm(finite), rel=1e-12)


DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn),
    *(torch.float8_e5m2, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64),
    *(torch.bool, torch.complex64, torch.complex128),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_is_measured(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(700, 900, generator=generator) * 3 + 1
    tensor = (values + 1j * values.flip(0)).to(dtype) if dtype.is_complex else values.to(dtype)

    wide = tensor.to(torch.complex128 if dtype.is_complex else torch.float64)
    _check(_measured(tensor), wide.numpy())


def test_nan_and_infinities_are_counted_apart() -> None:
    tensor = torch.arange(1_000_000.0)
    tensor[[3, 999_999]] = math.nan
    tensor[[5, 7, 500_000]] = torch.tensor([math.inf, -math.inf, math.inf])

    found = _measured(tensor)

    assert (found.nan, found.inf, found.is_finite) == (2, 3, False)
    _check(found, tensor.numpy())


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, -math.inf], [0.0], [-0.0, 5e-324]])
def test_the_least_is_measured(values: list[float]) -> None:
    _check(_measured(torch.tensor(values, dtype=torch.float64)), np.array(values))


@given(st.lists(st.floats(width=32), max_size=50), st.lists(st.floats(width=32), max_size=50))
def test_statistics_of_parts_are_those_of_the_whole(
    first: list[float], second: list[float]
) -> None:
    parts = [_measured(torch.tensor(part, dtype=torch.float64)) for part in (first, second)]

    whole, joined = (
        _measured(torch.tensor(first + second, dtype=torch.float64)),
        sum(parts, start=Statistics()),
    )

    assert (whole.numel, whole.nan, whole.inf, whole.zeros) == (
        joined.numel,
        joined.nan,
        joined.inf,
        joined.zeros,
    )
    # A mean of large values that cancel has no more digits than these leave.
    left = 1e-15 * max(map(abs, filter(math.isfinite, first + second)), default=0.0)
    assert joined.finite.mean == pytest.approx(whole.finite.mean, rel=1e-9, abs=left + 1e-30)
    assert joined.norm == pytest.approx(whole.norm, rel=1e-9, abs=1e-30)


def test_a_histogram_is_that_of_numpy() -> None:
    tensor = torch.randn(1000, 777, generator=torch.Generator().manual_seed(1))
    low, high = tensor.min().item(), tensor.max().item()

    found = histograms({"x": _view(tensor)}, {"x": (low, high)}, lambda _: None)["x"]

    counts, _ = np.histogram(tensor.double().numpy(), 16, (low, high))
    assert sum(found.counts) == tensor.numel()
    assert np.abs(np.array(found.counts) - counts).max() <= 1  # an edge may round either way


def test_tensors_of_a_module_are_measured_together_and_ties_once() -> None:
    shared = torch.randn(30, 20)
    state = {"a.w": shared, "a.b": torch.ones(7), "c.tied": shared, "top": torch.zeros(2)}
    torch.save(state, "m.pt")
    source = find_source("m.pt")

    found = measure_source(source, source.tensors, -1, 0, lambda _: None, bins=BINS)

    assert [(each.key, each.tensors) for each in found] == [("a", 2), ("", 1)]
    _check(found[0].statistics, torch.cat([shared.flatten(), torch.ones(7)]).numpy())
    assert found[0].histogram is not None
    assert sum(found[0].histogram.counts) == 607


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    views = {str(at): _view(torch.randn(1000 * at)) for at in range(1, 9)}
    several = measure(views, lambda _: None)
    monkeypatch.setattr(threads, "cores", lambda: 1)

    assert measure(views, lambda _: None) == several
    assert list(several) == list(views)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint64], ids=str)
def test_extremes_of_integers_are_exact(dtype: torch.dtype) -> None:
    limits = torch.iinfo(dtype)
    tensor = torch.tensor([limits.max, limits.min, limits.max - 1], dtype=dtype)

    found = _measured(tensor)

    assert (found.finite.low, found.finite.high) == (limits.min, limits.max)


def test_numbers_whose_squares_overflow_have_an_infinite_norm() -> None:
    found = _measured(torch.full((3,), 1e200, dtype=torch.float64))

    assert (found.finite.mean, found.norm) == (1e200, math.inf)


@pytest.mark.parametrize("values", [[1e201, 3e200, 7e200, 1e199], [1.7e308, -1.7e308, 1e308]])
def test_numbers_whose_squares_overflow_have_a_mean_and_an_infinite_std(
    values: list[float],
) -> None:
    found = _measured(torch.tensor(values, dtype=torch.float64))

    assert found.finite.mean == pytest.approx(float(sum(map(Fraction, values)) / len(values)))
    with np.errstate(over="ignore"):
        assert found.finite.std == np.std(values)
    assert found.norm == math.inf


def test_the_widest_range_has_a_histogram() -> None:
    largest = torch.finfo(torch.float64).max
    tensor = torch.tensor([-largest, 0, 1, largest, math.nan, math.inf], dtype=torch.float64)

    found = histograms({"x": _view(tensor)}, {"x": (-largest, largest)}, lambda _: None)["x"]

    assert (found.low, found.high) == (-largest, largest)
    assert found.counts == (1, *(0,) * 7, 2, *(0,) * 6, 1)
