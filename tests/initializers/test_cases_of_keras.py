"""What the tests of Keras and tf.keras ask of `keras.initializers`, of rules.

Their kernels are (*kernel, in, out); theirs of a shape of (5, 6, 4, 2) has fans of 120 and 60.
Each case is a mean, a deviation and bounds, as those tests state them.
"""

from __future__ import annotations

import math

import pytest
import torch

from reinit_cli import ReinitError
from tests.initializers.made import made

SHAPE = (5, 6, 40, 20)
FAN_IN, FAN_OUT = 5 * 6 * 40, 5 * 6 * 20
AXES = "axes=kkio"
CUT = 0.87962566103423978

CASES: dict[str, tuple[float, float | None, float | None, float | None]] = {
    # init: mean, std, least, largest
    "uniform:-1,1": (0.0, 2 / math.sqrt(12), -1, 1),
    "normal:mean=0,std=1": (0.0, 1.0, None, None),
    "trunc_normal:mean=0,std=1": (0.0, CUT, -2, 2),
    "constant:2": (2.0, 0.0, 2, 2),
    "zeros": (0.0, 0.0, 0, 0),
    "ones": (1.0, 0.0, 1, 1),
    f"lecun_uniform:{AXES}": (0.0, math.sqrt(1 / FAN_IN), None, None),
    f"lecun_normal:{AXES}": (0.0, math.sqrt(1 / FAN_IN), None, None),
    f"xavier_uniform:{AXES}": (0.0, math.sqrt(2 / (FAN_IN + FAN_OUT)), None, None),
    f"glorot_truncated:{AXES}": (0.0, math.sqrt(2 / (FAN_IN + FAN_OUT)), None, None),
    f"kaiming_uniform:relu,{AXES}": (0.0, math.sqrt(2 / FAN_IN), None, None),
    f"he_truncated:{AXES}": (0.0, math.sqrt(2 / FAN_IN), None, None),
    f"variance_scaling:0.1,fan_in,normal,{AXES}": (0.0, math.sqrt(0.1 / FAN_IN), None, None),
    f"variance_scaling:2,fan_avg,uniform,{AXES}": (
        0.0,
        math.sqrt(4 / (FAN_IN + FAN_OUT)),
        -math.sqrt(12 / (FAN_IN + FAN_OUT)),
        math.sqrt(12 / (FAN_IN + FAN_OUT)),
    ),
}


@pytest.mark.parametrize("init", CASES)
def test_mean_deviation_and_bounds_are_those_of_keras(init: str) -> None:
    mean, std, least, largest = CASES[init]
    weight = made(init, SHAPE, 1, torch.float64)

    n = weight.numel()
    assert weight.mean().item() == pytest.approx(mean, abs=5 * (std or 0) / math.sqrt(n) + 1e-12)
    assert weight.std().item() == pytest.approx(std, rel=0.02)
    if least is not None and largest is not None:
        reach = (largest - least) * 0.001
        assert least <= weight.min().item() <= least + reach
        assert largest - reach <= weight.max().item() <= largest


@pytest.mark.parametrize("shape", [(10, 10), (20, 10), (10, 20)])
def test_orthogonal_rows_have_the_norm_of_the_gain(shape: tuple[int, int]) -> None:
    weight = made("orthogonal:gain=2", shape, 1337, torch.float64)

    gram = weight @ weight.T if shape[0] <= shape[1] else weight.T @ weight
    torch.testing.assert_close(gram, 4.0 * torch.eye(min(shape), dtype=torch.float64))


def test_identity_has_the_gain_on_its_diagonal() -> None:
    assert made("identity:2", (3, 3)).equal(2 * torch.eye(3))


@pytest.mark.parametrize(
    "init",
    [
        "variance_scaling:-1",
        "variance_scaling:mode=invalid_mode",
        "variance_scaling:distribution=invalid_dist",
        "normal:std=-1",
        "orthogonal:gain=two",
    ],
)
def test_what_keras_refuses_is_refused(init: str) -> None:
    with pytest.raises(ReinitError):
        made(init, (25, 20))


@pytest.mark.parametrize(
    ("name", "ours"), [("GlorotUniform", "glorot_uniform"), ("zeros", "zeros")]
)
def test_a_name_as_keras_has_it_is_understood(name: str, ours: str) -> None:
    assert made(name, (4, 3)).equal(made(ours, (4, 3)))


@pytest.mark.parametrize("init", ["normal", "uniform", "trunc_normal", "variance_scaling"])
def test_a_seed_gives_the_same_values_again(init: str) -> None:
    first, again, other = (made(init, (10, 10), seed) for seed in (1337, 1337, 1338))

    assert first.equal(again)
    assert not first.equal(other)
