"""Gains are accepted by name or number, and scale the laws."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy import integrate
from torch import nn

from reinit_cli import Rule
from reinit_cli.errors import ArgumentError
from reinit_cli.initializers import parse_init
from reinit_cli.initializers.gains import NONLINEARITIES, calculate_gain

SECOND_MOMENT = (
    *("gelu", "silu", "mish", "elu", "softplus", "hardswish", "hardtanh", "softsign", "relu6"),
)


@pytest.mark.parametrize(
    "nonlinearity", [each for each in NONLINEARITIES if each not in SECOND_MOMENT]
)
def test_a_gain_is_torch_s(nonlinearity: str) -> None:
    assert calculate_gain(nonlinearity) == nn.init.calculate_gain(nonlinearity)  # type: ignore[arg-type]


@pytest.mark.parametrize("nonlinearity", SECOND_MOMENT)
def test_a_gain_beyond_torch_s_keeps_the_second_moment_of_a_normal(nonlinearity: str) -> None:
    activate = getattr(nn.functional, nonlinearity)

    def integrand(z: float) -> float:
        value = activate(torch.tensor(z, dtype=torch.float64)).item()
        return value**2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    edges = (-12, -6, -3, -1, 0, 1, 3, 6, 12)  # kinks lie on edges
    parts = [
        integrate.quad(integrand, low, high, epsabs=1e-13, epsrel=1e-12)[0]
        for low, high in itertools.pairwise(edges)
    ]

    assert calculate_gain(nonlinearity) == pytest.approx(1 / math.sqrt(sum(parts)), abs=1e-9)
    with pytest.raises(ValueError, match="Unsupported nonlinearity"):
        nn.init.calculate_gain(nonlinearity)  # type: ignore[arg-type]


@pytest.mark.parametrize("slope", [0.0, 1.0, -1.0, 0.01, 0.2, 10.0, 1e-300, math.sqrt(5)])
def test_the_gain_of_a_leaky_relu_is_torch_s(slope: float) -> None:
    assert calculate_gain("leaky_relu", slope) == nn.init.calculate_gain("leaky_relu", slope)


@pytest.mark.parametrize(
    ("text", "gain"),
    [
        ("xavier_uniform", 1.0),
        ("xavier_uniform:relu", 1.4142135623730951),
        ("xavier_normal:tanh", 5 / 3),
        ("xavier_normal:leaky_relu", 1.4141428569978354),
        ("xavier_normal:leaky_relu,a=0.2", 1.3867504905630728),
        ("xavier_uniform:0.5", 0.5),
        ("orthogonal:selu", 0.75),
        ("orthogonal:-2", -2.0),
        ("kaiming_normal", math.sqrt(2)),
        ("kaiming_normal:leaky_relu", 1.4141428569978354),
        ("kaiming_uniform:10", 0.14071950894605836),
        ("kaiming_uniform:fan_out,sigmoid", 1.0),
        ("kaiming_uniform:nonlinearity=1.7", 1.7),
        ("kaiming_uniform:gelu", 1.5335304411955353),
        ("normal:std=1", None),
        ("zeros", None),
    ],
)
def test_an_initializer_says_its_gain(text: str, gain: float | None) -> None:
    assert parse_init(text).gain == gain


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_the_gain_scales_the_law(nonlinearity: str) -> None:
    plain = parse_init("xavier_normal").law((8, 4, 3))
    scaled = parse_init(f"xavier_normal:{nonlinearity}").law((8, 4, 3))

    assert plain is not None
    assert scaled is not None
    assert scaled.std == pytest.approx(calculate_gain(nonlinearity) * plain.std, rel=1e-12)


@pytest.mark.parametrize(
    ("init", "arguments"),
    [
        ("xavier_uniform", {"gain": True}),
        ("xavier_uniform", {"gain": [1.0]}),
        ("xavier_uniform", {"gain": "swiglu"}),
        ("xavier_uniform", {"gain": -1.0}),
        ("xavier_uniform", {"gain": math.nan}),
        ("orthogonal", {"gain": math.inf}),
        ("kaiming_normal", {"a": True}),
        ("kaiming_normal", {"a": [0.1]}),
        ("kaiming_normal", {"nonlinearity": "swiglu"}),
        ("kaiming_normal", {"nonlinearity": ["relu"]}),
        ("kaiming_normal", {"nonlinearity": -1.7}),
        ("kaiming_normal", {"nonlinearity": 1.7, "a": 0.1}),
        ("kaiming_normal", {"nonlinearity": "relu", "a": 0.1}),
        ("xavier_uniform", {"gain": "relu", "a": 0.1}),
    ],
    ids=lambda part: (
        ",".join(f"{k}={v}" for k, v in part.items()) if isinstance(part, dict) else part
    ),
)
def test_an_invalid_gain_is_a_value_error(init: str, arguments: dict[str, object]) -> None:
    with pytest.raises(ArgumentError) as caught:
        Rule.of("w", init, **arguments)

    assert isinstance(caught.value, ValueError)
