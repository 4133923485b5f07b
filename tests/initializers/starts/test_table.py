"""Every kind of layer starts as torch's own `reset_parameters` starts it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn.utils import parametrizations, prune

from reinit_cli.checkpoints.models.constructor import laws_of_layers
from reinit_cli.initializers import UndefinedError
from reinit_cli.initializers.law import Constant, Normal, Uniform
from reinit_cli.initializers.starts.table import start_of
from reinit_cli.streams.torch.stream import TorchStream
from reinit_cli.tensors.layers.layer import Layer
from tests.initializers.starts.modules import layers_of_module, reset

LAYERS = {
    "Linear": nn.Linear(7, 5),
    "Bilinear": nn.Bilinear(3, 4, 5),
    "Conv1d": nn.Conv1d(4, 6, 3),
    "grouped Conv2d": nn.Conv2d(8, 12, 3, groups=4),
    "Conv3d": nn.Conv3d(2, 3, (1, 2, 3)),
    "ConvTranspose1d": nn.ConvTranspose1d(4, 6, 3),
    "grouped ConvTranspose2d": nn.ConvTranspose2d(8, 16, 3, groups=2),
    "ConvTranspose3d": nn.ConvTranspose3d(2, 3, 2),
    "Embedding": nn.Embedding(9, 4),
    "Embedding with padding": nn.Embedding(9, 4, padding_idx=-2),
    "EmbeddingBag": nn.EmbeddingBag(9, 4, padding_idx=3),
    "LayerNorm": nn.LayerNorm((3, 4)),
    "RMSNorm": nn.RMSNorm(4),
    "GroupNorm": nn.GroupNorm(2, 4),
    "BatchNorm1d": nn.BatchNorm1d(4),
    "BatchNorm2d": nn.BatchNorm2d(4, affine=False),
    "BatchNorm3d": nn.BatchNorm3d(4, track_running_stats=False),
    "SyncBatchNorm": nn.SyncBatchNorm(4),
    "InstanceNorm1d": nn.InstanceNorm1d(4, affine=True),
    "InstanceNorm2d": nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    "InstanceNorm3d": nn.InstanceNorm3d(4, affine=True),
    "LSTM": nn.LSTM(5, 6, num_layers=2, bidirectional=True),
    "LSTM with projections": nn.LSTM(5, 6, proj_size=2),
    "GRU": nn.GRU(5, 6, bias=False),
    "RNN": nn.RNN(5, 6, num_layers=2),
    "LSTMCell": nn.LSTMCell(5, 6),
    "GRUCell": nn.GRUCell(5, 6, bias=False),
    "RNNCell": nn.RNNCell(5, 6),
    "MultiheadAttention": nn.MultiheadAttention(8, 2, add_bias_kv=True),
    "MultiheadAttention of three sizes": nn.MultiheadAttention(8, 2, kdim=6, vdim=10),
    "PReLU": nn.PReLU(3),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_starts_by_the_law_of_its_own_reset_parameters(name: str) -> None:
    module = LAYERS[name]
    recorded = laws_of_layers(module)
    found = dict(layers_of_module(module))

    assert found.keys() == recorded.keys()
    for key, layer in found.items():
        assert start_of(layer, recorded[key].shape) == recorded[key].law, key


@pytest.mark.parametrize("name", LAYERS)
def test_what_a_layer_of_torch_draws_follows_its_start(name: str) -> None:
    """Bounds and constants hold for every value, and KS over seeds for the values together."""
    module = LAYERS[name]
    found = dict(layers_of_module(module))
    laws = {key: start_of(layer, layer.shapes[layer.role]) for key, layer in found.items()}
    pooled: list[float] = []

    for seed in range(20):
        state = reset(module, seed)
        for key, law in laws.items():
            values = state[key].flatten()
            assert law.low <= values.min() <= values.max() <= law.high, key
            drawn = getattr(law, "whole", law)  # of an embedding all rows but that of the padding
            if drawn.is_random:
                pooled += [drawn.cdf(value) for value in values[values != 0][:40].tolist()]

    assert not pooled or stats.kstest(pooled, "uniform").pvalue > 1e-4


def _layer(kind: str, role: str, **shapes: tuple[int, ...]) -> Layer:
    return Layer(kind, "body", role, shapes)


PUBLISHED = {
    "AlexNet, classifier.6.bias": (
        _layer("Linear", "bias", weight=(1000, 4096), bias=(1000,)),
        Uniform(-1 / 64, 1 / 64),
    ),
    "AlexNet, features.0.bias: 1/√363": (
        _layer("Conv2d", "bias", weight=(64, 3, 11, 11), bias=(64,)),
        Uniform(-0.0524863881081478, 0.0524863881081478),
    ),
    "GPT-2, c_attn.weight": (
        _layer("Conv1D", "weight", weight=(768, 2304), bias=(2304,)),
        Normal(0.0, 0.02),
    ),
    "GPT-2, c_attn.bias": (
        _layer("Conv1D", "bias", weight=(768, 2304), bias=(2304,)),
        Constant(0.0),
    ),
    "an LSTM of 128, bias_ih_l0": (
        _layer("LSTM", "bias_ih_l0", weight_hh_l0=(512, 128), bias_ih_l0=(512,)),
        Uniform(-0.08838834764831845, 0.08838834764831845),
    ),
    "a fused matrix of attention as one: √(6 / (3E + E))": (
        _layer("MultiheadAttention", "in_proj_weight", in_proj_weight=(2304, 768)),
        Uniform(-0.04419417382415922, 0.04419417382415922),
    ),
    "a norm of Gemma": (
        Layer("RMSNorm", "norm", "weight", {"weight": (8,)}, {"zero_centered": 1}),
        Constant(0.0),
    ),
    "the scale of a norm of TensorFlow": (_layer("LayerNorm", "gamma", gamma=(8,)), Constant(1.0)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_start_has_the_published_numbers(name: str) -> None:
    layer, expected = PUBLISHED[name]

    law = start_of(layer, layer.shapes.get(layer.role, ()))

    assert type(law) is type(expected)
    assert (law.low, law.high, law.std) == pytest.approx(
        (expected.low, expected.high, expected.std), rel=1e-14
    )


_PARAMETRIZED: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "weight_v": nn.utils.weight_norm,
    "parametrizations.weight.original1": parametrizations.weight_norm,
    "weight_orig": lambda layer: prune.random_unstructured(layer, "weight", 0.5),
    "parametrizations.weight.original": parametrizations.spectral_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("role", _PARAMETRIZED)
def test_a_bias_starts_by_its_weight_under_every_name_that_torch_gives_it(role: str) -> None:
    module = _PARAMETRIZED[role](nn.Linear(7, 5))
    shapes = {key: tuple(each.shape) for key, each in module.state_dict().items()}
    assert shapes[role] == (5, 7)

    weight = start_of(Layer("Linear", "", role, shapes), shapes[role])
    bias = start_of(Layer("Linear", "", "bias", shapes), shapes["bias"])

    assert weight.high == pytest.approx(1 / math.sqrt(7), rel=1e-15)
    assert bias == Uniform(-1 / math.sqrt(7), 1 / math.sqrt(7))


REFUSED = {
    "an unknown kind": (
        _layer("Capsule", "weight", weight=(3, 4)),
        "how a layer of the kind Capsule starts is not known",
    ),
    "an unknown tensor": (
        _layer("Linear", "scale", scale=(3,)),
        "a Linear has no tensor that is called scale",
    ),
    "a bias without its weight": (
        _layer("Linear", "bias", bias=(3,)),
        "its start depends on the weight next to it, which is not known",
    ),
    "a bias of another weight": (
        _layer("Linear", "bias", weight=(4, 3), bias=(3,)),
        "it is not the bias of the weight next to it, 4x3",
    ),
    "the weight of a Linear in one dimension": (
        _layer("Linear", "weight", weight=(3,)),
        "1-D (fans need at least 2 dimensions)",
    ),
    "an LSTM without a size": (
        _layer("LSTM", "weight_hr_l0", weight_hr_l0=(2, 3)),
        "its start depends on the hidden size, which is not known",
    ),
    "the norms of weight norm": (
        _layer("Linear", "weight_g", weight_g=(5, 1), weight_v=(5, 7)),
        "it is computed from the weight next to it",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_refused_with_the_reason(name: str) -> None:
    layer, reason = REFUSED[name]

    with pytest.raises(UndefinedError) as caught:
        start_of(layer, layer.shapes[layer.role])

    assert str(caught.value) == reason


def test_a_draw_of_padding_is_normal_but_for_its_row_of_zeros() -> None:
    layer = Layer("Embedding", "embed", "weight", {"weight": (400, 50)}, {"padding_idx": 1})
    law = start_of(layer, (400, 50))
    values = torch.ones(400, 50)

    law.fill(values.numpy(), TorchStream().chance(3, "cpu"))

    assert values[1].eq(0).all()
    others = torch.cat((values[:1], values[2:])).flatten()
    assert stats.kstest(others.numpy(), "norm").pvalue > 1e-4
