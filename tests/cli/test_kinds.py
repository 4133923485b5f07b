"""Rules, and what else takes patterns, choose the tensors of a kind of layer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import reinit_cli
from tests.cli.conftest import Done
from tests.json_schema import check_form


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 16, 1, bias=False))
        self.ln = nn.LayerNorm(16)
        self.tokens_embedding = nn.Embedding(20, 16)
        self.head = nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 4))


def _keys(*classes: type[nn.Module], role: str = "") -> set[str]:
    """Return the keys of the layers of some classes, as the module itself knows them."""
    return {
        f"{path}.{name}"
        for path, module in Net().named_modules()
        if isinstance(module, classes)
        for name in module.state_dict()
        if name.endswith(role)
    }


@pytest.fixture
def net() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = dict(Net().state_dict())
    save_file(state, "net.safetensors")
    return state


def _changed(state: dict[str, torch.Tensor], path: str = "net-reinit.safetensors") -> set[str]:
    after = load_file(path)
    return {key for key, tensor in after.items() if not torch.equal(tensor, state[key])}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("kind=Conv2d", _keys(nn.Conv2d)),
        ("kind=conv", _keys(nn.Conv2d)),
        ("kind=conv2D", _keys(nn.Conv2d)),
        ("*.weight[kind=Linear]", _keys(nn.Linear, role="weight")),
        ("kind=Linear,Embedding", _keys(nn.Linear, nn.Embedding)),
        ("*.bias[kind=norm]", _keys(nn.LayerNorm, nn.BatchNorm2d, role="bias")),
        ("head.*[kind=Linear]", _keys(nn.Linear)),
        ("re:.*0[.]weight[kind=Linear]", {"head.0.weight"}),
        ("{stem,head}.0.weight[kind=Linear]", {"head.0.weight"}),
    ],
)
def test_a_rule_takes_the_tensors_of_a_kind_of_layer_and_no_other(
    reinit: Callable[..., Done], net: dict[str, torch.Tensor], pattern: str, expected: set[str]
) -> None:
    done = reinit("net.safetensors", "-r", f"{pattern}=constant:0.625")
    assert done.code == 0, done.err
    assert _changed(net) == expected


def test_a_part_of_the_tensors_of_a_kind_is_filled(
    reinit: Callable[..., Done], net: dict[str, torch.Tensor]
) -> None:
    for number, pattern in enumerate(
        ("*.weight[kind=Linear][:, :3]", "*.weight[:, :3][kind=Linear]")
    ):
        path = f"{number}.safetensors"
        assert reinit("net.safetensors", "-r", f"{pattern}=zeros", "-o", path).code == 0
        after = load_file(path)
        for key in _keys(nn.Linear, role="weight"):
            assert torch.equal(after[key][:, 3:], net[key][:, 3:])
            assert not after[key][:, :3].any()
        assert _changed(net, path) == _keys(nn.Linear, role="weight")


def test_values_are_those_of_the_same_rule_with_names(
    reinit: Callable[..., Done], net: dict[str, torch.Tensor]
) -> None:
    del net
    named = "{stem.0,body.0,body.1}.weight=kaiming_normal:relu"
    assert reinit("net.safetensors", "-r", named, "-o", "named.safetensors").code == 0
    by_kind = "*.weight[kind=Conv2d]=kaiming_normal:relu"
    assert reinit("net.safetensors", "-r", by_kind, "-o", "kind.safetensors").code == 0
    assert Path("named.safetensors").read_bytes() == Path("kind.safetensors").read_bytes()


def test_a_wildcard_of_a_kind_skips_what_its_initializer_cannot_fill(
    reinit: Callable[..., Done], net: dict[str, torch.Tensor]
) -> None:
    done = reinit("net.safetensors", "-r", "kind=Conv2d=kaiming_normal:relu")
    assert done.code == 0
    assert _changed(net) == _keys(nn.Conv2d, role="weight")
    assert "2 skipped: 1-D (fans need at least 2 dimensions)" in done.out


def test_exclusions_take_kinds(reinit: Callable[..., Done], net: dict[str, torch.Tensor]) -> None:
    done = reinit("net.safetensors", "-r", "*=constant:0.625", "-x", "kind=norm")
    assert done.code == 0
    others = {nn.Conv2d, nn.Linear, nn.Embedding}
    assert _changed(net) == _keys(*others)


def test_only_drop_dtype_and_resize_take_kinds(
    reinit: Callable[..., Done], net: dict[str, torch.Tensor]
) -> None:
    def made(*options: str) -> dict[str, torch.Tensor]:
        done = reinit("net.safetensors", *options, "-o", "out.safetensors", "-f")
        assert done.code == 0, done.err
        return load_file("out.safetensors")

    linear = _keys(nn.Linear)
    assert made("--only", "kind=Linear").keys() == linear
    assert made("--drop", "kind=Linear").keys() == net.keys() - linear
    cast = made("--dtype", "bfloat16", "--dtype", "kind=norm=float32")
    kept = {key for key, tensor in cast.items() if tensor.dtype == torch.float32}
    norms = _keys(nn.BatchNorm2d, nn.LayerNorm)
    assert kept == {key for key in norms if "num_batches" not in key}
    renamed = made("--rename", "head.*=top.*", "--dtype", "kind=Linear=float16")
    halves = {key for key, tensor in renamed.items() if tensor.dtype == torch.float16}
    assert halves == {key.replace("head.", "top.") for key in linear}
    resized = made("--resize", "kind=Embedding=30:normal:std=0.02")
    assert resized["tokens_embedding.weight"].shape == (30, 16)


def _listed(out: str) -> set[str]:
    return set(out.split())


def test_commands_that_look_inside_take_kinds(
    reinit: Callable[..., Done], net: dict[str, torch.Tensor]
) -> None:
    del net
    assert _listed(reinit("keys", "net.safetensors", "kind=Conv2d").out) == _keys(nn.Conv2d)
    left = reinit("keys", "net.safetensors", "-x", "kind=conv,norm,embedding").out
    assert _listed(left) == _keys(nn.Linear)
    stats = json.loads(reinit("stats", "net.safetensors", "kind=Embedding", "--json").out)
    assert [each["key"] for each in stats["tensors"]] == ["tokens_embedding.weight"]
    assert "tokens_embedding.weight" in reinit("show", "net.safetensors", "kind=Embedding").out
    assert reinit("net.safetensors", "-r", "*.weight=zeros").code == 0
    differing = reinit("diff", "net.safetensors", "net-reinit.safetensors", "kind=LayerNorm")
    assert "ln.weight" in differing.out
    assert "head" not in differing.out
    same = reinit("diff", "net.safetensors", "net-reinit.safetensors", "*.bias[kind=Linear]")
    assert same.code == 0


def test_a_kind_that_is_not_there_is_answered_with_those_that_are(
    reinit: Callable[..., Done], net: dict[str, torch.Tensor]
) -> None:
    del net
    there = "BatchNorm, Conv2d, LayerNorm, Linear and Embedding"
    for text, hint in (
        ("kind=Conv3d=zeros", "did you mean -r kind=Conv2d=zeros?"),
        ("*.weight[kind=Linaer]=zeros", "did you mean -r '*.weight[kind=Linear]=zeros'?"),
        (
            "kind=PReLU=zeros",
            "reinit keys net.safetensors kind=BatchNorm lists the tensors of a kind",
        ),
    ):
        done = reinit("net.safetensors", "-r", text)
        assert done.code == 2
        error, way_on, *_ = done.err.splitlines()
        assert " layer of net.safetensors, whose layers are " in error
        assert all(kind in error for kind in there.replace(" and", ",").split(", "))
        assert way_on == f"hint: {hint}"
    done = reinit("keys", "net.safetensors", "kind=GRU")
    assert done.code == 1
    assert "no GRU layer of net.safetensors (which has " in done.err
    for option in ("--only", "--drop"):
        done = reinit("net.safetensors", option, "kind=GRU", "-o", "x.safetensors")
        assert done.code == 2
        assert "matches no GRU layer of net.safetensors, whose layers are" in done.err


def test_a_misspelled_pattern_keeps_its_kind_when_it_is_corrected(
    reinit: Callable[..., Done], net: dict[str, torch.Tensor]
) -> None:
    del net
    done = reinit("net.safetensors", "-r", "*.wieght[kind=Linear]=zeros")
    assert "hint: did you mean -r '*.weight[kind=Linear]=zeros'?" in done.err


def test_the_plan_says_which_kinds_a_rule_takes_and_what_told_them(
    reinit: Callable[..., Done], net: dict[str, torch.Tensor]
) -> None:
    del net
    done = reinit("net.safetensors", "-r", "kind=conv,Embedding=normal:std=0.1", "-n")
    assert "Conv2d, Embedding by names and shapes" in done.out
    form = json.loads(
        reinit("net.safetensors", "-r", "*.weight[kind=Linear]=zeros", "-n", "--json").out
    )
    check_form(form)
    layers = {each["key"]: each.get("layer") for each in form["tensors"]}
    assert layers["head.0.weight"] == {"kind": "Linear", "told": "names"}
    assert layers["stem.0.weight"] is None


def test_a_kind_stands_in_recipes_and_records(
    reinit: Callable[..., Done], net: dict[str, torch.Tensor]
) -> None:
    Path("recipe.toml").write_text(
        '[[rule]]\nmatch = "*.weight[kind=Linear]"\ninit = "normal"\nstd = 0.02\n'
    )
    done = reinit("net.safetensors", "-c", "recipe.toml", "--record")
    assert done.code == 0, done.err
    assert _changed(net) == _keys(nn.Linear, role="weight")
    assert reinit("verify", "net-reinit.safetensors").code == 0
    assert reinit("verify", "net-reinit.safetensors", "--source", "net.safetensors").code == 0


def test_a_model_tells_what_names_cannot(reinit: Callable[..., Done]) -> None:
    import torchvision

    save_file(dict(torchvision.models.resnet18().state_dict()), "r.safetensors")
    alone = reinit("r.safetensors", "-r", "kind=BatchNorm2d=ones", "-n")
    assert alone.code == 2
    assert "did you mean -r kind=BatchNorm=ones?" in alone.err
    known = reinit("r.safetensors", "-r", "kind=BatchNorm2d=ones", "--arch", "resnet18", "-n")
    assert known.code == 0
    assert "BatchNorm2d by the architecture" in known.out
    listed = reinit("keys", "resnet18", "kind=BatchNorm2d").out.split()
    assert len(listed) == 20 * 5


def test_norms_that_a_rule_for_a_class_leaves_out_are_named(
    reinit: Callable[..., Done],
) -> None:
    layers = {"conv": nn.Conv2d(3, 4, 3), "norm1": nn.GroupNorm(2, 4), "ln": nn.LayerNorm(4)}
    save_file(dict(nn.ModuleDict(layers).state_dict()), "m.safetensors")
    done = reinit("m.safetensors", "-r", "*.weight[kind=LayerNorm]=ones", "-n")
    assert done.code == 0
    assert "leaves out 'norm1.weight': names and shapes do not tell which kind" in done.err
    for kind in ("norm", "LayerNorm,Norm"):
        assert "leaves out" not in reinit("m.safetensors", "-r", f"kind={kind}=ones", "-n").err


def test_convolutions_that_may_be_transposed_are_taken_as_conv_and_named_otherwise(
    reinit: Callable[..., Done],
) -> None:
    layers = {
        "down": nn.Sequential(nn.Conv2d(3, 8, 4), nn.Conv2d(8, 8, 4)),
        "up": nn.Sequential(nn.ConvTranspose2d(8, 8, 4), nn.ConvTranspose2d(8, 3, 4)),
        "decoder": nn.Sequential(nn.ConvTranspose2d(8, 8, 4)),
    }
    save_file(dict(nn.ModuleDict(layers).state_dict()), "vae.safetensors")
    every = {f"{name}.weight" for name in ("down.0", "down.1", "up.0", "up.1", "decoder.0")}
    assert set(reinit("keys", "vae.safetensors", "*.weight[kind=conv]").out.split()) == every
    reset = reinit("vae.safetensors", "-r", "kind=conv=zeros", "-o", "zeros.safetensors")
    assert reset.code == 0
    assert not any(tensor.any() for tensor in load_file("zeros.safetensors").values())
    done = reinit("vae.safetensors", "-r", "*.weight[kind=Conv2d]=zeros", "-n")
    assert "leaves out 'decoder.0.weight' and 1 more: names and shapes do not tell" in done.err
    assert "kind=conv takes every convolution" in done.err


def test_python_takes_kinds_and_asks_the_module(net: dict[str, torch.Tensor]) -> None:
    del net
    model = Net()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    reinit_cli.apply_(model, {"*.weight[kind=BatchNorm2d]": "constant:0.5"})
    changed: Iterable[str] = (
        key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])
    )
    assert set(changed) == {"stem.1.weight"}
    measured = reinit_cli.stats("net.safetensors", "kind=Embedding")
    assert [each.key for each in measured] == ["tokens_embedding.weight"]
