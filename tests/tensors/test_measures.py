"""What is measured block by block is what numpy measures of the whole, in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reinit_cli.tensors.distance import Tolerance, distance_of
from reinit_cli.tensors.elements import Elements
from reinit_cli.tensors.histogram import histogram_of
from reinit_cli.tensors.moments import magnitudes, moments_of, real_numbers, statistics_of
from reinit_cli.tensors.rounding import elements_of_tensor

BLOCKS = [1, 7, 1000]


def _some(seed: int, numel: int = 1000) -> torch.Tensor:
    return torch.randn(numel, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", BLOCKS)
def test_statistics_do_not_depend_on_the_blocks(size: int) -> None:
    values = _some(1)
    values[[3, 500]] = torch.tensor([math.nan, -math.inf], dtype=torch.float64)
    values[7] = 0

    found = statistics_of(map(elements_of_tensor, torch.split(values, size)))

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

    found = histogram_of(map(elements_of_tensor, torch.split(values, size)), low, high, 10)

    counts, _ = np.histogram((values / scale).numpy(), 10, (low / scale, high / scale))
    assert sum(found.counts) == 1000
    assert np.abs(np.array(found.counts) - counts).max() <= 1  # an edge may round either way


def test_bins_count_neither_nan_nor_infinities() -> None:
    values = torch.tensor([0.0, math.nan, 1.0, math.inf, -math.inf])

    assert histogram_of([elements_of_tensor(values)], 0.0, 1.0, 2).counts == (1, 1)
    one = elements_of_tensor(torch.tensor([3.0, math.nan, 3.0]))
    assert histogram_of([one], 3.0, 3.0, 4).counts == (2, 0, 0, 0)


@pytest.mark.parametrize("size", BLOCKS)
def test_distances_are_those_of_numpy(size: int) -> None:
    a, b = _some(3), _some(4)
    b[:600] = a[:600]
    tolerance = Tolerance(rtol=0.1, atol=0.01)

    found = distance_of(zip(torch.split(a, size), torch.split(b, size), strict=True), tolerance)

    x, y = a.numpy(), b.numpy()
    assert found.numel == 1000
    assert found.changed == (~np.isclose(x, y, rtol=0.1, atol=0.01)).sum()
    assert found.max_abs == np.abs(y - x).max()
    assert found.relative_l2 == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x))
    assert found.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def test_complex_numbers_are_measured_by_magnitude_and_drawn_ones_by_a_part() -> None:
    tensor = torch.complex(torch.tensor([3.0, 0.0]), torch.tensor([4.0, 1.0]))
    values = elements_of_tensor(tensor)

    assert magnitudes(values).tolist() == [5.0, 1.0]
    assert real_numbers(values).tolist() == [3.0, 0.0]
    assert moments_of(values).mean == 1.5


def test_what_torch_does_not_compute_with_is_widened() -> None:
    tensor = torch.tensor([[0.5, -2.0], [1.0, 0.0]]).to(torch.float8_e4m3fn)
    eight = elements_of_tensor(tensor)

    assert real_numbers(eight).tolist() == [0.5, -2.0, 1.0, 0.0]
    assert real_numbers(eight).dtype == np.float32
    assert real_numbers(Elements(np.ones(2), "float64")).dtype == np.float64
