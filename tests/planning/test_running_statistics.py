"""Running statistics follow the tensors that rules fill."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from reinit_cli import apply_, plan, rewrite


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
