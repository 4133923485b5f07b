"""Values are mixed with new ones, or with those of another checkpoint, as torch's arithmetic does."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from reinit_cli import apply_, plan, rewrite, seed_for, verify
from reinit_cli.errors import ArgumentError, ReinitError, UnfillableError
from reinit_cli.execution.draw import There, draw_blocks
from reinit_cli.initializers import Elsewhere, Law, Normal, Site, Transform, parse_init
from reinit_cli.initializers.families.mixtures import Blended
from reinit_cli.tensors.elements import Elements

FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn]


def _weights(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.empty(shape).normal_(0.25, 2, generator=generator).to(dtype)


def _applied(weights: torch.Tensor, init: str, **options: Any) -> torch.Tensor:
    state = {"w": weights.clone()}
    apply_(state, [f"w={init}"], **options)
    return state["w"]


def _computed(weights: torch.Tensor) -> torch.Tensor:
    return weights if weights.dtype == torch.float64 else weights.float()


# --- shrink and perturb ------------------------------------------------------------------------


Fill = Callable[..., torch.Tensor]
FRESH: dict[str, Fill] = {
    "kaiming_uniform": nn.init.kaiming_uniform_,
    "normal:std=0.02": lambda w, generator: nn.init.normal_(w, std=0.02, generator=generator),
    "constant:0.5": lambda w, **_: w.fill_(0.5),
    "orthogonal": nn.init.orthogonal_,
}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("inner", FRESH)
@pytest.mark.parametrize("shape", [(30, 50), (900, 700)], ids=str)
def test_it_is_what_the_authors_compute(
    inner: str, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    """JordanAsh/warm_start: p1.data = args.shrink * p2.data + args.perturb * p1.data."""
    there = _weights(*shape, dtype=dtype)
    generator = torch.Generator().manual_seed(seed_for(0, "w", "shrink_perturb"))
    fresh = FRESH[inner](torch.empty_like(_computed(there)), generator=generator)

    got = _applied(there, f"shrink_perturb:shrink=0.4,perturb=0.1,inner={inner}", stream="torch")

    expected = (0.4 * _computed(there) + 0.1 * fresh).to(dtype)
    if inner == "orthogonal":  # whose last bits are LAPACK's with one thread or more
        torch.testing.assert_close(got.double(), expected.double(), rtol=0.07, atol=1e-5)
    else:
        assert torch.equal(got.view(torch.uint8), expected.view(torch.uint8))


@pytest.mark.parametrize("inner", [*FRESH, "trunc_normal:std=0.1", "sparse:0.5", "block:parts=2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_under_philox_the_new_values_are_those_of_the_stream_of_the_change(
    inner: str, dtype: torch.dtype
) -> None:
    there = _weights(600, 500, dtype=dtype)
    fresh = {"w:shrink_perturb:2": torch.empty_like(_computed(there))}
    apply_(fresh, [f"*={inner}"])

    got = _applied(there, f"shrink_perturb:shrink=-2,perturb=0.5,inner={inner},round=2")

    expected = -2 * _computed(there) + 0.5 * fresh["w:shrink_perturb:2"]
    assert torch.equal(got, expected.to(dtype))


@pytest.mark.parametrize("stream", ["philox", "torch"])
def test_the_first_form_gives_the_bytes_of_always(stream: str) -> None:
    there = _weights(300, 200)

    with_noise = _applied(there, "shrink_perturb:0.4,0.01", stream=stream, seed=3)

    scaled = {"w": there * 0.4}
    if stream == "torch":
        generator = torch.Generator().manual_seed(seed_for(3, "w", "shrink_perturb"))
        noise = torch.empty(300, 200).normal_(0, 0.01, generator=generator)
    else:
        drawn = {"w:shrink_perturb": torch.empty(300, 200)}
        apply_(drawn, ["*=normal:std=0.01"], seed=3)
        noise = drawn["w:shrink_perturb"]
    assert torch.equal(with_noise, scaled["w"] + noise)
    assert str(parse_init("shrink_perturb:0.4,0.01")) == "shrink_perturb:factor=0.4,std=0.01"


class Small(nn.Module):
    """A network whose linear layer starts as torch starts it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 30), nn.BatchNorm1d(30))


class Twins:
    """An architecture whose constructor copies `net` to `target`."""

    def law(self, key: str, shape: tuple[int, ...]) -> Law:
        del key, shape
        return Normal(0.0, 1.0)

    def layer(self, key: str) -> None:
        del key

    def first_equal(self, key: str) -> str:
        return key.replace("target", "net")


def test_networks_that_a_constructor_makes_equal_get_equal_new_values() -> None:
    init = parse_init("shrink_perturb:shrink=0.5,perturb=0.25,inner=default")

    keys = [
        init.drawn_as((3, 2), Site(f"{net}.weight", elsewhere=Elsewhere(Twins())))
        for net in ("net", "target")
    ]

    assert keys == ["net.weight", "net.weight"]


def test_new_values_by_default_are_those_of_the_constructor() -> None:
    model = Small()
    nn.init.constant_(model.net[1].weight, 3.0)
    before = {key: value.clone() for key, value in model.state_dict().items()}

    apply_(model, ["*.{weight,bias}=shrink_perturb:shrink=0.5,perturb=0.25"], arch=Small)

    after = model.state_dict()
    fresh = (after["net.0.weight"] - 0.5 * before["net.0.weight"]) / 0.25
    bound = 20**-0.5
    assert 0.9 * bound < fresh.abs().max() <= bound * 1.0001
    assert torch.equal(after["net.1.weight"], torch.full((30,), 0.5 * 3 + 0.25))


def test_kept_zeros_stay_and_all_else_is_as_without() -> None:
    there = _weights(60, 50)
    there[there.abs() < 1] = 0
    init = "shrink_perturb:shrink=0.5,perturb=0.1,inner=orthogonal"

    kept, whole = _applied(there, f"{init},keep_zeros=true"), _applied(there, init)

    assert torch.equal(kept == 0, there == 0)
    assert torch.equal(kept[there != 0], whole[there != 0])


@pytest.mark.parametrize("inner", ["normal", "orthogonal", "xavier_uniform", "trunc_normal"])
@pytest.mark.parametrize("stream", ["philox", "torch"])
def test_a_part_has_the_values_that_the_whole_would_have(inner: str, stream: str) -> None:
    there = _weights(400, 300)
    init = f"shrink_perturb:shrink=0.5,perturb=1,inner={inner}"
    state = {"w": there.clone()}

    apply_(state, [f"w[100:300, ::2]={init}"], stream=stream)

    expected = there.clone()
    expected[100:300, ::2] = _applied(there, init, stream=stream)[100:300, ::2]
    assert torch.equal(state["w"], expected)


@pytest.mark.parametrize(
    ("init", "problem"),
    [
        ("shrink_perturb", "factor is missing"),
        ("shrink_perturb:0.5", "std is missing"),
        ("shrink_perturb:shrink=0.5", "perturb is missing"),
        ("shrink_perturb:perturb=0.5,inner=normal", "shrink is missing"),
        ("shrink_perturb:0.5,0.1,inner=normal", "factor and std, or shrink, perturb and inner"),
        ("shrink_perturb:shrink=1,perturb=1,inner=noise:std=1", "depends on existing values"),
        ("shrink_perturb:shrink=1,perturb=1,inner=keep", "depends on existing values"),
        ("shrink_perturb:shrink=1,perturb=1,inner=shrink_perturb:1;2", "cannot be within another"),
        ("block:parts=2,inner=shrink_perturb:1;2", "cannot be within another"),
        ("shrink_perturb:" + "shrink=1,perturb=1,inner=shrink_perturb:" * 9_000, "shrink_perturb"),
    ],
)
def test_what_is_neither_form_is_refused(init: str, problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem):
        parse_init(init)


def test_the_form_that_was_meant_is_named() -> None:
    with pytest.raises(ArgumentError) as refused:
        parse_init("shrink_perturb:0.4,0.02,inner=kaiming_uniform")

    assert refused.value.known == ("shrink_perturb:shrink=0.4,perturb=0.02,inner=kaiming_uniform",)


@pytest.mark.parametrize(
    ("init", "meant"),
    [
        ("shrink_perturb:perturb=0.3", "shrink_perturb:shrink=0.5,perturb=0.3,inner=default"),
        ("shrink_perturb:0.3", "shrink_perturb:factor=0.3,std=0.01"),
        ("blend:other.pt", "blend:other.pt,0.5"),
    ],
)
def test_what_is_missing_is_named_with_what_was_given(init: str, meant: str) -> None:
    with pytest.raises(ArgumentError) as refused:
        parse_init(init)

    assert refused.value.known == (meant,)


# --- two checkpoints ---------------------------------------------------------------------------


@pytest.fixture
def pair() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Two checkpoints in the working folder, their keys as in training and in inference."""
    mine = {f"net.{at}.weight": _weights(700, 500, seed=at) for at in range(3)}
    theirs = {f"net.{at}.weight": _weights(700, 500, seed=at + 9) for at in range(3)}
    save_file(mine, "mine.safetensors")
    save_file(theirs, "theirs.safetensors")
    torch.save({f"module.{key}": value for key, value in theirs.items()}, "wrapped.pt")
    return mine, theirs


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0, -0.5, 1.7])
@pytest.mark.parametrize("other", ["theirs.safetensors", "wrapped.pt"])
def test_a_blend_is_between_two_checkpoints(pair: Any, other: str, t: float) -> None:
    mine, theirs = pair

    rewrite("mine.safetensors", [f"*=blend:{other},{t}"], "out.safetensors")

    out = load_file("out.safetensors")
    assert all(torch.equal(out[key], (1 - t) * mine[key] + t * theirs[key]) for key in mine)


@pytest.mark.parametrize("mine", FLOATS, ids=str)
@pytest.mark.parametrize("theirs", FLOATS, ids=str)
def test_a_blend_of_two_dtypes_is_rounded_once(mine: torch.dtype, theirs: torch.dtype) -> None:
    there, other = _weights(40, 30, dtype=mine), _weights(40, 30, dtype=theirs, seed=6)
    save_file({"w": there}, "mine.safetensors")
    save_file({"w": other}, "theirs.safetensors")

    rewrite("mine.safetensors", ["w=blend:theirs.safetensors,0.3"], "out.safetensors")

    kind = torch.float64 if mine == torch.float64 else torch.float32
    expected = ((1 - 0.3) * there.to(kind) + 0.3 * other.to(kind)).to(mine)
    for got in (
        load_file("out.safetensors")["w"],
        _applied(there, "blend:theirs.safetensors,0.3", stream="torch"),
    ):
        assert torch.equal(got.view(torch.uint8), expected.view(torch.uint8))


def test_a_blend_takes_the_key_that_from_names_and_parts_and_zeros(pair: Any) -> None:
    mine, theirs = pair
    mine["net.0.weight"][::3] = 0
    save_file(mine, "mine.safetensors")
    rules = [
        "net.0.weight=blend:wrapped.pt,0.5,from=module.net.2.weight,keep_zeros=true",
        "net.1.weight[10:20, 5:]=blend:wrapped.pt,t=0.25,from=module.*",
    ]

    rewrite("mine.safetensors", rules, "out.safetensors", record=True)

    out = load_file("out.safetensors")
    first = 0.5 * mine["net.0.weight"] + 0.5 * theirs["net.2.weight"]
    first[::3] = 0
    second = mine["net.1.weight"].clone()
    second[10:20, 5:] = 0.75 * second[10:20, 5:] + 0.25 * theirs["net.1.weight"][10:20, 5:]
    assert torch.equal(out["net.0.weight"], first)
    assert torch.equal(out["net.1.weight"], second)
    assert torch.equal(out["net.2.weight"], mine["net.2.weight"])
    assert verify("out.safetensors", source="mine.safetensors").findings == ()


def test_a_blend_reads_tensors_as_they_lie(pair: Any) -> None:
    mine, theirs = pair
    torch.save({key: value.t().contiguous().t() for key, value in mine.items()}, "mine.pt")

    rewrite("mine.pt", ["*=blend:theirs.safetensors,0.5"], "out.pt")

    out = torch.load("out.pt")
    assert out["net.0.weight"].stride() == (1, 700)
    assert all(torch.equal(out[key], 0.5 * mine[key] + 0.5 * theirs[key]) for key in mine)


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("w=blend:theirs.safetensors,0.5", "its shape is"),
        ("n=blend:theirs.safetensors,0.5", "it is int64, and a blend is of floating-point numbers"),
        ("x=blend:theirs.safetensors,0.5", "it is int64, and a blend is of floating-point numbers"),
        ("y=blend:theirs.safetensors,0.5", "has no such key"),
        ("w=blend:nowhere.safetensors,0.5", "nowhere"),
        ("w=blend:theirs.safetensors", "t is missing"),
        ("w=blend:theirs.safetensors,nan", "t must be a number"),
    ],
)
def test_what_cannot_be_blended_is_refused_before_a_byte_is_written(
    rule: str, problem: str
) -> None:
    ones, numbers = torch.ones(3, 2), torch.arange(3)
    save_file({"w": ones, "n": numbers, "x": torch.ones(3), "y": torch.ones(3)}, "mine.safetensors")
    save_file({"w": torch.ones(2, 3), "n": numbers, "x": torch.arange(3)}, "theirs.safetensors")

    with pytest.raises(ReinitError, match=problem):
        rewrite("mine.safetensors", [rule], "out.safetensors")


def test_a_wildcard_leaves_out_what_cannot_be_blended() -> None:
    state = {"w": torch.ones(3, 2), "only.here": torch.ones(3), "count": torch.arange(3)}
    save_file({"w": torch.full((3, 2), 3.0), "count": torch.arange(3)}, "theirs.safetensors")

    planned = apply_(state, ["*=blend:theirs.safetensors,0.5"])

    assert [step.action for step in planned.steps] == ["fill", "skip", "skip"]
    assert torch.equal(state["w"], torch.full((3, 2), 2.0))
    with pytest.raises(UnfillableError):
        plan(state, ["only.here=blend:theirs.safetensors,0.5"])


# --- memory ------------------------------------------------------------------------------------


def _zeros(numel: int) -> Iterator[Elements]:
    for _ in range(0, numel, 1 << 18):
        yield Elements(np.zeros(1 << 18, np.float32), "float32")


@pytest.mark.parametrize("stream", ["philox-1", "torch-1"])
@pytest.mark.parametrize(
    "init", ["shrink_perturb:shrink=0.5,perturb=0.1,inner=xavier_uniform", "blend"]
)
def test_a_mixture_takes_the_memory_of_blocks(init: str, stream: str) -> None:
    shape, numel = (4096, 2048), 4096 * 2048
    law: Any = Blended(0.5, "other")
    if init != "blend":
        law = parse_init(init).law(shape, Site("w"))
    assert isinstance(law, Transform)
    own = (lambda: _zeros(numel)) if law.mixes else None
    there = There(lambda: _zeros(numel), None, own)
    for _ in draw_blocks(law, (64, 64), "float32", 1, "cpu", there, stream):
        pass  # what is imported counts once

    tracemalloc.start()
    for _ in draw_blocks(law, shape, "float32", 1, "cpu", there, stream):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < numel  # a quarter of what the tensor takes
