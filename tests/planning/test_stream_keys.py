"""A tensor may be drawn from the stream of another key, which plans and records name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reinit_cli import plan, rewrite, seed_for, verify
from reinit_cli.cli import main
from reinit_cli.initializers import REGISTRY, Site


def _online(site: Site, shape: tuple[int, ...], **arguments: object) -> str:
    """Give the target network of an agent the streams of the network that it copies."""
    del shape, arguments
    return site.key.replace("target.", "online.")


@pytest.fixture(autouse=True)
def _normal_of_online(monkeypatch: pytest.MonkeyPatch) -> None:
    normal = replace(REGISTRY["normal"], drawn_as=_online)
    monkeypatch.setitem(REGISTRY._by_name, "normal", normal)


def _agent(folder: Path) -> str:
    keys = ("online.weight", "target.weight", "online.gate.weight", "target.gate.weight")
    save_file({key: torch.ones(30, 5) for key in keys}, folder / "agent.safetensors")
    return str(folder / "agent.safetensors")


def test_tensors_of_one_stream_are_equal_and_no_warning_says_so(tmp_path: Path) -> None:
    agent, output = _agent(tmp_path), str(tmp_path / "out.safetensors")

    rewrite(agent, ["*=normal"], output, seed=3)

    state = load_file(output)
    assert torch.equal(state["online.weight"], state["target.weight"])
    assert torch.equal(state["online.gate.weight"], state["target.gate.weight"])
    assert not torch.equal(state["online.weight"], state["online.gate.weight"])
    assert plan(agent, ["*=normal"]).warnings == ()


def test_the_plan_names_the_key_of_the_stream(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = _agent(tmp_path)

    assert main([agent, "-r", "*=normal", "--dry-run", "--json", "--stream", "torch"]) == 0

    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)["tensors"]}
    assert rows["target.weight"]["seed_key"] == "online.weight"
    assert rows["online.weight"]["seed_key"] == "online.weight"
    assert rows["target.weight"]["seed"] == seed_for(0, "online.weight")


def test_a_tie_is_drawn_from_the_first_of_the_streams_of_its_keys(tmp_path: Path) -> None:
    shared = torch.ones(30, 5)
    torch.save({"target.a": shared, "middle": shared, "zero": shared}, tmp_path / "m.pt")

    (step,) = plan(str(tmp_path / "m.pt"), ["*=normal"]).fills

    assert (step.key, step.seed_key, step.drawn_from) == ("middle", "middle", "middle")
    torch.save({"target.a": shared, "zero": shared}, tmp_path / "m.pt")
    (step,) = plan(str(tmp_path / "m.pt"), ["*=normal"]).fills
    assert (step.key, step.seed_key, step.drawn_from) == ("target.a", "target.a", "online.a")


@pytest.mark.parametrize(
    "rules",
    [
        ["*=normal"],
        ["target.*[0:10]=normal", "online.*=normal"],
        ["*=zeros", "target.weight[5:10]=normal:std=2", "target.weight[20:30]=uniform"],
    ],
    ids=["whole", "parts", "several parts"],
)
@pytest.mark.parametrize("with_source", [False, True])
def test_a_record_of_another_keys_stream_is_verified(
    rules: list[str], tmp_path: Path, with_source: bool
) -> None:
    agent, output = _agent(tmp_path), str(tmp_path / "out.safetensors")
    rewrite(agent, rules, output, record=True)

    verdict = verify(output, source=agent if with_source else None)

    assert verdict.findings == ()
    assert with_source or "target.weight" in verdict.drawn


def test_a_record_says_whose_stream_and_whose_law(tmp_path: Path) -> None:
    agent, output = _agent(tmp_path), str(tmp_path / "out.safetensors")
    rewrite(agent, ["*=normal"], output, record=True)

    with safe_open(output, "pt") as file:
        record: Any = json.loads(file.metadata()["reinit"])

    rows = {row["key"]: row for row in record["filled"]}
    assert rows["target.weight"]["seed_key"] == "online.weight"
    assert rows["target.weight"]["law_key"] == "target.weight"
    assert "law_key" not in rows["online.weight"]


def test_new_rows_are_drawn_from_the_stream_of_the_whole(tmp_path: Path) -> None:
    agent, output = _agent(tmp_path), str(tmp_path / "out.safetensors")

    rewrite(
        agent,
        [],
        output,
        resize=["online.weight=40:normal", "target.weight=40:normal"],
        record=True,
    )

    state = load_file(output)
    assert torch.equal(state["online.weight"], state["target.weight"])
    assert not torch.equal(state["online.weight"][30:], torch.ones(10, 5))
    assert verify(output).findings == ()
