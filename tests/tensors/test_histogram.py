"""Elements are counted in the bins that numpy.histogram finds, however large or small they are."""

from __future__ import annotations

import numpy as np
import pytest

from reinit_cli.tensors.histogram import Counter


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1.0, 1e30, 1e37, 1e38])
@pytest.mark.parametrize(("low", "high"), [(-3.0, 3.0), (0.0, 1.0), (-1.0, 3.0)])
def test_hostile_values_are_in_their_bins(
    low: float, high: float, scale: float, dtype: str
) -> None:
    spread = np.linspace(-3.3, 3.3, 997) * scale
    values = spread.astype(dtype)

    counter = Counter(low * scale, high * scale, 64)
    counter.add(values)

    counts = counter.histogram().counts
    expected, _ = np.histogram(values.astype(np.float64), 64, (low * scale, high * scale))
    assert np.abs(counts - expected).sum() <= 2  # of values on an edge, by rounding


def test_a_number_too_far_away_for_a_difference_is_outside_of_all_bins() -> None:
    counter = Counter(-1e299, 1e299, 4)
    counter.add(np.array([-1.7e308, 0.0, 1.7e308]))

    assert counter.histogram().counts == (0, 0, 1, 0)


def test_a_quotient_that_overflows_is_outside_of_all_bins() -> None:
    counter = Counter(1e-20, 2e-20, 4)
    counter.add(np.array([-3e38, 1.1e-20, 3e38], np.float32))

    assert counter.histogram().counts == (1, 0, 0, 0)
