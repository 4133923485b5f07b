"""The state dict in a training checkpoint is found, or named, and everything else is copied."""

from __future__ import annotations

import argparse
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reinit_cli import plan, rewrite
from reinit_cli.checkpoints.formats.base import Located
from reinit_cli.cli import main
from reinit_cli.errors import RuleError, UnfillableError, UnknownNameError, UnsupportedFormatError
from reinit_cli.storage.local import InputFile
from tests.checkpoints.formats.locating import locate


class Net(nn.Module):
    """A module with a tie, a buffer, and a buffer that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 4, bias=False)
        self.head.weight = self.body[0].weight
        self.register_buffer("fleeting", torch.ones(2), persistent=False)
        self.register_buffer("lasting", torch.ones(3))


def _weights() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.ones(3, 2), "a.bias": torch.ones(3)}


def _located(value: Any, root: str | None = None, *, is_zip: bool = True) -> Located:
    torch.save(value, "m.pt", _use_new_zipfile_serialization=is_zip)
    with InputFile("m.pt") as file:
        return locate(file, root)


def _keys(located: Located) -> list[str]:
    return [tensor.key for tensor in located.tensors]


PLACES: dict[str, tuple[Callable[[], Any], str]] = {
    "alone": (_weights, ""),
    "in order": (lambda: OrderedDict(_weights()), ""),
    "by default": (lambda: defaultdict(list, _weights()), ""),
    "beside an epoch": (lambda: {**_weights(), "epoch": 3}, ""),
    "state_dict": (lambda: {"epoch": 3, "state_dict": _weights()}, "state_dict"),
    "model_state_dict": (lambda: {"model_state_dict": _weights()}, "model_state_dict"),
    "model": (lambda: {"model": _weights(), "optimizer": {"state": {}}}, "model"),
    "module": (lambda: {"module": _weights()}, "module"),
    "the first of several": (
        lambda: {"module": _weights(), "model": _weights(), "state_dict": _weights()},
        "state_dict",
    ),
    "within another": (lambda: {"model": {"state_dict": _weights()}}, "model.state_dict"),
    "under an unusual name": (lambda: {"net_g": _weights(), "iteration": 5}, "net_g"),
    "beside a step counter": (
        lambda: {"state_dict": _weights(), "step": torch.tensor(5)},
        "state_dict",
    ),
}


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(("make", "root"), PLACES.values(), ids=PLACES)
def test_the_state_dict_is_found(make: Callable[[], Any], root: str, is_zip: bool) -> None:
    found = _located(make(), is_zip=is_zip)

    assert found.root == root
    assert _keys(found)[:2] == ["a.weight", "a.bias"]


def test_the_root_can_be_named_and_may_have_dots() -> None:
    value = {"model": _weights(), "ema.model": {"inner": {"b.weight": torch.ones(2)}}}

    assert _keys(_located(value, "ema.model.inner")) == ["b.weight"]
    assert _keys(_located(value, "model")) == ["a.weight", "a.bias"]


@pytest.mark.parametrize("root", ["optimizer", "nothing", "model.a", "model.a.weight"])
def test_a_root_that_is_not_a_dictionary_of_tensors_is_refused(root: str) -> None:
    with pytest.raises(UnknownNameError) as refused:
        _located({"model": _weights(), "optimizer": 3}, root)

    assert refused.value.known == ("model",)


@pytest.mark.parametrize("value", [{}, [], 3, {"epoch": 3}, [None, "x"]], ids=repr)
def test_a_file_without_a_state_dict_is_refused(
    value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(value, "m.pt")

    assert main(["m.pt", "-r", "*=zeros"]) == 2
    assert capsys.readouterr().err.startswith("error: 'm.pt' holds no state dict, but ")


def test_copies_of_the_weights_are_mentioned(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": _weights(), "ema": _weights(), "schema": 1}, "m.pt")

    assert main(["m.pt", "-r", "a.bias=zeros", "-n"]) == 0

    captured = capsys.readouterr()
    assert captured.err.count("--root ema") == 1
    assert "copy of the weights: ema: --root ema" in captured.err
    assert "warning" not in captured.err
    assert 'state dict: "state_dict"' in captured.err


def _training_checkpoint() -> dict[str, Any]:
    net = Net()
    optimizer = torch.optim.Adam(net.parameters())
    net.body(torch.ones(3, 4)).sum().backward()
    optimizer.step()
    return {
        "epoch": 7,
        "args": argparse.Namespace(lr=0.1, name="größe"),
        "state_dict": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": [0.5, 0.25],
        "best": {"state": torch.arange(3)},
    }


def test_everything_else_in_a_training_checkpoint_is_what_torch_would_have_saved() -> None:
    value = _training_checkpoint()
    torch.save(value, "m.pt")
    Path("new").mkdir()
    Path("reference").mkdir()

    outcome = rewrite("m.pt", ["*.bias=zeros", "body.1.weight=constant:3"], "new/m.pt")

    state = value["state_dict"]
    state["body.0.bias"].zero_()
    state["body.1.bias"].zero_()
    state["body.1.weight"].fill_(3)
    torch.save(value, "reference/m.pt")
    assert Path("new/m.pt").read_bytes() == Path("reference/m.pt").read_bytes()
    assert any("argparse.Namespace" in warning for warning in outcome.job.plan.warnings)


def test_seeds_are_those_of_keys_within_the_root() -> None:
    torch.save({"state_dict": _weights()}, "nested.pt")
    torch.save(_weights(), "flat.pt")

    rewrite("nested.pt", ["a.*=normal"])
    rewrite("flat.pt", ["a.*=normal"])

    nested = torch.load("nested-reinit.pt")["state_dict"]
    flat = torch.load("flat-reinit.pt")
    assert all(torch.equal(nested[key], flat[key]) for key in flat)


def test_prefixes_stay() -> None:
    found = _located({"state_dict": {f"module.{key}": each for key, each in _weights().items()}})

    assert _keys(found) == ["module.a.weight", "module.a.bias"]


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code:UserWarning")
def test_a_whole_module_has_the_keys_of_its_state_dict(is_zip: bool) -> None:
    net = Net()

    found = _located(net, is_zip=is_zip)

    assert sorted(_keys(found)) == sorted(net.state_dict())
    made = plan("m.pt", ["head.weight=normal"])
    (filled,) = made.fills
    assert (filled.seed_key, filled.tied) == ("body.0.weight", ("head.weight",))


def test_a_module_that_is_filled_is_what_torch_would_have_saved() -> None:
    net = Net()
    torch.save({"model": net, "epoch": 1}, "m.pt")
    Path("new").mkdir()
    Path("reference").mkdir()

    rewrite("m.pt", ["head.weight=constant:2", "lasting=zeros"], "new/m.pt")

    with torch.no_grad():
        net.head.weight.fill_(2)
    net.lasting.zero_()
    torch.save({"model": net, "epoch": 1}, "reference/m.pt")
    assert Path("new/m.pt").read_bytes() == Path("reference/m.pt").read_bytes()


def test_a_tie_takes_one_rule_and_one_seed() -> None:
    shared = torch.ones(4, 3)
    torch.save({"head.weight": shared, "embed.weight": shared, "part": shared[1:2]}, "m.pt")

    with pytest.raises(RuleError):
        rewrite("m.pt", ["head.weight=zeros", "embed.weight=ones"])
    # What meets a tensor without being it is changed by no rule.
    with pytest.raises(UnfillableError, match="it shares memory with 'part'"):
        plan("m.pt", ["head.weight=normal"])


def test_a_warning_names_what_shares_memory_outside_the_state_dict() -> None:
    shared = torch.ones(4, 3)
    torch.save({"state_dict": {"w": shared}, "best": {"w": shared}}, "m.pt")

    made = plan("m.pt", ["w=zeros"])

    assert made.warnings == (
        "'w' also changes 'best.w (outside the state dict)': they are one tensor",
    )
    for output in ("new.pt", "new.safetensors"):  # where it is left out
        done = rewrite("m.pt", ["w=zeros"], output, tensors_only=True)
        assert not [each for each in done.job.plan.warnings if "also changes" in each]
    assert torch.load("new.pt").keys() == {"w"}


def test_names_that_torch_refuses_are_a_warning_or_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save({"state_dict": _weights(), "args": argparse.Namespace(lr=1)}, "m.pt")

    assert main(["m.pt", "-r", "a.bias=zeros", "-n"]) == 0
    assert "warning: the pickle in 'm.pt' names argparse.Namespace, " in capsys.readouterr().err
    with pytest.raises(UnsupportedFormatError, match=r"(?m)names argparse\.Namespace$"):
        rewrite("m.pt", ["a.bias=zeros"], safe_pickle=True)
    assert sorted(path.name for path in Path().glob("*.pt")) == ["m.pt"]


@pytest.mark.parametrize("is_old", [False, True])
def test_what_torch_allows_by_its_name_in_python_2_is_no_warning(
    is_old: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Protocol 2, which torch writes, spells builtins as Python 2 does."""
    more = {"set": {1, 2}, "complex": 1j, "bytes": b"\xff", "bytearray": bytearray(b"\xff")}
    torch.save(
        {"state_dict": _weights(), **more}, "m.pt", _use_new_zipfile_serialization=not is_old
    )
    assert torch.load("m.pt", weights_only=True)["set"] == {1, 2}

    assert main(["m.pt", "-r", "a.bias=zeros", "-n"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert main(["keys", "m.pt", "--meta"]) == 0
    assert "set\tset\t{1, 2}" in capsys.readouterr().out


def test_a_plain_state_dict_names_nothing_unknown() -> None:
    assert _located(Net().state_dict()).unknown_names == ()


def test_tensors_that_have_one_path_have_places_of_their_own() -> None:
    more = {(1,): torch.full((2,), 2.0), (2,): torch.full((2,), 3.0)}
    torch.save({"state_dict": {"w": torch.ones(9)}, "more": more}, "m.pt")

    with InputFile("m.pt") as file:
        located = locate(file)
        (first,), (second,) = (located.places[tensor.key] for tensor in located.outside)
        values = [file.read(place.offset, place.nbytes) for place in (first, second)]
    assert values == [each.numpy().tobytes() for each in more.values()]


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_container_that_holds_itself_is_read_and_changed_once(is_zip: bool) -> None:
    inner: dict[str, Any] = {"w": torch.ones(3, 2)}
    whole: dict[str, Any] = {"a.weight": torch.zeros(2), "inner": inner, "self": None}
    whole["self"] = inner["outer"] = whole
    torch.save({"net": whole, "k": 1}, "m.pt", _use_new_zipfile_serialization=is_zip)

    assert main(["m.pt", "--dtype", "float64", "-o", "out.pt", "-q"]) == 0

    net = torch.load("out.pt")["net"]
    assert net["self"] is net
    assert net["inner"]["outer"] is net
    assert list(net) == ["a.weight", "inner", "self"]
    assert net["inner"]["w"].dtype == net["a.weight"].dtype == torch.float64


@pytest.mark.slow
def test_many_containers_that_hold_each_other_take_bounded_time() -> None:
    many: list[dict[str, Any]] = [{"w": torch.ones(1)} for _ in range(30)]
    for each in many:
        each |= {str(at): other for at, other in enumerate(many)}
    torch.save({"net": many[0]}, "m.pt")
    start = time.process_time()

    assert main(["keys", "m.pt"]) == 2

    assert time.process_time() - start < 20


def test_the_best_losses_of_a_callback_are_no_network(capsys: pytest.CaptureFixture[str]) -> None:
    best = {"best_model_score": torch.tensor(0.5), "best_k_models": {"a/b.ckpt": torch.tensor(0.5)}}
    torch.save({"state_dict": _weights(), "callbacks": {"ModelCheckpoint": best}}, "m.ckpt")

    assert main(["keys", "m.ckpt", "--meta"]) == 0

    assert "--root" not in capsys.readouterr().out


def test_what_is_not_a_tensor_is_not_counted_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({**_weights(), "_extra_state": {"n": 1}, "step": 5}, "m.pt")

    assert main(["keys", "m.pt", "-l"]) == 0

    assert f"total: {len(_weights())} tensors, " in capsys.readouterr().err
