"""What becomes of running statistics where a rule fills the weights that they belong to."""

from __future__ import annotations

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from reinit_cli import plan

NET = nn.Sequential(
    nn.Conv2d(3, 8, 3),
    nn.BatchNorm2d(8),
    nn.ReLU(),
    nn.Conv2d(8, 16, 3),
    nn.BatchNorm2d(16),
    nn.Flatten(),
    nn.Linear(16, 16),
)

OWN = (
    "'1.weight' and 1 more weight of BatchNorms are filled, but the running statistics next to "
    "them stay; reset_buffers=True resets these"
)
AFTER = (
    "'0.weight' is filled, but the BatchNorm after it keeps its running statistics, and so does "
    "another; rules reset them: '1.running_mean=zeros' and '1.running_var=ones'"
)
ONE = (
    "'3.weight' is filled, but the BatchNorm after it keeps its running statistics; rules reset "
    "them: '4.running_mean=zeros' and '4.running_var=ones'"
)


@pytest.fixture(autouse=True)
def net() -> None:
    save_file(NET.state_dict(), "net.safetensors")


def _stale(rules: list[str], **options: bool) -> list[str]:
    warnings = plan("net.safetensors", rules, **options).warnings  # type: ignore[arg-type]
    return [each for each in warnings if "statistics" in each]


WARNED = {
    "weights of BatchNorms": (["{1,4}.weight=ones"], OWN),
    "several rules, once": (["1.weight=ones", "4.weight=ones"], OWN),
    "one weight": (
        ["4.weight=ones"],
        "'4.weight' is filled, but the running statistics next to it stay; reset_buffers=True "
        "resets these",
    ),
    "everything by a wildcard": (["*=normal:std=0.1"], OWN),
    "the layers before them": (["*.weight=kaiming_normal"], AFTER),
    "the layer before one": (["3.weight=kaiming_normal"], ONE),
    "one of the two statistics": (["3.weight=kaiming_normal", "4.running_mean=zeros"], ONE),
    "where one is kept on purpose": (["*.weight=kaiming_normal", "1.*=keep"], ONE),
}


@pytest.mark.parametrize(("rules", "warning"), WARNED.values(), ids=WARNED)
def test_statistics_that_stay_are_warned_of_once(rules: list[str], warning: str) -> None:
    assert _stale(rules) == [warning]


SILENT = {
    "biases": ["*.bias=zeros"],
    "a linear layer without a norm": ["6.*=kaiming_normal:min_ndim=2"],
    "statistics that rules set": [
        *("*.weight=kaiming_normal", "*.running_mean=zeros", "*.running_var=ones"),
    ],
    "statistics that rules keep": ["*.weight=ones", "*.running_mean=keep", "*.running_var=keep"],
    "a transform of what is there": ["{0,1}.weight=noise:relative=0.1"],
    "nothing": ["*=keep"],
}


@pytest.mark.parametrize("rules", SILENT.values(), ids=SILENT)
def test_what_leaves_statistics_right_or_decides_on_them_is_not(rules: list[str]) -> None:
    assert _stale(rules) == []


def test_a_module_that_is_reset_is_not_warned_of() -> None:
    assert _stale(["{1,4}.weight=ones"], reset_buffers=True) == []
    assert _stale(["3.weight=kaiming_normal"], reset_buffers=True) == [ONE]


def test_the_rules_of_the_warning_are_those_of_a_new_module() -> None:
    rules = ["3.weight=kaiming_normal", "4.running_mean=zeros", "4.running_var=ones"]

    assert _stale(rules) == []
    fresh = nn.BatchNorm2d(16)
    steps = {step.key: step.init for step in plan("net.safetensors", rules).fills}
    for name, value in {"running_mean": "zeros", "running_var": "ones"}.items():
        init = steps[f"4.{name}"]
        assert init is not None
        assert init.initializer.name == value
        assert torch.equal(getattr(fresh, name), getattr(torch, value)(16))


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
def test_the_layer_before_a_norm_is_found_by_name_or_order(name: str) -> None:
    """A torch file keeps the order of the modules, and safetensors sorts the keys."""
    net = torchvision.models.resnet18()
    torch.save(net.state_dict(), "net.pt")
    save_file(net.state_dict(), "net.safetensors")

    (warning,) = plan(name, ["layer4.*=kaiming_normal:relu,fan_out", "*.bn*=keep"]).warnings
    (more,) = plan(name, ["*conv*.weight=kaiming_normal"]).warnings

    assert warning.startswith(
        "'layer4.0.downsample.0.weight' is filled, but the BatchNorm after it keeps its running "
        "statistics; rules reset them: 'layer4.0.downsample.1.running_mean=zeros'"
    )
    assert "keeps its running statistics, and so do 16 more; rules reset them" in more


def test_a_norm_of_other_size_does_not_follow_a_layer() -> None:
    save_file({"a.weight": torch.ones(4, 5), "n.running_mean": torch.ones(7)}, "net.safetensors")

    assert _stale(["a.weight=zeros"]) == []


def test_a_transposed_convolution_comes_before_a_norm_of_its_outputs() -> None:
    layers = nn.Sequential(nn.ConvTranspose2d(4, 6, 3), nn.BatchNorm2d(6))
    save_file(layers.state_dict(), "net.safetensors")

    assert _stale(["0.weight=normal"])[0].startswith("'0.weight' is filled, but the BatchNorm")
