"""What torch's own tests ask of `torch.nn.init`, of rules: adapted from the cases of test_init.py.

They check the law of a draw by Kolmogorov and Smirnov's test with p > 0.0001, over random shapes;
here shapes and parameters are fixed.
"""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from reinit_cli import ReinitError
from reinit_cli.initializers.gains import calculate_gain
from tests.initializers.made import made

STREAMS = pytest.mark.parametrize("stream", ["philox-1", "torch-1"])
SHAPES = pytest.mark.parametrize("shape", [(41, 37), (37, 11, 4), (13, 7, 5, 3), (9, 4, 3, 5, 3)])


def follows(tensor: torch.Tensor, law: stats.rv_continuous) -> bool:
    return stats.kstest(tensor.flatten().double().numpy(), law.cdf).pvalue > 1e-4


# --- gains ---------------------------------------------------------------------------------------


def test_linear_functions_have_the_gain_of_one_and_tanh_and_relu_have_theirs() -> None:
    linear = ["linear", "conv1d", "conv2d", "conv3d", "sigmoid"]
    linear += [f"conv_transpose{n}d" for n in (1, 2, 3)]

    assert {calculate_gain(name) for name in linear} == {1.0}
    assert calculate_gain("tanh") == 5 / 3
    assert calculate_gain("relu") == math.sqrt(2)


@pytest.mark.parametrize("slope", [None, 0, 0.01, 10])
def test_leaky_relu_has_the_gain_of_its_slope(slope: float | None) -> None:
    expected = math.sqrt(2 / (1 + (0.01 if slope is None else slope) ** 2))

    assert calculate_gain("leaky_relu", slope) == expected


# --- plain laws ----------------------------------------------------------------------------------


@STREAMS
@pytest.mark.parametrize("shape", [(6000,), (90, 70), (13, 7, 5, 13)])
@pytest.mark.parametrize(
    ("init", "law"),
    [
        ("uniform:-2.5,1.75", stats.uniform(-2.5, 4.25)),
        ("normal:-1.5,2.25", stats.norm(-1.5, 2.25)),
        ("trunc_normal:mean=-1,std=3,a=-6,b=2", stats.truncnorm(-5 / 3, 1, -1, 3)),
        ("trunc_normal:mean=0.5,std=0.02,a=0.45,b=0.56", stats.truncnorm(-2.5, 3, 0.5, 0.02)),
    ],
)
def test_draws_follow_their_law(
    init: str, law: stats.rv_continuous, shape: tuple[int, ...], stream: str
) -> None:
    assert follows(made(init, shape, 3, torch.float64, stream), law)


@pytest.mark.parametrize(("init", "value"), [("zeros", 0), ("ones", 1), ("constant:-3.5", -3.5)])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 3, 4, 5)])
def test_constants_are_everywhere(init: str, value: float, shape: tuple[int, ...]) -> None:
    assert made(init, shape).equal(torch.full(shape, float(value)))


# --- identities ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (4, 7), (7, 4)])
def test_eye_has_ones_on_the_diagonal_and_nothing_else(shape: tuple[int, int]) -> None:
    assert made("eye", shape).equal(torch.eye(*shape))


@pytest.mark.parametrize("ndim", [3, 4, 5])
@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize(("out", "inputs"), [(5, 3), (2, 4), (3, 3)])
def test_dirac_has_one_one_for_each_channel_that_passes(
    ndim: int, groups: int, out: int, inputs: int
) -> None:
    weight = made(f"dirac:groups={groups}", (out * groups, inputs, *(3, 5, 4)[: ndim - 2]))

    assert weight.unique().tolist() == [0, 1]
    assert int(weight.sum()) == min(out, inputs) * groups
    assert int(weight.count_nonzero()) == min(out, inputs) * groups


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_dirac_is_the_identity_of_the_channels_that_both_sides_have(ndim: int, groups: int) -> None:
    inputs, out, size = 3, 4, 8
    weight = made(f"dirac:groups={groups}", (out * groups, inputs, *(3,) * ndim))
    signal = torch.randn(
        1, inputs * groups, *(size,) * ndim, generator=torch.Generator().manual_seed(1)
    )

    convolved = getattr(torch.nn.functional, f"conv{ndim}d")(signal, weight, groups=groups)

    inside = (slice(None), slice(None), *(slice(1, -1),) * ndim)
    for group in range(groups):
        passed = convolved[:, out * group : out * group + inputs]
        assert passed.equal(signal[inside][:, inputs * group : inputs * (group + 1)])
        assert not convolved[:, out * group + inputs : out * (group + 1)].any()


# --- laws that follow from fans ------------------------------------------------------------------


@STREAMS
@SHAPES
@pytest.mark.parametrize("gain", [1.0, 1.875])
def test_xavier_has_the_deviation_of_both_fans(
    shape: tuple[int, ...], gain: float, stream: str
) -> None:
    field = math.prod(shape[2:])
    std = gain * math.sqrt(2 / ((shape[0] + shape[1]) * field))
    bound = math.sqrt(3) * std

    uniform = made(f"xavier_uniform:{gain}", shape, 1, torch.float64, stream)
    normal = made(f"xavier_normal:{gain}", shape, 2, torch.float64, stream)

    assert follows(uniform, stats.uniform(-bound, 2 * bound))
    assert follows(normal, stats.norm(0, std))


@STREAMS
@SHAPES
@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize("slope", [0.0, 0.375])
def test_kaiming_has_the_deviation_of_one_fan_and_the_slope(
    shape: tuple[int, ...], mode: str, slope: float, stream: str
) -> None:
    fan = (shape[1] if mode == "fan_in" else shape[0]) * math.prod(shape[2:])
    std = math.sqrt(2 / ((1 + slope**2) * fan))
    bound = math.sqrt(3) * std

    uniform = made(f"kaiming_uniform:a={slope},mode={mode}", shape, 1, torch.float64, stream)
    normal = made(f"kaiming_normal:a={slope},mode={mode}", shape, 2, torch.float64, stream)

    assert follows(uniform, stats.uniform(-bound, 2 * bound))
    assert follows(normal, stats.norm(0, std))


# --- matrices ------------------------------------------------------------------------------------


@STREAMS
@pytest.mark.parametrize("sparsity", [0.1, 0.55, 0.9])
def test_every_column_of_sparse_has_its_zeros_and_the_rest_is_normal(
    sparsity: float, stream: str
) -> None:
    rows, columns = 53, 47
    weight = made(f"sparse:{sparsity},std=0.01", (rows, columns), 4, torch.float64, stream)

    zeros = math.ceil(sparsity * rows)
    assert (weight == 0).sum(dim=0).tolist() == [zeros] * columns
    assert follows(weight[weight != 0], stats.norm(0, 0.01))


@STREAMS
@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (20, 2, 3, 4), (2, 3, 4, 5)])
@pytest.mark.parametrize("gain", [1.0, 3.25])
def test_orthogonal_keeps_norms(shape: tuple[int, ...], gain: float, stream: str) -> None:
    weight = made(f"orthogonal:{gain}", shape, 5, torch.float64, stream).flatten(1)

    short = weight if weight.shape[0] <= weight.shape[1] else weight.T
    torch.testing.assert_close(
        short @ short.T, gain**2 * torch.eye(len(short), dtype=torch.float64)
    )


# --- what is refused -----------------------------------------------------------------------------

UNDEFINED = {
    "xavier_uniform": [(), (3,)],
    "xavier_normal": [(), (3,)],
    "kaiming_uniform": [(), (3,)],
    "kaiming_normal": [(), (3,)],
    "orthogonal": [(), (3,)],
    "eye": [(3,), (3, 3, 3)],
    "sparse:0.5": [(3,), (3, 3, 3)],
    "dirac": [(3,), (3, 3), (2, 2, 2, 2, 2, 2)],
    "dirac:2": [(3, 2, 3)],
}


@pytest.mark.parametrize(
    ("init", "shape"), [(init, shape) for init, shapes in UNDEFINED.items() for shape in shapes]
)
def test_a_shape_that_torch_refuses_is_refused(init: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ReinitError):
        made(init, shape)


@pytest.mark.parametrize("init", ["kaiming_uniform", "kaiming_normal", "xavier_uniform"])
def test_a_tensor_without_elements_stays_one(init: str) -> None:
    assert made(init, (0, 1)).shape == (0, 1)
