"""The state of an optimizer tells which of torch's it is of."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from reinit_cli.operations.info import info

OPTIMIZERS = {
    name: each
    for name, each in vars(torch.optim).items()
    if inspect.isclass(each) and issubclass(each, torch.optim.Optimizer)
    if each is not torch.optim.Optimizer
}


def _kind_of(state: object) -> str:
    torch.save({"model": {"w": torch.zeros(2, 2)}, "optimizer": state}, "run.pt")
    (kind,) = info("run.pt").optimizers.values()
    return kind


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_torch_is_named_before_and_after_a_step(name: str) -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = OPTIMIZERS[name]([weight])
    assert _kind_of(optimizer.state_dict()) == name

    is_sparse = name == "SparseAdam"
    weight.grad = torch.ones(2, 2).to_sparse() if is_sparse else torch.ones(2, 2)
    optimizer.step(lambda: torch.ones(()))
    assert _kind_of(optimizer.state_dict()) == name


def test_adam_of_older_versions_is_not_told_from_adamw() -> None:
    state = torch.optim.Adam([nn.Parameter(torch.ones(2))]).state_dict()
    for group in state["param_groups"]:
        group.pop("decoupled_weight_decay", None)

    assert _kind_of(state) == "Adam or AdamW"


def test_an_optimizer_of_a_stranger_has_no_name() -> None:
    state = {"state": {}, "param_groups": [{"params": [0], "temperature": 3.0}]}
    assert _kind_of(state) == ""
