"""The weight of a layer with weight norm follows the law that fills it: torch's modules say so."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm

from reinit_cli import apply_, rewrite, verify
from reinit_cli.cli import main
from reinit_cli.errors import UnfillableError
from reinit_cli.streams.torch.stream import TorchStream

pytestmark = pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(5, 7),
    "convolution": lambda: nn.Conv2d(4, 6, 3),
    "transposed": lambda: nn.ConvTranspose1d(4, 6, 3),
}

WAYS: dict[str, tuple[Callable[..., nn.Module], str, str]] = {
    "old": (old_weight_norm, "0.weight_v", "0.weight_g"),
    "new": (
        parametrizations.weight_norm,
        "0.parametrizations.weight.original1",
        "0.parametrizations.weight.original0",
    ),
}

FILLS: dict[str, Callable[[Tensor], Any]] = {
    "kaiming_normal:relu": lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"),
    "xavier_uniform": nn.init.xavier_uniform_,
    "normal:std=0.02": lambda w: nn.init.normal_(w, std=0.02),
    "constant:val=0.5": lambda w: nn.init.constant_(w, 0.5),
    "orthogonal": nn.init.orthogonal_,
}


def _expected(fill: Callable[[Tensor], Any], shape: tuple[int, ...], key: str) -> Tensor:
    """Draw as torch does, from the stream of a key."""
    torch.manual_seed(TorchStream().seed_for(0, key))
    weight = torch.empty(shape)
    fill(weight)
    return weight


def _normed(way: str, layer: str = "linear", **options: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(WAYS[way][0](LAYERS[layer](), **options))


def _weight(module: nn.Module) -> Tensor:
    module(torch.zeros(module[0].in_features if hasattr(module[0], "in_features") else (4, 9, 9)))
    return module[0].weight.detach()


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("layer", ["linear", "convolution"])
@pytest.mark.parametrize("way", WAYS)
def test_the_weight_that_the_module_computes_is_what_torch_draws(
    way: str, layer: str, fill: str, dim: int | None
) -> None:
    module = _normed(way, layer, dim=dim)
    _, key, _ = WAYS[way]
    save_file(module.state_dict(), "m.safetensors")

    rewrite("m.safetensors", [f"{key}={fill}"], "out.safetensors", stream="torch")

    module.load_state_dict(load_file("out.safetensors"))
    expected = _expected(FILLS[fill], tuple(module.state_dict()[key].shape), key)
    torch.testing.assert_close(_weight(module), expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("way", WAYS)
def test_norms_are_rounded_once(way: str, dtype: torch.dtype) -> None:
    module = _normed(way).to(dtype)
    _, key, norm = WAYS[way]
    torch.save(module.state_dict(), "m.pt")

    rewrite("m.pt", ["*=normal"], "out.pt", stream="torch")

    written = torch.load("out.pt")
    if dtype == torch.float64:
        torch.testing.assert_close(written[norm][:, 0], written[key].norm(dim=1))
        return
    drawn = _expected(nn.init.normal_, tuple(written[key].shape), key)
    assert written[key].equal(drawn.to(dtype))
    assert written[norm][:, 0].equal(drawn.double().norm(dim=1).float().to(dtype))


@pytest.mark.parametrize("way", WAYS)
def test_a_rule_that_names_the_norms_owns_them(way: str) -> None:
    module = _normed(way)
    _, key, norm = WAYS[way]
    save_file(module.state_dict(), "m.safetensors")
    last = norm.rpartition(".")[2]

    rewrite("m.safetensors", ["*=normal", f"*.{last}=ones"], "ones.safetensors")
    rewrite("m.safetensors", ["*=normal", f"*.{last}=keep"], "kept.safetensors")

    assert load_file("ones.safetensors")[norm].equal(torch.ones(7, 1))
    assert load_file("kept.safetensors")[norm].equal(module.state_dict()[norm])
    assert load_file("kept.safetensors")[key].equal(load_file("ones.safetensors")[key])


@pytest.mark.parametrize("way", WAYS)
def test_norms_alone_are_left_by_a_wildcard(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, key, norm = WAYS[way]
    save_file(_normed(way).state_dict(), "m.safetensors")
    rules = ("-r", "*=normal", "-r", f"{key}=keep")

    assert main(["m.safetensors", *rules, "-n", "--json"]) == 0

    steps = {each["key"]: each for each in json.loads(capsys.readouterr().out)["tensors"]}
    assert steps[norm]["action"] == "skip"
    assert steps[norm]["reason"] == f"follows {key.rpartition('.')[2]}"


@pytest.mark.parametrize("way", WAYS)
def test_norms_that_follow_are_not_skipped_where_skips_are_errors(way: str) -> None:
    _, key, norm = WAYS[way]
    save_file(_normed(way).state_dict(), "m.safetensors")

    rewrite("m.safetensors", ["*=normal"], "out.safetensors", strict=True)

    written = load_file("out.safetensors")
    torch.testing.assert_close(written[norm][:, 0], written[key].norm(dim=1))
    with pytest.raises(UnfillableError, match="follows"):
        rewrite("m.safetensors", ["*=normal", f"{key}=keep"], "other.safetensors", strict=True)


def test_a_plan_says_what_norms_are_of(capsys: pytest.CaptureFixture[str]) -> None:
    save_file(_normed("old").state_dict(), "m.safetensors")

    assert main(["m.safetensors", "-r", "*_v=normal", "-n", "--json"]) == 0
    steps = {each["key"]: each for each in json.loads(capsys.readouterr().out)["tensors"]}
    assert main(["m.safetensors", "-r", "*_v=normal", "-n"]) == 0
    shown = capsys.readouterr()

    norm, direction = steps["0.weight_g"], steps["0.weight_v"]
    assert (norm["action"], norm["norm_of"], norm["rule"]) == ("fill", "0.weight_v", None)
    assert (norm["seed"], norm["seed_key"]) == (direction["seed"], "0.weight_v")
    assert "1 tensor of norms filled to match what is drawn" in shown.out + shown.err


@pytest.mark.parametrize("rule", ["*=normal", "*=orthogonal", "*=scale:2"])
@pytest.mark.parametrize("way", WAYS)
def test_what_was_recorded_is_verified(way: str, rule: str) -> None:
    state = _normed(way).state_dict()
    save_file({**state, "other.weight": torch.ones(3, 3)}, "m.safetensors")

    rewrite("m.safetensors", [rule, "*.bias=zeros"], "out.safetensors", record=True)

    verdict = verify("out.safetensors", source="m.safetensors")
    assert verdict.findings == ()
    assert "scale" in rule or WAYS[way][2] in verdict.drawn


@pytest.mark.parametrize("way", WAYS)
def test_norms_that_were_changed_are_found(way: str) -> None:
    norm = WAYS[way][2]
    save_file(_normed(way).state_dict(), "m.safetensors")
    rewrite("m.safetensors", ["*=normal"], "out.safetensors", record=True)
    was = load_file("out.safetensors")[norm].numpy().tobytes()
    data = Path("out.safetensors").read_bytes()
    assert data.count(was) == 1
    changed = bytes((was[0] ^ 1, *was[1:]))
    Path("out.safetensors").write_bytes(data.replace(was, changed))

    (finding,) = verify("out.safetensors").findings

    assert finding.what == repr(norm)


@pytest.mark.parametrize("rules", [("*.weight_v=normal",), ("*=normal", "*.bias=keep")])
def test_a_record_from_before_is_made_again_as_it_was(
    rules: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then a wildcard filled norms like any other tensor, and a name left them."""
    save_file(_normed("old").state_dict(), "m.safetensors")
    with monkeypatch.context() as before:
        before.setattr("reinit_cli.planning.weight_norm.norms", lambda _: {})
        rewrite("m.safetensors", rules, "old.safetensors", record=True)
    rewrite("m.safetensors", rules, "new.safetensors", record=True)
    old, new = load_file("old.safetensors"), load_file("new.safetensors")
    assert old["0.weight_v"].equal(new["0.weight_v"])
    assert not old["0.weight_g"].equal(new["0.weight_g"])

    assert verify("old.safetensors", source="m.safetensors").findings == ()
    assert verify("new.safetensors", source="m.safetensors").findings == ()


def test_a_change_of_a_weight_changes_its_norms_too() -> None:
    state = _normed("new").state_dict()
    save_file(state, "m.safetensors")

    rewrite("m.safetensors", ["*=scale:2"], "out.safetensors")

    written = load_file("out.safetensors")
    assert all(written[key].equal(2 * tensor) for key, tensor in state.items())


def test_a_change_of_what_is_there_leaves_norms_that_no_rule_takes() -> None:
    state = _normed("old").state_dict()
    save_file(state, "m.safetensors")

    rewrite("m.safetensors", ["*.weight_v=scale:2"], "out.safetensors")

    written = load_file("out.safetensors")
    assert written["0.weight_v"].equal(2 * state["0.weight_v"])
    assert written["0.weight_g"].equal(state["0.weight_g"])


def test_tied_layers_have_tied_norms() -> None:
    first = _normed("old")
    both = nn.ModuleDict({"a": first, "b": first})
    torch.save(both.state_dict(), "m.pt")

    rewrite("m.pt", ["*.weight_v=normal"], "out.pt", stream="torch")

    written = torch.load("out.pt")
    expected = _expected(nn.init.normal_, (7, 5), "a.0.weight_v")
    assert written["b.0.weight_v"].equal(expected)
    assert written["b.0.weight_g"].data_ptr() == written["a.0.weight_g"].data_ptr()
    norms = expected.double().norm(dim=1, keepdim=True).float()
    torch.testing.assert_close(written["a.0.weight_g"], norms, rtol=2e-7, atol=0)


def test_norms_where_zeros_are_kept_are_refused() -> None:
    save_file(_normed("old").state_dict(), "m.safetensors")

    with pytest.raises(UnfillableError, match=r"'0.weight_g' holds its norms, and these are not"):
        rewrite("m.safetensors", ["*.weight_v=normal:keep_zeros=true"], "out.safetensors")

    rules = ["*.weight_v=normal:keep_zeros=true", "*.weight_g=ones"]
    rewrite("m.safetensors", rules, "out.safetensors")


@pytest.mark.parametrize("way", WAYS)
def test_tensors_in_memory_are_filled_alike(way: str) -> None:
    module = _normed(way)
    key = WAYS[way][1]

    apply_(module, ["*=normal"], seed=0, stream="torch")

    expected = _expected(nn.init.normal_, (7, 5), key)
    torch.testing.assert_close(_weight(module), expected, rtol=2e-6, atol=1e-7)


def test_the_moments_of_an_optimizer_are_reset_with_norms() -> None:
    module = _normed("old")
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 5)).sum().backward()
    optimizer.step()
    torch.save({"model": module.state_dict(), "optimizer": optimizer.state_dict()}, "m.pt")
    names = [name for name, _ in module.named_parameters()]

    rewrite("m.pt", ["*.weight_v=normal"], "out.pt", reset_optimizer=True)

    state = torch.load("out.pt")["optimizer"]["state"]
    reset = {names[at] for at, slots in state.items() if not slots["exp_avg"].any()}
    assert reset == {"0.weight_g", "0.weight_v"}


SPECTRAL: Mapping[str, tuple[Callable[[nn.Module], nn.Module], str, set[str]]] = {
    "old": (old_spectral_norm, "0.weight_orig", {"0.weight_u", "0.weight_v"}),
    "new": (
        parametrizations.spectral_norm,
        "0.parametrizations.weight.original",
        {"0.parametrizations.weight.0._u", "0.parametrizations.weight.0._v"},
    ),
}


@pytest.mark.parametrize("way", SPECTRAL)
def test_spectral_norm_is_not_taken_for_weight_norm(
    way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    norm, key, vectors = SPECTRAL[way]
    module = nn.Sequential(norm(nn.Linear(5, 7)))
    state = module.state_dict()
    save_file(state, "m.safetensors")

    rewrite("m.safetensors", ["*=normal"], "out.safetensors", stream="torch")

    written = load_file("out.safetensors")
    assert written[key].equal(_expected(nn.init.normal_, (7, 5), key))
    assert all(written[vector].equal(state[vector]) for vector in vectors)


def test_two_tensors_that_are_called_so_are_weights() -> None:
    """A pair of low rank, as a parametrization of one's own has, and gates."""
    state = {
        "a.parametrizations.weight.original0": torch.zeros(6, 2),
        "a.parametrizations.weight.original1": torch.zeros(2, 6),
        "rnn.W_g": torch.zeros(4, 4),
        "rnn.W_v": torch.zeros(4, 4),
        "original0": torch.zeros(4, 1),
        "original1": torch.zeros(4, 3),
    }
    save_file(state, "m.safetensors")

    rewrite("m.safetensors", ["*=ones"], "out.safetensors")

    assert all(tensor.eq(1).all() for tensor in load_file("out.safetensors").values())


def test_a_large_norm_takes_no_more_memory_than_its_blocks() -> None:
    from reinit_cli.initializers import Normal
    from reinit_cli.initializers.norm import NormOf

    law = NormOf(Normal(0.0, 1.0), (10**6, 10**3), is_wide=False, dim=0)

    assert law.working_nbytes((10**6, 1), 4) < 4 * 10**9 / 3


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_norms_do_not_depend_on_threads(threads: int) -> None:
    before = torch.get_num_threads()
    state = {"w_v": torch.empty(300, 9000), "w_g": torch.empty(300, 1)}
    try:
        torch.set_num_threads(threads)
        apply_(state, ["*=normal"])
    finally:
        torch.set_num_threads(before)

    expected = state["w_v"].double().norm(dim=1, keepdim=True).float()
    torch.testing.assert_close(state["w_g"], expected, rtol=2e-7, atol=0)
    first = {"w_v": torch.empty(300, 9000), "w_g": torch.empty(300, 1)}
    apply_(first, ["*=normal"])
    assert state["w_g"].equal(first["w_g"])


@pytest.mark.parametrize("dim", [0, 1, 2, None])
@pytest.mark.parametrize("shape", [(7, 5, 3), (900, 70, 65), (3, 1, 200_000), (1_100_000, 2, 1)])
def test_norms_are_those_along_any_dimension(shape: tuple[int, ...], dim: int | None) -> None:
    kept = [size if at == dim else 1 for at, size in enumerate(shape)] if dim is not None else []
    state = {"w_v": torch.empty(shape), "w_g": torch.empty(kept)}

    apply_(state, ["*=uniform"])

    others = tuple(at for at in range(3) if at != dim)
    norms = torch.linalg.vector_norm(state["w_v"].double(), dim=others, keepdim=dim is not None)
    torch.testing.assert_close(state["w_g"], norms.float(), rtol=2e-7, atol=0)
