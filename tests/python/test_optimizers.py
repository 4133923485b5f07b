"""An optimizer in memory forgets exactly the parameters that are filled."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import nn

from reinit_cli import apply_
from reinit_cli.errors import RuleError

OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    name: (each, {})
    for name, each in vars(torch.optim).items()
    if inspect.isclass(each) and issubclass(each, torch.optim.Optimizer)
    # SparseAdam takes sparse gradients alone, Muon matrices alone, and LBFGS has one state for all.
    if name not in ("Optimizer", "SparseAdam", "Muon", "LBFGS")
}
OPTIMIZERS["SGD with momentum"] = (torch.optim.SGD, {"momentum": 0.9, "lr": 0.1})
OPTIMIZERS["Adam with amsgrad"] = (torch.optim.Adam, {"amsgrad": True})
OPTIMIZERS["Adagrad that begins with 2"] = (torch.optim.Adagrad, {"initial_accumulator_value": 2.0})


def _trained(
    kind: type[torch.optim.Optimizer], options: dict[str, Any]
) -> tuple[nn.Sequential, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    optimizer: Any = kind(model.parameters(), **{"lr": 0.01, **options})  # type: ignore[call-arg]
    for _ in range(3):
        _step(model, optimizer)
    return model, optimizer


def _step(model: nn.Module, optimizer: Any) -> None:
    for at, parameter in enumerate(model.parameters()):
        parameter.grad = torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape) * (
            at + 1
        )
    optimizer.step()


@pytest.mark.parametrize(("kind", "options"), OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("held", ["a module", "its state dict"])
def test_what_is_filled_steps_as_with_a_new_optimizer_and_the_rest_as_before(
    kind: type[torch.optim.Optimizer], options: dict[str, Any], held: str
) -> None:
    model, optimizer = _trained(kind, options)
    untouched, its_optimizer = _trained(kind, options)
    kept = copy.deepcopy(optimizer.state[model[0].weight])

    target = model if held == "a module" else model.state_dict()
    apply_(target, "1.*=normal:std=0.1", optimizer=optimizer)

    assert _same(optimizer.state[model[0].weight], kept)
    fresh = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    fresh.load_state_dict(model.state_dict())
    its_fresh: Any = kind(fresh.parameters(), **{"lr": 0.01, **options})  # type: ignore[call-arg]
    for each, its in ((model, optimizer), (fresh, its_fresh), (untouched, its_optimizer)):
        _step(each, its)
        _step(each, its)
    for name in ("weight", "bias"):
        assert torch.equal(getattr(model[1], name), getattr(fresh[1], name))
        assert torch.equal(getattr(model[0], name), getattr(untouched[0], name))


def _same(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(torch.as_tensor(value), torch.as_tensor(other[key]))
        for key, value in one.items()
        if value is not None
    )


def test_a_dry_run_leaves_the_optimizer_as_it_is() -> None:
    model, optimizer = _trained(torch.optim.Adam, {})
    before = copy.deepcopy(optimizer.state_dict())

    apply_(model, "*=zeros", optimizer=optimizer, dry_run=True)

    after = optimizer.state_dict()
    assert after["state"].keys() == before["state"].keys()
    assert all(_same(after["state"][at], before["state"][at]) for at in before["state"])


def test_an_optimizer_that_is_reset_can_be_saved_and_loaded() -> None:
    model, optimizer = _trained(torch.optim.Adam, {})

    apply_(model, "1.*=zeros", optimizer=optimizer)

    saved = optimizer.state_dict()
    assert sorted(saved["state"]) == [0, 1]
    again = torch.optim.Adam(model.parameters())
    again.load_state_dict(saved)
    _step(model, again)


def test_a_tied_parameter_is_reset_once() -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(6, 4), "head": nn.Linear(4, 6, bias=False)})
    model["head"].weight = model["embed"].weight
    optimizer = torch.optim.Adam(model.parameters())
    _step(model, optimizer)

    apply_(model, "head.weight=zeros", optimizer=optimizer)

    assert not optimizer.state


REFUSED: dict[str, tuple[Any, str]] = {
    "an optimizer of another model": (
        lambda _: torch.optim.Adam(nn.Linear(2, 2).parameters()),
        "'Adam': it optimizes no tensor of Sequential",
    ),
    "one state for all parameters": (
        lambda model: torch.optim.LBFGS(model.parameters()),
        "'LBFGS': it keeps one state for all of its parameters",
    ),
    "a parameter that is a part of a tensor": (
        lambda model: torch.optim.Adam([model[1].weight.detach()[:1].requires_grad_()]),
        "'Adam': a part of one of its parameters is '1.weight'",
    ),
}


@pytest.mark.parametrize(("made", "said"), REFUSED.values(), ids=REFUSED)
def test_an_optimizer_that_cannot_be_reset_is_refused_before_anything_changes(
    made: Any, said: str
) -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    before = {key: value.clone() for key, value in model.state_dict().items()}

    with pytest.raises(RuleError, match="the optimizer state cannot be reset") as refused:
        apply_(model, "1.*=zeros", optimizer=made(model))

    assert said in str(refused.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_an_optimizer_of_other_layers_has_nothing_to_forget() -> None:
    model, _ = _trained(torch.optim.Adam, {})
    optimizer = torch.optim.Adam(model[0].parameters())
    _step(model, optimizer)
    before = copy.deepcopy(optimizer.state_dict())

    apply_(model, "1.*=zeros", optimizer=optimizer)

    after = optimizer.state_dict()
    assert all(_same(after["state"][at], before["state"][at]) for at in (0, 1))
