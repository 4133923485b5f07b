"""Negative numbers in the patterns of every option."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cli.conftest import Done

STACKS = [
    *(f"encoder.layers.{at}.weight" for at in range(4)),
    *(f"decoder.layers.{at}.weight" for at in range(12)),
]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_file({key: torch.full((3, 2), 7.0) for key in STACKS}, "m.safetensors")
    return Path("m.safetensors")


@pytest.mark.usefixtures("model")
def test_every_option_that_takes_a_pattern_counts_from_the_end(
    reinit: Callable[..., Done],
) -> None:
    def written(*options: str) -> dict[str, torch.Tensor]:
        done = reinit("m.safetensors", *options, "-o", "o.safetensors", "--force")
        assert done.code == 0, done.err
        return load_file("o.safetensors")

    last = {"decoder.layers.11.weight", "encoder.layers.3.weight"}
    pattern = "*.layers.{-1}.weight"
    filled = written("-r", f"{pattern}=zeros")
    assert {key for key, value in filled.items() if not value.any()} == last
    kept = written("-r", "*=zeros", "-x", pattern)
    assert {key for key, value in kept.items() if value.any()} == last
    assert written("--only", pattern).keys() == last
    assert written("--drop", pattern).keys() == set(STACKS) - last
    cast = written("--dtype", f"{pattern}=bf16")
    assert {key for key, value in cast.items() if value.dtype == torch.bfloat16} == last
    sized = written("--resize", "*.layers.{-1}.weight=5:zeros")
    assert {key for key, value in sized.items() if value.shape == (5, 2)} >= last
    assert set(reinit("keys", "m.safetensors", pattern).out.split()) == last


@pytest.mark.usefixtures("model")
def test_a_plan_and_a_recipe_carry_the_pattern_as_it_was_asked_for(
    reinit: Callable[..., Done],
) -> None:
    rule = ["-r", "*.layers.{-2..-1}.weight=normal:std=0.02"]
    plan = reinit("m.safetensors", *rule, "-o", "a.safetensors", "-n", "--json").out
    Path("plan.json").write_text(plan)
    assert json.loads(plan)["rule"][0]["match"] == "*.layers.{-2..-1}.weight"

    assert reinit("m.safetensors", *rule, "-o", "a.safetensors").code == 0
    assert reinit("-c", "plan.json", "-o", "b.safetensors").code == 0

    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()
