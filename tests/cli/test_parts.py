"""Rules on parts of tensors on the command line: plans, tables, hints and completion."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli.cli.completion.candidates import rules_starting
from tests.cli.conftest import Done

Reinit = Callable[..., Done]


@pytest.fixture(autouse=True)
def _model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    state = {"embed.weight": torch.randn(20, 6), "fc.bias": torch.randn(6)}
    save_file(state, "m.safetensors")
    save_file({"mask": torch.eye(20, 6) > 0}, "mask.safetensors")


RULES = (
    *("-r", "embed.weight=normal:std=2", "-r", "embed.weight[:, :3]=zeros"),
    *("-r", "embed.weight[mask=mask.safetensors]=keep", "-r", "fc.bias[1/3]=ones"),
)


def test_a_plan_lists_parts_and_as_a_recipe_does_the_same_again(reinit: Reinit) -> None:
    plan = reinit("m.safetensors", *RULES, "-o", "o.safetensors", "--json", "-n")
    Path("plan.json").write_text(plan.out)
    form = json.loads(plan.out)
    parts = {each["key"]: each.get("parts", []) for each in form["tensors"]}

    of_embed = [(each["part"], each["action"], each["shape"]) for each in parts["embed.weight"]]
    assert of_embed == [(":, :3", "fill", [20, 3]), ("mask=mask.safetensors", "keep", [6])]
    assert [each["part"] for each in parts["fc.bias"]] == ["1/3"]
    assert [each["match"] for each in form["rule"]][1:] == [
        "embed.weight[:, :3]",
        "embed.weight[mask=mask.safetensors]",
        "fc.bias[1/3]",
    ]
    assert reinit("-c", "plan.json", "-q").code == 0
    found, was = load_file("o.safetensors"), load_file("m.safetensors")
    mask = load_file("mask.safetensors")["mask"]
    assert torch.equal(found["embed.weight"][mask], was["embed.weight"][mask])
    assert not found["embed.weight"][:, :3][~mask[:, :3]].any()
    assert torch.equal(
        found["fc.bias"], torch.cat((was["fc.bias"][:2], torch.ones(2), was["fc.bias"][4:]))
    )


def test_a_run_shows_each_part_with_what_was_drawn_and_tested(reinit: Reinit) -> None:
    done = reinit("m.safetensors", *RULES, "-o", "o.safetensors", "-v", "--check", "--json")
    by_part = {
        part["part"]: part
        for each in json.loads(done.out)["tensors"]
        for part in each.get("parts", ())
    }

    mask = load_file("mask.safetensors")["mask"][:, :3]
    before = load_file("m.safetensors")["embed.weight"][:, :3][~mask]
    assert by_part[":, :3"]["after"]["std"] == 0
    assert by_part[":, :3"]["before"]["mean"] == pytest.approx(before.double().mean().item())
    assert by_part[":, :3"]["check"]["passed"]
    table = reinit("m.safetensors", *RULES, "-o", "o.safetensors", "-f", "-v").out
    assert [line.split("\t")[0] for line in table.splitlines()[1:]] == [
        "embed.weight",
        "embed.weight[:, :3]",
        "embed.weight[mask=mask.safetensors]",
        "fc.bias[1/3]",
    ]


def test_an_exclusion_may_be_a_part(reinit: Reinit) -> None:
    assert reinit("m.safetensors", "-r", "*=zeros", "-x", "embed.weight[:4]", "-q").code == 0

    found, was = load_file("m-reinit.safetensors"), load_file("m.safetensors")
    assert torch.equal(found["embed.weight"][:4], was["embed.weight"][:4])
    assert not found["embed.weight"][4:].any()


def test_a_report_shows_parts(reinit: Reinit) -> None:
    done = reinit("m.safetensors", *RULES, "-q", "--report", "page.html")

    assert done.code == 0
    assert "embed.weight[:, :3]" in Path("page.html").read_text()


def test_a_recipe_names_no_mask_outside_its_folder(
    reinit: Reinit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    match = f"embed.weight[mask={tmp_path / 'mask.safetensors'}]"
    rule = {"match": match, "init": "zeros"}
    form = {"source": "m.safetensors", "rule": [rule]}
    (folder / "recipe.json").write_text(json.dumps(form))
    save_file(load_file("m.safetensors"), folder / "m.safetensors")
    monkeypatch.chdir(folder)
    done = reinit("-c", "recipe.json", "-n")

    assert done.code == 2
    assert "mask.safetensors" in done.err
    assert reinit("-c", "recipe.json", "-n", "--allow-path", str(tmp_path)).code == 0


def test_a_rule_with_a_part_is_completed() -> None:
    keys = ["embed.weight", "fc.bias"]

    assert rules_starting(keys, "embed.weight[5:]=zer") == ["embed.weight[5:]=zeros"]
    masked = "embed.weight[mask=mask.safetensors]="
    assert rules_starting(keys, "embed.weight[mask=ma") == [masked]
    assert rules_starting(keys, f"{masked}zer") == [f"{masked}zeros"]
    assert rules_starting(keys, "embed.weight[5:") == []


@pytest.mark.parametrize(
    ("rule", "hint"),
    [
        ("embed.weight[0:2]=mean", "leave it out, or see reinit inits mean"),
        ("embed.weight[0:2]=dirac", "leave it out, or see reinit inits dirac"),
        ("embed.weight[0:99]=dirac", "a part is counted from 0"),
        ("fc.bias[mask=mask.safetensors]=ones", "a mask has the shape of the tensor"),
    ],
)
def test_the_hint_is_on_the_part_only_where_the_part_is_wrong(
    reinit: Reinit, rule: str, hint: str
) -> None:
    done = reinit("m.safetensors", "-r", rule, "-n")

    assert done.code == 2
    assert f"hint: {hint}" in done.err
