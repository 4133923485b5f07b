"""Tied keys are one tensor, whether or not a rule takes them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reinit_cli import rewrite, seed_for, verify
from reinit_cli.cli import main

TABLE = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
BOTH = "{embed,lm_head}.weight"


@pytest.fixture(autouse=True)
def _tied() -> None:
    other = torch.ones(3)
    state = {"lm_head.weight": TABLE, "embed.weight": TABLE, "norm.weight": other}
    torch.save(state, "m.pt")


def _load(path: str) -> dict[str, torch.Tensor]:
    state = load_file(path) if path.endswith(".safetensors") else torch.load(path)
    return dict(state)


@pytest.mark.parametrize("output", ["o.pt", "o.safetensors"])
@pytest.mark.parametrize("pattern", [BOTH, "embed.weight", "lm_head.weight"])
def test_new_rows_of_ties_are_the_same_rows_of_the_first_keys_stream(
    output: str, pattern: str
) -> None:
    rewrite("m.pt", [], output, resize=[f"{pattern}=12:normal:std=1"], stream="torch")

    state = _load(output)
    generator = torch.Generator().manual_seed(seed_for(0, "embed.weight"))
    rows = torch.empty(2, 4).normal_(generator=generator)
    for key in ("embed.weight", "lm_head.weight"):
        assert torch.equal(state[key], torch.cat([TABLE, rows]))
    is_one = state["embed.weight"].data_ptr() == state["lm_head.weight"].data_ptr()
    assert is_one == output.endswith(".pt")


@pytest.mark.parametrize(
    "options", [{"resize": [f"{BOTH}=12:normal:std=1"]}, {"dtype": "bfloat16"}, {}]
)
@pytest.mark.parametrize("output", ["o.pt", "o.safetensors"])
def test_records_of_ties_verify(options: dict[str, object], output: str) -> None:
    rewrite("m.pt", ["norm.weight=normal:std=1"], output, record=True, **options)

    assert verify(output).holds
    assert verify(output, source="m.pt").holds
    state = _load(output)
    assert torch.equal(state["embed.weight"], state["lm_head.weight"])


@pytest.mark.parametrize("output", ["o.pt", "o.safetensors"])
def test_what_became_of_ties_is_told_under_the_first_of_them(output: str) -> None:
    """The file has `lm_head.weight` first, and the stream is that of `embed.weight`."""
    resized = rewrite("m.pt", [], output, resize=[f"{BOTH}=12:normal:std=1"])
    assert list(resized.filled) == ["embed.weight"]

    cast = rewrite("m.pt", [f"{BOTH}=ones"], output, dtype="float16", check=True, force=True)
    assert list(cast.filled) == list(cast.findings) == ["embed.weight"]
    assert cast.filled["embed.weight"].after.mean == 1


@pytest.mark.parametrize("rule", ["*=keep", "*=normal:std=1", "norm.weight=zeros"])
def test_parameters_of_ties_count_once(rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["m.pt", "-r", rule, "-o", "o.pt"]) == 0
    assert "total: 3 tensors, 43 parameters, 172 B" in capsys.readouterr().err.splitlines()
    counted = {"*=keep": "3\t43\t172\t", "*=normal:std=1": "3\t43\t172\t"}.get(rule, "1\t3\t12\t")
    main(["m.pt", "-r", rule, "-o", "again.pt"])
    assert counted in capsys.readouterr().out
    assert Path("o.pt").exists()
