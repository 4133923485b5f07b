"""What mmengine's tests ask of its `weight_init`, of rules on the same modules."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import nn

from reinit_cli import apply_


def convolution() -> nn.Conv2d:
    return nn.Conv2d(3, 16, 3)


def test_constants_fill_weight_and_bias() -> None:
    module = convolution()

    apply_(module, {"weight": "constant:0.1", "bias": "constant:0.2"})

    assert module.weight.equal(torch.full_like(module.weight, 0.1))
    assert module.bias is not None
    assert module.bias.equal(torch.full_like(module.bias, 0.2))


def test_xavier_takes_normal_or_uniform_and_a_gain() -> None:
    module = nn.Conv2d(30, 160, 3)
    std = 2 * math.sqrt(2 / (30 * 9 + 160 * 9))

    apply_(module, {"weight": "xavier_normal:2", "bias": "constant:0.1"})
    normal = module.weight.detach().flatten().numpy().copy()
    apply_(module, {"weight": "xavier_uniform:2"})
    uniform = module.weight.detach().flatten().numpy()

    assert stats.kstest(normal, stats.norm(0, std).cdf).pvalue > 1e-4
    bound = math.sqrt(3) * std
    assert stats.kstest(uniform, stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-4


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-3.5, 0.25), (2.0, 4.0)])
def test_normal_has_its_mean_and_deviation(mean: float, std: float) -> None:
    module = nn.Linear(100, 60)

    apply_(module, {"weight": f"normal:{mean},{std}"})

    drawn = module.weight.detach().flatten().numpy()
    assert stats.kstest(drawn, stats.norm(mean, std).cdf).pvalue > 1e-4


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"), [(0.0, 1.0, -2.0, 2.0), (-1.0, 2.0, -4.0, 0.5), (0.3, 0.1, 0.2, 0.9)]
)
def test_a_truncated_normal_has_the_law_between_its_bounds(
    mean: float, std: float, a: float, b: float
) -> None:
    module = nn.Conv2d(30, 20, 3)

    apply_(module, {"weight": f"trunc_normal:{mean},{std},{a},{b}"})

    drawn = module.weight.detach().flatten().double().numpy()
    law = stats.truncnorm((a - mean) / std, (b - mean) / std, mean, std)
    assert a <= drawn.min()
    assert drawn.max() <= b + 1e-7
    assert stats.kstest(drawn, law.cdf).pvalue > 1e-4


def test_uniform_has_its_bounds() -> None:
    module = nn.Conv2d(30, 20, 3)

    apply_(module, {"weight": "uniform:-3.0,0.5"})

    drawn = module.weight.detach().flatten().numpy()
    assert stats.kstest(drawn, stats.uniform(-3.0, 3.5).cdf).pvalue > 1e-4


def test_kaiming_has_fan_out_and_relu_by_name() -> None:
    module = nn.Conv2d(30, 20, 3)
    std = math.sqrt(2 / (20 * 9))

    apply_(module, {"weight": "kaiming_normal:relu,fan_out", "bias": "constant:0.1"})

    drawn = module.weight.detach().flatten().numpy()
    assert stats.kstest(drawn, stats.norm(0, std).cdf).pvalue > 1e-4


def test_caffe2_s_xavier_is_a_kaiming_uniform_of_slope_one() -> None:
    """mmengine's Caffe2XavierInit: a variance of 1 / fan_in, as Caffe2's XavierFill."""
    module = nn.Conv2d(30, 20, 3)
    bound = math.sqrt(3 / (30 * 9))

    apply_(module, {"weight": "kaiming_uniform:a=1,leaky_relu,fan_in"})

    drawn = module.weight.detach().flatten().numpy()
    assert stats.kstest(drawn, stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-4


def test_the_bias_of_a_prior_of_one_tenth_is_minus_the_logarithm_of_nine() -> None:
    module = nn.Linear(4, 3)

    apply_(module, {"bias": "prior_bias:p=0.1"})

    assert module.bias.tolist() == pytest.approx([-2.19722457734] * 3)


def test_layers_have_their_own_rules_and_a_name_overrides_them() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2), nn.Conv2d(4, 4, 1))

    apply_(
        model,
        {
            "{0,2}.weight": "constant:1",
            "{0,2}.bias": "constant:2",
            "1.*": "constant:3",
            "2.weight": "constant:4",
        },
    )

    found = {key: value.unique().tolist() for key, value in model.state_dict().items()}
    assert found == {
        "0.weight": [1], "0.bias": [2], "1.weight": [3], "1.bias": [3], "2.weight": [4],
        "2.bias": [2],
    }  # fmt: skip


def test_what_no_rule_names_stays() -> None:
    model = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 4))
    before = model[1].weight.detach().clone()

    apply_(model, {"0.*": "constant:1"})

    assert model[1].weight.equal(before)
