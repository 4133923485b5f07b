"""Tied keys become tensors of their own where that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reinit_cli import plan, rewrite


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
