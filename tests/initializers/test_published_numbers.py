"""Gains, bounds and deviations are the published ones."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from reinit_cli.initializers import Law, UndefinedError, fans, parse_init
from reinit_cli.initializers.gains import NONLINEARITIES, calculate_gain
from tests.draws import draw

GAINS = {
    **dict.fromkeys(("linear", "sigmoid", "conv1d", "conv2d", "conv3d"), 1.0),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), 1.0),
    "tanh": 5 / 3,
    "relu": 1.4142135623730951,
    "leaky_relu": 1.4141428569978354,
    "selu": 0.75,
}

# Of four million normals, so to one part in a thousand.
SECOND_MOMENT_GAINS = {
    "gelu": 1.532,
    "silu": 1.675,
    "mish": 1.486,
    "elu": 1.2446,
    "softplus": 1.041,
    "hardswish": 1.735,
    "hardtanh": 1.392,
    "softsign": 2.337,
    "relu6": 1.4142,
}

# key's shape: fan_in, fan_out, xavier_uniform:relu bound and std, kaiming_normal:relu std by
# fan_in and fan_out, the bound of torch's default for layers, kaiming_uniform(a=√5)
ALEXNET = {
    (64, 3, 11, 11): (363, 7744, 0.0384734, 0.0222126, 0.0742270, 0.0160706, 0.0524864),
    (192, 64, 5, 5): (1600, 4800, 0.0433013, 0.0250000, 0.0353553, 0.0204124, 0.0250000),
    (384, 192, 3, 3): (1728, 3456, 0.0481125, 0.0277778, 0.0340207, 0.0240563, 0.0240563),
    (256, 384, 3, 3): (3456, 2304, 0.0456435, 0.0263523, 0.0240563, 0.0294628, 0.0170103),
    (256, 256, 3, 3): (2304, 2304, 0.0510310, 0.0294628, 0.0294628, 0.0294628, 0.0208333),
    (4096, 9216): (9216, 4096, 0.0300240, 0.0173344, 0.0147314, 0.0220971, 0.0104167),
    (4096, 4096): (4096, 4096, 0.0382733, 0.0220971, 0.0220971, 0.0220971, 0.0156250),
    (1000, 4096): (4096, 1000, 0.0485262, 0.0280166, 0.0220971, 0.0447214, 0.0156250),
}


def _law(text: str, shape: tuple[int, ...]) -> Law:
    law = parse_init(text).law(shape)
    assert law is not None
    return law


def test_every_nonlinearity_has_its_published_gain() -> None:
    found = {name: calculate_gain(name) for name in NONLINEARITIES}

    assert {name: found[name] for name in GAINS} == GAINS
    assert found == pytest.approx(GAINS | SECOND_MOMENT_GAINS, rel=2e-3)


@pytest.mark.parametrize(("slope", "gain"), [(0.2, 1.3867504905630728), (10, 0.14071950894605836)])
def test_the_slope_of_a_leaky_relu_counts(slope: float, gain: float) -> None:
    assert calculate_gain("leaky_relu", slope) == gain


@pytest.mark.parametrize(("shape", "row"), ALEXNET.items(), ids=str)
def test_alexnet_has_the_published_bounds(shape: tuple[int, ...], row: tuple[float, ...]) -> None:
    xavier = _law("xavier_uniform:relu", shape)
    both = fans(shape)

    assert (
        both.fan_in,
        both.fan_out,
        xavier.high,
        xavier.std,
        _law("kaiming_normal:relu", shape).std,
        _law("kaiming_normal:relu,fan_out", shape).std,
        _law(f"kaiming_uniform:a={5**0.5}", shape).high,
    ) == pytest.approx(row, abs=5e-8)


def test_the_case_of_the_notebook_reaches_its_bound() -> None:
    drawn = draw(_law("xavier_uniform:relu", (64, 3, 11, 11)), (64, 3, 11, 11), "float32", 0, "cpu")

    largest = drawn.abs().max().item()
    assert 0.0384734 * (1 - 20 / drawn.numel()) < largest <= 0.0384734 + 5e-8


def test_fans_ignore_groups_and_transposition() -> None:
    weight = torch.nn.ConvTranspose2d(8, 16, 3, groups=2).weight

    assert fans(tuple(weight.shape)) == fans((8, 8, 3, 3))
    assert fans((8, 8, 3, 3)).fan_in == 72


@pytest.mark.parametrize(
    ("bounds", "std"),
    [("-2,2", 0.87962566103423978), ("-3,3", 0.9865783925581086), ("-1e9,1e9", 1.0)],
)
def test_a_truncated_normal_has_the_published_deviation(bounds: str, std: float) -> None:
    law = _law(f"trunc_normal:0,1,{bounds}", (10,))

    assert (law.mean, law.std) == (pytest.approx(0), pytest.approx(std, rel=1e-12))


@pytest.mark.parametrize(("a", "b"), [(-0.5, 2.0), (0.5, 3.0), (3.0, 5.0), (-40.0, -38.0), (-9, 0)])
def test_a_lopsided_truncated_normal_has_scipy_s_moments(a: float, b: float) -> None:
    law = _law(f"trunc_normal:0,1,{a},{b}", (10,))
    expected = stats.truncnorm(a, b)

    assert law.mean == pytest.approx(expected.mean(), rel=1e-6)
    assert law.std == pytest.approx(expected.std(), rel=2e-2)
    assert law.low <= law.mean <= law.high


def _cut_at_two(std: float) -> stats.rv_continuous:
    return stats.truncnorm(-2, 2, 0, std / 0.87962566103423978)


DISTRIBUTIONS = {
    "uniform:-0.1,0.3": stats.uniform(-0.1, 0.4),
    "normal:mean=1,std=0.02": stats.norm(1, 0.02),
    "trunc_normal": stats.truncnorm(-2, 2),
    "trunc_normal:1,2,0,0.5": stats.truncnorm(-0.5, -0.25, 1, 2),
    "xavier_uniform:tanh": stats.uniform(-0.25, 0.5),
    "xavier_normal": stats.norm(0, math.sqrt(2 / 400)),
    "kaiming_uniform:relu": stats.uniform(-math.sqrt(6 / 100), 2 * math.sqrt(6 / 100)),
    "kaiming_normal:relu,fan_out": stats.norm(0, math.sqrt(2 / 300)),
    "lecun_uniform": stats.uniform(-math.sqrt(3 / 100), 2 * math.sqrt(3 / 100)),
    "lecun_normal": _cut_at_two(math.sqrt(1 / 100)),
    "he_truncated": _cut_at_two(math.sqrt(2 / 100)),
    "glorot_truncated": _cut_at_two(math.sqrt(2 / 400)),
    "variance_scaling:1,fan_avg": _cut_at_two(math.sqrt(1 / 200)),
    "variance_scaling:1,fan_avg,normal": stats.norm(0, math.sqrt(1 / 200)),
    "variance_scaling:2,fan_geo_avg": _cut_at_two(math.sqrt(2 / math.sqrt(300 * 100))),
    "variance_scaling:exponent=2,normal": stats.norm(0, 1 / 100),
    "kaiming_normal:relu,fan_avg": stats.norm(0, math.sqrt(2 / 200)),
    "kaiming_uniform:relu,fan_geo_avg": stats.uniform(
        -math.sqrt(6 / math.sqrt(30000)), 2 * math.sqrt(6 / math.sqrt(30000))
    ),
}


@pytest.mark.parametrize("text", DISTRIBUTIONS)
def test_draws_pass_the_kolmogorov_smirnov_criterion_of_torch(text: str) -> None:
    expected = DISTRIBUTIONS[text]
    if text == "xavier_uniform:tanh":
        bound = 5 / 3 * math.sqrt(6 / 400)
        expected = stats.uniform(-bound, 2 * bound)

    drawn = draw(_law(text, (300, 100)), (300, 100), "float64", 17, "cpu").flatten().numpy()

    assert stats.kstest(drawn, expected.cdf).pvalue > 1e-4


# μP, Yang et al. 2022, table 3: hidden weights have a variance of 1 / fan_in, those of the output
# layer one of 1 / fan_in²; and what the authors' package makes of a std at a base width.
WIDTHS = {
    ("variance_scaling:normal", (1024, 1024)): 1 / 32,
    ("variance_scaling:exponent=2,normal", (50257, 1024)): 1 / 1024,
    ("variance_scaling:4e-4,base=256,normal", (1024, 256)): 0.02,
    ("variance_scaling:4e-4,base=256,normal", (4096, 1024)): 0.01,
    ("variance_scaling:4e-4,base=256,exponent=2,normal", (50257, 1024)): 0.005,
    ("variance_scaling:4e-4,base=256,exponent=0.5,normal", (4096, 4096)): 0.01,
    ("variance_scaling:2,exponent=0,normal", (4096, 1024)): math.sqrt(2),
    ("variance_scaling:fan_geo_avg", (400, 100)): math.sqrt(1 / 200),
}


@pytest.mark.parametrize(("case", "std"), WIDTHS.items(), ids=str)
def test_the_variance_follows_a_power_of_the_width(
    case: tuple[str, tuple[int, ...]], std: float
) -> None:
    assert _law(*case).std == pytest.approx(std, rel=1e-12)


def test_what_scaled_variance_before_it_took_a_width_is_written_as_before() -> None:
    """Records of the time before have these bytes."""
    written = str(parse_init("variance_scaling:2,fan_avg,uniform"))

    assert written == "variance_scaling:scale=2.0,mode=fan_avg,distribution=uniform"


@pytest.mark.parametrize("text", ["exponent=-200", "base=1e300,exponent=3", "1e300,exponent=-9"])
def test_a_variance_beyond_every_float_is_refused(text: str) -> None:
    with pytest.raises(UndefinedError, match="too large to compute with"):
        _law(f"variance_scaling:normal,{text}", (4096, 4096))


def test_a_variance_below_every_float_is_zero() -> None:
    assert _law("variance_scaling:normal,exponent=1e9", (4096, 4096)).std == 0


@pytest.mark.parametrize("gain", [1.0, 2.5])
@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (16, 4, 3, 3)], ids=str)
def test_an_orthogonal_tensor_is_orthogonal(shape: tuple[int, ...], gain: float) -> None:
    drawn = draw(_law(f"orthogonal:{gain}", shape), shape, "float64", 0, "cpu").flatten(1)

    rows, cols = drawn.shape
    product = drawn @ drawn.T if rows <= cols else drawn.T @ drawn
    assert torch.allclose(product, gain**2 * torch.eye(min(rows, cols), dtype=torch.float64))
    assert drawn.norm().item() == pytest.approx(gain * math.sqrt(min(rows, cols)))


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_dirac_convolution_is_the_identity(ndim: int, groups: int) -> None:
    shape = (6, 6 // groups, *(3,) * ndim)
    weight = draw(_law(f"dirac:groups={groups}", shape), shape, "float32", 0, "cpu")
    signal = torch.randn(2, 6, *(7,) * ndim, generator=torch.Generator().manual_seed(0))
    convolve = getattr(torch.nn.functional, f"conv{ndim}d")

    assert torch.equal(convolve(signal, weight, padding=1, groups=groups), signal)


def test_sparse_has_the_asked_zeros_in_every_column() -> None:
    drawn = draw(_law("sparse:0.25", (41, 9)), (41, 9), "float32", 0, "cpu")

    assert (drawn == 0).sum(0).tolist() == [math.ceil(0.25 * 41)] * 9


@pytest.mark.parametrize(
    "text", ["kaiming_normal:relu", "kaiming_uniform:relu", "he_truncated", "variance_scaling:2"]
)
def test_twenty_rectified_layers_keep_the_second_moment_under_kaiming(text: str) -> None:
    signal = torch.randn(512, 256, generator=torch.Generator().manual_seed(0))
    for layer in range(20):
        weight = draw(_law(text, (256, 256)), (256, 256), "float32", layer, "cpu")
        signal = (signal @ weight.T).relu()

    assert 1 / 2 < signal.square().mean().item() < 2
