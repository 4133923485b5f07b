"""The layers of a constructor's module tell what kind each tensor is of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reinit_cli.checkpoints.models.architecture import Torchvision, architecture_of, constructed
from reinit_cli.tensors.layers.layer import Layer


class _Norm2d(nn.LayerNorm):
    """A layer of somebody's own that is one of torch's."""


class _TinyRMSNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))


class _Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.zeros(4, 8, 6))


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 8, 3, groups=2))
        self.up = nn.ConvTranspose1d(8, 4, 5)
        self.words = nn.Embedding(20, 8, padding_idx=3)
        self.attend = nn.MultiheadAttention(8, 2)
        self.norm = _Norm2d(8)
        self.rms = _TinyRMSNorm()
        self.mlp = _Experts()
        self.memory = nn.LSTM(8, 5)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))


def _layer(key: str) -> Layer | None:
    return architecture_of(_Net, ()).layer(key)


@pytest.mark.parametrize(
    ("key", "kind", "path", "role"),
    [
        ("stem.parametrizations.weight.original1", "Conv2d", "stem", None),
        ("stem.bias", "Conv2d", "stem", "bias"),
        ("up.weight", "ConvTranspose1d", "up", "weight"),
        ("words.weight", "Embedding", "words", "weight"),
        ("attend.in_proj_weight", "MultiheadAttention", "attend", "in_proj_weight"),
        ("attend.out_proj.bias", "MultiheadAttention", "attend", "out_proj.bias"),
        ("norm.weight", "LayerNorm", "norm", "weight"),
        ("rms.weight", "RMSNorm", "rms", "weight"),
        ("mlp.gate_up_proj", "Experts", "mlp", "gate_up_proj"),
        ("memory.weight_hh_l0", "LSTM", "memory", "weight_hh_l0"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.agent."])
def test_the_class_of_the_module_that_holds_a_tensor_is_its_kind(
    key: str, kind: str, path: str, role: str | None, prefix: str
) -> None:
    layer = _layer(prefix + key)

    assert layer is not None
    assert (layer.kind, layer.path, layer.told) == (kind, prefix + path, "architecture")
    assert layer.role == (role or "parametrizations.weight.original1")
    assert f"{layer.path}.{layer.role}" == prefix + key


def test_a_layer_has_the_shapes_and_sizes_that_its_start_depends_on() -> None:
    stem, words, attend = map(_layer, ("stem.bias", "words.weight", "attend.in_proj_bias"))
    memory = _layer("memory.bias_hh_l0")

    assert stem is not None
    assert stem.sizes["groups"] == 2
    assert stem.shapes["parametrizations.weight.original1"] == (8, 2, 3, 3)
    assert words is not None
    assert words.sizes == {"padding_idx": 3}
    assert attend is not None
    assert attend.sizes["num_heads"] == 2
    assert attend.shapes["out_proj.weight"] == (8, 8)
    assert memory is not None
    assert memory.sizes["hidden_size"] == 5


@pytest.mark.parametrize("key", ["token", "nothing", "stem.nothing"])
def test_what_no_layer_holds_is_of_no_kind(key: str) -> None:
    assert _layer(key) is None


def test_a_model_by_name_tells_its_layers_and_so_does_a_renamed_one() -> None:
    named = Torchvision("resnet18", ()).layer("layer1.0.conv1.weight")
    root = constructed("alexnet").layer("classifier.6.bias")
    renamed = architecture_of("resnet18", (), {"stem.weight": "conv1.weight"}).layer("stem.weight")

    assert named is not None
    assert (named.kind, named.path) == ("Conv2d", "layer1.0.conv1")
    assert root is not None
    assert root.shapes == {"weight": (1000, 4096), "bias": (1000,)}
    assert renamed is not None
    assert (renamed.kind, renamed.path) == ("Conv2d", "conv1")


def test_a_module_that_is_a_layer_has_no_path() -> None:
    layer = architecture_of(lambda: nn.Linear(3, 4), ()).layer("weight")

    assert layer is not None
    assert (layer.kind, layer.path, layer.role) == ("Linear", "", "weight")
