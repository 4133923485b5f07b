"""Fans are the inputs and outputs of a weight, whichever layer it belongs to."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from reinit_cli.errors import ArgumentError
from reinit_cli.initializers import REGISTRY, Fans, Init, Law, UndefinedError, parse_init
from tests.draws import draw

WITH_FANS = [each.name for each in REGISTRY if "fans" in each.asks]

CASES: dict[str, tuple[tuple[int, ...], Fans]] = {
    "": ((8, 8, 3, 3), Fans(72, 72)),
    "transposed=true": ((8, 6, 3, 3), Fans(72, 54)),
    # ConvTranspose2d(8, 16, 3, groups=2): an output sums over 4 of 8 inputs.
    "groups=2,transposed=true": ((8, 8, 3, 3), Fans(36, 72)),
    # Conv2d(8, 16, 3, groups=4): (16, 2, 3, 3); an input goes to 4 of 16 outputs.
    "groups=4": ((16, 2, 3, 3), Fans(18, 36)),
    # Depthwise: every channel on its own.
    "groups=6": ((6, 1, 5), Fans(5, 5)),
    "fan=10": ((8, 4), Fans(10, 10)),
    "fan=7": ((8,), Fans(7, 7)),
    "axes=io": ((768, 2304), Fans(768, 2304)),
    "axes=bio": ((5, 30, 20), Fans(30, 20)),
    "axes=boi": ((5, 30, 20), Fans(20, 30)),
    "axes=kkio": ((3, 5, 7, 11), Fans(105, 165)),
    "axes=kkio,groups=2": ((3, 3, 4, 10), Fans(36, 45)),
    # Attention as (in, heads, head): its outputs are all of them.
    "axes=ioo": ((512, 8, 64), Fans(512, 512)),
    "axes=oik,transposed=true,groups=3": ((4, 6, 5), Fans(10, 20)),
}


DEPTHS = {"mitchell": "layer=1", "tfixup": "encoder,layers=6", "deepnet": "layers=12"}
"""What those need that also depend on the layers."""


@pytest.mark.parametrize("name", WITH_FANS)
@pytest.mark.parametrize(("arguments", "case"), CASES.items(), ids=CASES)
def test_every_scaled_law_reads_a_weight_by_the_given_layout(
    name: str, arguments: str, case: tuple[tuple[int, ...], Fans]
) -> None:
    shape, expected = case
    init = _init(name, arguments)
    law, same = init.law(shape), _init(name, "").law((expected.fan_out, expected.fan_in))

    assert init.fans(shape) == expected
    assert parse_init(str(init)) == init
    assert law == same


def _init(name: str, arguments: str) -> Init:
    given = ",".join(filter(None, (DEPTHS.get(name), arguments)))
    return parse_init(f"{name}:{given}" if given else name)


def test_eight_initializers_and_more_take_a_layout() -> None:
    assert {
        *("xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"),
        *("he_truncated", "glorot_truncated", "variance_scaling"),
        *("lecun_normal", "lecun_uniform"),
        *DEPTHS,
    } == set(WITH_FANS)


@pytest.mark.parametrize(
    ("text", "shape", "why"),
    [
        ("xavier_normal", (8,), "1-D (fans need at least 2 dimensions)"),
        ("xavier_normal:axes=bio", (8, 4), "2-D (axes=bio is for 3 dimensions)"),
        ("xavier_normal:axes=io,fan=3", (8,), "1-D (axes=io is for 2 dimensions)"),
        ("xavier_normal:groups=3", (8, 4), "its 8 output channels are not divisible by 3 groups"),
        (
            "xavier_normal:groups=3,transposed=true",
            (8, 3),
            "its 8 input channels are not divisible by 3 groups",
        ),
    ],
)
def test_a_weight_that_does_not_fit_the_layout_is_refused(
    text: str, shape: tuple[int, ...], why: str
) -> None:
    with pytest.raises(UndefinedError) as refused:
        parse_init(text).law(shape)

    assert str(refused.value) == why
    assert parse_init(text).fans(shape) is None


@pytest.mark.parametrize(
    "argument",
    [
        *("axes=x", "axes=o", "axes=oo", "axes=", "axes=oi2"),
        *("fan=0", "fan=x", "groups=0", "transposed=maybe"),
    ],
)
def test_a_layout_that_is_none_is_refused(argument: str) -> None:
    with pytest.raises(ArgumentError, match="must be"):
        parse_init(f"xavier_normal:{argument}")


def test_a_bare_number_is_never_part_of_the_layout() -> None:
    for text in ("xavier_normal:relu,0.1,3", "kaiming_normal:0.1,3"):
        with pytest.raises(ArgumentError, match=r"is one number too many|has none"):
            parse_init(text)
    with pytest.raises(ArgumentError) as refused:
        parse_init("lecun_normal:3")

    assert str(refused.value) == (
        "lecun_normal: it takes no argument '3', only fan=, groups=, transposed=, axes=, ndim=, "
        "min_ndim= and keep_zeros="
    )


def _weight(text: str, shape: tuple[int, ...]) -> torch.Tensor:
    law = parse_init(text).law(shape)
    assert law is not None
    return draw(law, shape, "float32", 0, "cpu")


GROUPED: dict[str, tuple[nn.Module, str]] = {
    "grouped": (nn.Conv1d(32, 64, 5, groups=4, bias=False), "groups=4"),
    "depthwise": (nn.Conv1d(64, 64, 5, groups=64, bias=False), "groups=64"),
    # At stride 1 every output inside sums over the whole kernel.
    "transposed": (nn.ConvTranspose1d(64, 32, 5, bias=False), "transposed=true"),
    "both": (nn.ConvTranspose1d(64, 32, 5, groups=4, bias=False), "transposed=true,groups=4"),
}


@pytest.mark.parametrize(("layer", "layout"), GROUPED.values(), ids=GROUPED)
def test_convolutions_of_any_kind_keep_the_variance_of_signals(
    layer: nn.Module, layout: str
) -> None:
    shape = tuple(layer.weight.shape)
    signal = torch.randn(8, layer.in_channels, 300, generator=torch.Generator().manual_seed(0))

    layer.weight.data = _weight(f"kaiming_normal:linear,{layout}", shape)
    inside = layer(signal)[..., 10:-10]

    assert inside.var().item() == pytest.approx(1, rel=0.25)


@pytest.mark.parametrize(("layer", "layout"), GROUPED.values(), ids=GROUPED)
def test_convolutions_of_any_kind_keep_the_variance_of_gradients(
    layer: nn.Module, layout: str
) -> None:
    shape = tuple(layer.weight.shape)
    signal = torch.zeros(8, layer.in_channels, 300, requires_grad=True)

    layer.weight.data = _weight(f"kaiming_normal:linear,fan_out,{layout}", shape)
    out = layer(signal)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(0)))

    assert signal.grad is not None
    assert signal.grad[..., 10:-10].var().item() == pytest.approx(1, rel=0.25)


def test_the_default_of_a_torch_bias_is_a_fan_away() -> None:
    """U(±1/√fan_in), on a vector that has no fan of its own."""
    law: Law | None = parse_init(f"kaiming_uniform:a={math.sqrt(5)},fan=400").law((30,))

    assert law is not None
    assert law.high == pytest.approx(1 / 20)
