"""What an optimizer keeps for tensors that rules fill becomes what a new optimizer starts with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reinit_cli import plan, rewrite
from reinit_cli.cli import main
from reinit_cli.errors import RuleError
from reinit_cli.planning.optimizer_slots import SLOTS
from tests.tools import needs_torch

Make = Callable[[Any], torch.optim.Optimizer]
State = dict[str, Any]

STEPS = 10
TRAINED = 4

OPTIM = torch.optim
KINDS: dict[str, Make] = {
    "Adadelta": lambda params: OPTIM.Adadelta(params, lr=0.5),
    "Adafactor": lambda params: OPTIM.Adafactor(params, lr=0.01),
    "Adagrad": lambda params: OPTIM.Adagrad(params, lr=0.1),
    "Adagrad, with an accumulator": lambda params: OPTIM.Adagrad(
        params, lr=0.1, initial_accumulator_value=0.1
    ),
    "Adagrad, fused": lambda params: OPTIM.Adagrad(params, lr=0.1, fused=True),
    "Adam": OPTIM.Adam,
    "Adam, amsgrad": lambda params: OPTIM.Adam(params, amsgrad=True),
    "Adam, fused": lambda params: OPTIM.Adam(params, fused=True),
    "Adam, foreach": lambda params: OPTIM.Adam(params, foreach=True),
    "Adam, lr a tensor": lambda params: OPTIM.Adam(params, lr=torch.tensor(0.01), foreach=False),
    "AdamW": lambda params: OPTIM.AdamW(params, weight_decay=0.1),
    "Adamax": lambda params: OPTIM.Adamax(params, lr=0.01),
    "ASGD": lambda params: OPTIM.ASGD(params, lr=0.03, t0=2, lambd=0.1, alpha=0.6),
    "Muon": lambda params: OPTIM.Muon(params, lr=0.02),
    "NAdam": lambda params: OPTIM.NAdam(params, lr=0.01),
    "NAdam, foreach": lambda params: OPTIM.NAdam(params, lr=0.01, foreach=True),
    "Rprop, lr a tensor": lambda params: OPTIM.Rprop(params, lr=torch.tensor(0.013), foreach=False),
    "RAdam": lambda params: OPTIM.RAdam(params, lr=0.01),
    "RMSprop": lambda params: OPTIM.RMSprop(params, lr=0.01),
    "RMSprop, centered": lambda params: OPTIM.RMSprop(params, lr=0.01, momentum=0.9, centered=True),
    "Rprop": lambda params: OPTIM.Rprop(params, lr=0.013),
    "SGD": lambda params: OPTIM.SGD(params, lr=0.1),
    "SGD, momentum": lambda params: OPTIM.SGD(params, lr=0.1, momentum=0.9),
    "SGD, dampened": lambda params: OPTIM.SGD(params, lr=0.1, momentum=0.9, dampening=0.4),
    "SGD, nesterov": lambda params: OPTIM.SGD(params, lr=0.1, momentum=0.9, nesterov=True),
    "SGD, fused": lambda params: OPTIM.SGD(params, lr=0.1, momentum=0.9, fused=True),
}


class Net(nn.Module):
    """A network whose two halves differ in shape; of matrices alone, as Muon wants them."""

    def __init__(self, *, has_bias: bool, rows: int = 4) -> None:
        super().__init__()
        self.body = nn.Linear(6, 5, bias=has_bias)
        self.head = nn.Linear(5, rows, bias=has_bias)


def net_for(kind: str, saved: State | None = None) -> Net:
    """Return a new network, or one for the weights of a checkpoint."""
    rows = 4 if saved is None else len(saved["model"]["head.weight"])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = Net(has_bias=kind != "Muon", rows=rows)
    if saved is not None:
        net.load_state_dict(saved["model"])
    return net


def gradient(parameter: torch.Tensor, name: str, number: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(number * 100 + len(name))
    return torch.randn(parameter.shape, generator=generator)


def stepped(
    net: nn.Module, optimizer: torch.optim.Optimizer, first: int, count: int
) -> list[State]:
    """Step with fixed gradients; return the weights after each step."""
    path = []
    for number in range(first, first + count):
        for name, parameter in net.named_parameters():
            parameter.grad = gradient(parameter, name, number)
        optimizer.step()
        path.append({key: value.clone() for key, value in net.state_dict().items()})
    return path


def resumed(kind: str, make: Make, saved: State) -> list[State]:
    """Go on from a checkpoint."""
    net = net_for(kind, saved)
    optimizer = make(net.parameters())
    optimizer.load_state_dict(saved["optimizer"])
    return stepped(net, optimizer, TRAINED, STEPS)


def fresh(kind: str, make: Make, saved: State) -> list[State]:
    """Start with a new optimizer from the weights of a checkpoint."""
    net = net_for(kind, saved)
    return stepped(net, make(net.parameters()), TRAINED, STEPS)


def trained(kind: str, make: Make) -> State:
    net = net_for(kind)
    optimizer = make(net.parameters())
    stepped(net, optimizer, 0, TRAINED)
    return {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}


def reset(
    saved: State, tmp_path: Path, rule: str = "head.*=normal:std=0.3", **options: Any
) -> State:
    torch.save(saved, tmp_path / "run.pt")
    options["reset_optimizer"] = True
    rewrite(str(tmp_path / "run.pt"), [rule], str(tmp_path / "out.pt"), **options)
    return torch.load(tmp_path / "out.pt", weights_only=False)


def assert_moves_as_new(kind: str, make: Make, saved: State, after: State) -> None:
    got = resumed(kind, make, after)
    new = fresh(kind, make, after)
    untouched = resumed(kind, make, saved)
    for at in range(STEPS):
        for key, value in got[at].items():
            expected = (new if key.startswith("head.") else untouched)[at][key]
            assert torch.equal(value, expected), (key, at)
    is_resized = after["model"]["head.weight"].shape != saved["model"]["head.weight"].shape
    if any(after["optimizer"]["state"].values()) and not is_resized:
        old = resumed(kind, make, {**saved, "model": after["model"]})
        assert not all(torch.equal(got[-1][key], old[-1][key]) for key in got[-1]), "no reset seen"


@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_parameter_moves_as_it_would_under_a_new_optimizer(
    kind: str, tmp_path: Path
) -> None:
    if kind == "Muon":
        needs_torch("2.9", "Muon is an optimizer")
    saved = trained(kind, KINDS[kind])

    after = reset(saved, tmp_path)

    assert after["epoch"] == 3
    assert_moves_as_new(kind, KINDS[kind], saved, after)


# --- the forms of older versions, and of other libraries ----------------------------------------------


def _with_int_steps(saved: State) -> None:
    for slots in saved["optimizer"]["state"].values():
        slots["step"] = int(slots["step"])


def _with_floats(saved: State) -> None:
    """Save numbers as torch did before 1.11, when `mu_product` was new and a float."""
    _with_int_steps(saved)
    for slots in saved["optimizer"]["state"].values():
        for name in ("mu_product", "eta", "mu"):
            if name in slots:
                slots[name] = float(slots[name])


@pytest.mark.parametrize(
    ("kind", "steps", "is_zip"),
    [
        ("Adam", 4, True),
        ("Adam", 300, True),
        ("Adam", 70_000, False),
        ("Adam", 2**40, False),
        ("NAdam", 4, True),
        ("NAdam", 4, False),
        ("ASGD", 4, True),
        ("Rprop", 4, True),
        ("Adadelta", 4, False),
    ],
)
def test_numbers_are_reset_where_older_versions_have_no_tensors(
    kind: str, steps: int, is_zip: bool, tmp_path: Path
) -> None:
    saved = trained(kind, KINDS[kind])
    _with_floats(saved)
    saved["optimizer"]["state"][3]["step"] = steps
    torch.save(saved, tmp_path / "run.pt", _use_new_zipfile_serialization=is_zip)

    rewrite(
        str(tmp_path / "run.pt"), ["head.*=normal"], str(tmp_path / "out.pt"), reset_optimizer=True
    )

    after = torch.load(tmp_path / "out.pt")
    assert_moves_as_new(kind, KINDS[kind], saved, after)
    for at, slots in after["optimizer"]["state"].items():
        for name, value in saved["optimizer"]["state"][at].items():
            assert type(slots[name]) is type(value)
    assert (tmp_path / "out.pt").stat().st_size == (tmp_path / "run.pt").stat().st_size


def _lbfgs_saved() -> State:
    net = net_for("LBFGS")
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=3)
    _closed(net, optimizer, TRAINED)
    return {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}


def _closed(net: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> list[State]:
    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = sum((each - 0.3).pow(4).sum() for each in net.parameters())
        assert isinstance(value, torch.Tensor)
        value.backward()
        return value

    path = []
    for _ in range(count):
        optimizer.step(loss)
        path.append({key: value.clone() for key, value in net.state_dict().items()})
    return path


def test_lbfgs_starts_again_where_all_of_its_parameters_are_filled(tmp_path: Path) -> None:
    after = reset(_lbfgs_saved(), tmp_path, "*=normal:std=0.3")

    paths = []
    for is_new in (False, True):
        net = net_for("LBFGS")
        net.load_state_dict(after["model"])
        optimizer = torch.optim.LBFGS(net.parameters(), max_iter=3)
        if not is_new:
            optimizer.load_state_dict(after["optimizer"])
        paths.append(_closed(net, optimizer, STEPS))
    for got, expected in zip(*paths, strict=True):
        assert all(torch.equal(got[key], expected[key]) for key in got)


def test_lbfgs_is_refused_where_some_of_its_parameters_are_not_filled(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="is one for 4 parameters, of which no rule fills 'body"):
        reset(_lbfgs_saved(), tmp_path)


def test_sparse_adam_starts_again(tmp_path: Path) -> None:
    def net() -> nn.ModuleDict:
        return nn.ModuleDict(
            {name: nn.Embedding(count, 3, sparse=True) for name, count in (("a", 7), ("b", 5))}
        )

    def stepped(module: nn.ModuleDict, optimizer: torch.optim.Optimizer, first: int) -> list[State]:
        path = []
        for number in range(first, first + STEPS):
            optimizer.zero_grad()
            rows = torch.tensor([number % 5, 2 * number % 5])
            parts = [(module[name](rows) ** 2).sum() for name in module]
            torch.stack(parts).sum().backward()
            optimizer.step()
            path.append({key: value.clone() for key, value in module.state_dict().items()})
        return path

    module = net()
    optimizer = torch.optim.SparseAdam(module.parameters(), lr=0.1)
    stepped(module, optimizer, 0)
    saved = {"model": module.state_dict(), "optimizer": optimizer.state_dict()}
    after = reset(saved, tmp_path, "b.*=normal")

    paths = []
    for state, is_new in ((after, False), (after, True), (saved, False)):
        module = net()
        module.load_state_dict(state["model"])
        optimizer = torch.optim.SparseAdam(module.parameters(), lr=0.1)
        if not is_new:
            optimizer.load_state_dict(state["optimizer"])
        paths.append(stepped(module, optimizer, STEPS))
    for got, new, untouched in zip(*paths, strict=True):
        assert torch.equal(got["b.weight"], new["b.weight"])
        assert torch.equal(got["a.weight"], untouched["a.weight"])


def test_each_group_has_an_accumulator_of_its_own(tmp_path: Path) -> None:
    def make(params: Any) -> torch.optim.Optimizer:
        listed = list(params)
        optimizer = torch.optim.Adagrad(
            [{"params": listed[:2]}, {"params": listed[2:]}], lr=0.1, initial_accumulator_value=0.1
        )
        optimizer.param_groups[1]["initial_accumulator_value"] = 0.3
        for parameter in listed[2:]:
            optimizer.state[parameter]["sum"].fill_(0.3)
        return optimizer

    saved = trained("Adagrad", make)

    assert_moves_as_new("Adagrad", make, saved, reset(saved, tmp_path))


@pytest.mark.parametrize("rows", [7, 2])
@pytest.mark.parametrize(
    "kind",
    ["Adam", "Adagrad, with an accumulator", "Adafactor", "Rprop", "SGD, dampened", "SGD", "NAdam"],
)
def test_a_resized_parameter_moves_as_it_would_under_a_new_optimizer(
    kind: str, rows: int, tmp_path: Path
) -> None:
    saved = trained(kind, KINDS[kind])

    after = reset(saved, tmp_path, "head.bias=zeros", resize=[f"head.weight={rows}:normal"])

    assert after["epoch"] == 3
    assert after["model"]["head.weight"].shape == (rows, 5)
    assert_moves_as_new(kind, KINDS[kind], saved, after)


def test_a_cast_and_a_rename_keep_the_optimizer_and_reset_it(tmp_path: Path) -> None:
    saved = trained("Adam", KINDS["Adam"])
    _with_int_steps(saved)

    after = reset(saved, tmp_path, "new.*=normal", dtype="float64", rename=["head.*=new.*"])

    assert after["model"]["new.weight"].dtype == torch.float64
    steps = [after["optimizer"]["state"][at]["step"] for at in range(4)]
    assert steps == [TRAINED, TRAINED, 0, 0]
    assert not after["optimizer"]["state"][2]["exp_avg"].any()


def test_an_optimizer_that_no_longer_fits_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "run.pt", str(tmp_path / "out.pt")
    torch.save(trained("Adam", KINDS["Adam"]), path)

    assert main([str(path), "-r", "head.*=normal", "--resize", "head.weight=7", "-o", out]) == 0

    assert (
        "warning: 'optimizer' no longer fits: it keeps the old shape of 'head.weight'; "
        "--reset-optimizer gives it the new one\n"
    ) in capsys.readouterr().err


def test_lbfgs_cannot_be_resized(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match=r"of 'body\.weight' cannot be resized"):
        reset(_lbfgs_saved(), tmp_path, "*=normal", resize=["head.weight=7"])


def test_tied_keys_that_are_untied_are_refused(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.ones(3, 3))
    optimizer = torch.optim.Adam([weight])
    weight.grad = torch.ones(3, 3)
    optimizer.step()
    model = {"embed": weight.data, "head": weight.data}

    with pytest.raises(RuleError, match="'embed' and 'head' have one state, and are untied"):
        reset(
            {"model": model, "optimizer": optimizer.state_dict()},
            tmp_path,
            "head=zeros",
            untie=True,
        )


def test_every_optimizer_of_torch_is_stepped() -> None:
    needs_torch("2.9", "Muon is an optimizer")
    found = {
        name
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and value is not torch.optim.Optimizer
    }

    assert found == {kind.partition(",")[0] for kind in KINDS} | {"LBFGS", "SparseAdam"}


def test_every_slot_is_named_once_with_its_source() -> None:
    names = [slot.name for slot in SLOTS]

    assert len(set(names)) == len(names)
    assert all(slot.source for slot in SLOTS)


# --- what is written -------------------------------------------------------------------------------


def _net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 5), nn.Linear(5, 2))


def _saved(path: Path, optimizer_of: Callable[[nn.Module], torch.optim.Optimizer]) -> State:
    net = _net()
    optimizer = optimizer_of(net)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        optimizer.zero_grad()
        net(torch.randn(8, 6, generator=generator)).square().sum().backward()
        optimizer.step()
    state = {"model": net.state_dict(), "epoch": 3, "optimizer": optimizer.state_dict()}
    torch.save(state, path)
    return state


def _adam(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(net.parameters())


def test_a_reset_file_is_the_one_that_torch_would_save(tmp_path: Path) -> None:
    state = _saved(tmp_path / "m.pt", _adam)
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


def test_optimizers_anywhere_in_the_file_are_found(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    state = _saved(path, lambda net: torch.optim.SGD(net.parameters(), momentum=0.9))
    torch.save({"state_dict": state["model"], "optimizer_states": [state["optimizer"]]}, path)

    decided = plan(str(path), ["3.*=zeros"], reset_optimizer=True)

    assert [step.key for step in decided.slots] == [
        f"optimizer_states.0.state.{at}.momentum_buffer (outside the state dict)" for at in (6, 7)
    ]


def test_without_an_optimizer_there_is_nothing_to_reset(tmp_path: Path) -> None:
    torch.save(_net().state_dict(), tmp_path / "m.pt")

    with pytest.raises(RuleError, match=r"reset: .*: it holds no optimizer state"):
        plan(str(tmp_path / "m.pt"), ["1.weight=ones"], reset_optimizer=True)


def test_where_the_optimizer_would_be_lost_it_is_not_reset_in_silence(tmp_path: Path) -> None:
    _saved(tmp_path / "m.pt", _adam)

    with pytest.raises(RuleError, match="lost where a file is laid out anew"):
        rewrite(
            str(tmp_path / "m.pt"),
            ["3.*=zeros"],
            str(tmp_path / "o.safetensors"),
            reset_optimizer=True,
            tensors_only=True,
        )


def _odd_slot(state: State) -> None:
    state[6]["trust"] = torch.ones(2)


def _odd_list(state: State) -> None:
    state[6]["exp_avg"] = [1.0]


def _one_step(state: State) -> None:
    step = torch.tensor(3.0)
    for slots in state.values():
        slots["step"] = step


def _one_shape_twice(state: State) -> None:
    state[6]["exp_avg"] = torch.ones(3)


UNRESETTABLE: dict[str, tuple[Callable[[State], None], str]] = {
    "a slot that nobody knows": (
        _odd_slot,
        "nothing says what its 'trust' of '3.weight' starts as",
    ),
    "a slot that is a list": (_odd_list, "its 'exp_avg' of '3.weight' starts as"),
    "a step that others share": (
        _one_step,
        "state.0.step .*: it is of parameter 5 too, which no rule fills",
    ),
    "slots of two shapes": (
        _one_shape_twice,
        "exp_avg of parameter 6 is 3, unlike its other slots",
    ),
}


@pytest.mark.parametrize("name", UNRESETTABLE)
def test_what_cannot_be_reset_is_refused_by_name(name: str, tmp_path: Path) -> None:
    change, problem = UNRESETTABLE[name]
    state = _saved(tmp_path / "m.pt", _adam)
    change(state["optimizer"]["state"])
    torch.save(state, tmp_path / "m.pt")

    with pytest.raises(RuleError, match=problem):
        rewrite(str(tmp_path / "m.pt"), ["3.*=zeros"], str(tmp_path / "o.pt"), reset_optimizer=True)
    assert not (tmp_path / "o.pt").exists()


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_dampened_momentum_does_not_start_as_zeros_and_is_left_out(
    is_zip: bool, tmp_path: Path
) -> None:
    def dampened(net: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(net.parameters(), momentum=0.9, dampening=0.5)

    saved = _saved(tmp_path / "m.pt", dampened)
    torch.save(saved, tmp_path / "m.pt", _use_new_zipfile_serialization=is_zip)

    rewrite(str(tmp_path / "m.pt"), ["3.*=zeros"], str(tmp_path / "o.pt"), reset_optimizer=True)

    after = torch.load(tmp_path / "o.pt")
    assert after["epoch"] == 3
    for number, slots in after["optimizer"]["state"].items():
        assert list(slots) == ([] if number in (6, 7) else ["momentum_buffer"])
