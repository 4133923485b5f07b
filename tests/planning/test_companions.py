"""Running statistics, ties and optimizer state follow the tensors that rules fill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from reinit_cli import apply_, plan, rewrite
from reinit_cli.errors import RuleError

# --- running statistics ----------------------------------------------------------------------


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        )
        net(torch.randn(5, 3, 9, 9) * 3)
    torch.save(net.state_dict(), tmp_path / "m.pt")
    return tmp_path / "m.pt"


def test_statistics_are_reset_with_the_weights_of_their_module_and_no_others(trained: Path) -> None:
    before = torch.load(trained)
    out = trained.with_name("out.pt")

    rewrite(str(trained), ["1.weight=ones"], str(out), with_buffers=True)

    after = torch.load(out)
    assert after["1.running_mean"].tolist() == [0] * 4
    assert after["1.running_var"].tolist() == [1] * 4
    assert after["1.num_batches_tracked"].item() == 0
    same = [key for key in before if torch.equal(before[key], after[key])]
    assert set(same) >= {key for key in before if not key.startswith("1.")}


@pytest.mark.parametrize(
    ("rules", "actions"),
    [
        (["1.weight=ones"], ["fill", "fill", "fill"]),
        (["1.bias=zeros", "1.running_var=keep"], ["fill", "keep", "fill"]),
        (["1.*=ones"], ["fill", "fill", "fill"]),
        (["1.weight=scale:2"], ["copy", "copy", "copy"]),
        (["0.weight=ones"], ["copy", "copy", "copy"]),
    ],
)
def test_rules_have_the_last_word(rules: list[str], actions: list[str], trained: Path) -> None:
    decided = plan(str(trained), rules, with_buffers=True)

    names = ("running_mean", "running_var", "num_batches_tracked")
    found = {step.key: step.action for step in decided.steps}
    assert [found[f"1.{name}"] for name in names] == actions


def test_the_statistics_of_a_module_in_memory_are_reset_too() -> None:
    with torch.random.fork_rng():
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        net(torch.randn(5, 3))

    apply_(net, ["1.weight=ones"], with_buffers=True)

    assert net[1].running_var.tolist() == [1] * 4


# --- ties --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_untied_keys_are_tensors_of_their_own(suffix: str, tmp_path: Path) -> None:
    weight = torch.arange(12.0).view(3, 4)
    torch.save({"embed": weight, "head": weight, "other": torch.ones(2)}, tmp_path / "m.pt")
    out = tmp_path / f"out{suffix}"

    rewrite(str(tmp_path / "m.pt"), ["head=zeros"], str(out), untie=True)

    after = torch.load(out) if suffix == ".pt" else load_file(out)
    assert torch.equal(after["embed"], weight)
    assert torch.equal(after["head"], torch.zeros(3, 4))
    assert after["embed"].data_ptr() != after["head"].data_ptr()


def test_untied_keys_take_rules_and_streams_of_their_own(tmp_path: Path) -> None:
    weight = torch.ones(3, 4)
    torch.save({"embed": weight, "head": weight}, tmp_path / "m.pt")

    decided = plan(str(tmp_path / "m.pt"), ["embed=normal", "head=uniform"], untie=True)

    assert [(step.seed_key, step.tied) for step in decided.fills] == [("embed", ()), ("head", ())]


# --- optimizer state ---------------------------------------------------------------------------


def _net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 5), nn.Linear(5, 2))


def _saved(
    path: Path, optimizer_of: Callable[[nn.Module], torch.optim.Optimizer], where: str = "optimizer"
) -> dict[str, Any]:
    net = _net()
    optimizer = optimizer_of(net)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        optimizer.zero_grad()
        net(torch.randn(8, 6, generator=generator)).square().sum().backward()
        optimizer.step()
    state: dict[str, Any] = {"model": net.state_dict(), "epoch": 3, where: optimizer.state_dict()}
    torch.save(state, path)
    return state


OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "sgd": lambda net: torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9),
    "adam": lambda net: torch.optim.Adam(net.parameters()),
    "adamw amsgrad": lambda net: torch.optim.AdamW(net.parameters(), amsgrad=True),
    "adagrad": lambda net: torch.optim.Adagrad(net.parameters()),
    "adadelta": lambda net: torch.optim.Adadelta(net.parameters()),
    "rmsprop": lambda net: torch.optim.RMSprop(net.parameters(), momentum=0.9, centered=True),
    "groups with names": lambda net: torch.optim.AdamW(
        [
            {"params": [(n, p) for n, p in net.named_parameters() if p.ndim > 1]},
            {
                "params": [(n, p) for n, p in net.named_parameters() if p.ndim == 1],
                "weight_decay": 0,
            },
        ]
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_slots_of_exactly_what_is_filled_are_zeroed(name: str, tmp_path: Path) -> None:
    before = _saved(tmp_path / "m.pt", OPTIMIZERS[name])["optimizer"]
    names = [each for each, _ in _net().named_parameters()]
    groups = before["param_groups"]
    ids = {
        key: at
        for group in groups
        for at, key in zip(group["params"], group.get("param_names", names), strict=True)
    }

    rewrite(str(tmp_path / "m.pt"), ["2.*=zeros"], str(tmp_path / "out.pt"), reset_optimizer=True)

    after = torch.load(tmp_path / "out.pt")["optimizer"]
    assert after["param_groups"] == groups
    for key, at in ids.items():
        for slot, value in before["state"][at].items():
            got = after["state"][at][slot]
            if key.startswith("2."):
                assert torch.equal(got, torch.zeros_like(value)), (key, slot)
                assert value.any()
            else:
                assert torch.equal(got, value), (key, slot)


def test_a_reset_file_is_the_one_that_torch_would_save(tmp_path: Path) -> None:
    state = _saved(tmp_path / "m.pt", OPTIMIZERS["adam"])
    with torch.no_grad():
        for key in ("3.weight", "3.bias"):
            state["model"][key].zero_()
        for at in (6, 7):
            for slot in state["optimizer"]["state"][at].values():
                slot.zero_()
    (tmp_path / "expected").mkdir()
    torch.save(state, tmp_path / "expected" / "m.pt")

    rewrite(str(tmp_path / "m.pt"), ["3.*=zeros"], str(tmp_path / "out.pt"), reset_optimizer=True)

    assert (tmp_path / "out.pt").read_bytes() == (tmp_path / "expected" / "m.pt").read_bytes()


def test_slots_that_do_not_start_as_zeros_stay_and_are_reported(tmp_path: Path) -> None:
    _saved(tmp_path / "m.pt", lambda net: torch.optim.NAdam(net.parameters()))

    decided = plan(str(tmp_path / "m.pt"), ["3.*=zeros"], reset_optimizer=True)

    assert decided.warnings == (
        "'optimizer' has slots that do not start as zeros, and stay: mu_product",
    )
    assert sorted({step.key.partition(" ")[0].rpartition(".")[2] for step in decided.slots}) == [
        "exp_avg",
        "exp_avg_sq",
        "step",
    ]


def test_optimizers_anywhere_in_the_file_are_found(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    state = _saved(path, OPTIMIZERS["sgd"])
    torch.save({"state_dict": state["model"], "optimizer_states": [state["optimizer"]]}, path)

    decided = plan(str(path), ["3.*=zeros"], reset_optimizer=True)

    assert [step.key for step in decided.slots] == [
        f"optimizer_states.0.state.{at}.momentum_buffer (outside the state dict)" for at in (6, 7)
    ]


def test_a_step_that_is_a_number_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    state = _saved(path, OPTIMIZERS["adam"])
    for slots in state["optimizer"]["state"].values():
        slots["step"] = 3
    torch.save(state, path)

    decided = plan(str(path), ["3.*=zeros"], reset_optimizer=True)

    assert decided.warnings == ("'optimizer' has slots that are no tensors, and stay: step",)


UNMAPPABLE: dict[str, tuple[Callable[[nn.Module], torch.optim.Optimizer], str]] = {
    "several groups": (
        lambda net: torch.optim.Adam(
            [{"params": list(net[:2].parameters())}, {"params": list(net[2:].parameters())}]
        ),
        "its 8 parameters are in several groups without names",
    ),
    "frozen layers": (
        lambda net: torch.optim.Adam(net[2:].parameters()),
        "it has 4 parameters without names, and the state dict 8 tensors",
    ),
    "another order": (
        lambda net: torch.optim.Adam(reversed(list(net.parameters()))),
        "its exp_avg of '0.weight' is 2, and the tensor 5x6",
    ),
}


@pytest.mark.parametrize("name", UNMAPPABLE)
def test_parameters_that_cannot_be_identified_are_an_error(name: str, tmp_path: Path) -> None:
    optimizer_of, problem = UNMAPPABLE[name]
    _saved(tmp_path / "m.pt", optimizer_of)

    with pytest.raises(RuleError, match=problem):
        rewrite(str(tmp_path / "m.pt"), ["3.*=zeros"], str(tmp_path / "o.pt"), reset_optimizer=True)
    assert not (tmp_path / "o.pt").exists()


def test_without_an_optimizer_there_is_nothing_to_reset(trained: Path) -> None:
    with pytest.raises(RuleError, match="holds no optimizer state"):
        plan(str(trained), ["1.weight=ones"], reset_optimizer=True)


def test_where_the_optimizer_would_be_lost_it_is_not_reset_in_silence(tmp_path: Path) -> None:
    _saved(tmp_path / "m.pt", OPTIMIZERS["sgd"])

    with pytest.raises(RuleError, match="lost where a file is laid out anew"):
        rewrite(
            str(tmp_path / "m.pt"),
            ["3.*=zeros"],
            str(tmp_path / "o.safetensors"),
            reset_optimizer=True,
            tensors_only=True,
        )
