"""A cast rounds as torch does, and makes no infinity and no NaN of a number unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import rewrite
from reinit_cli.cli import main
from reinit_cli.errors import TensorError

NARROW = ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz"]
INF = float("inf")


def _wide(dtype: str) -> torch.Tensor:
    """Numbers around the largest of a dtype, on both sides, with what is no number."""
    largest = torch.finfo(getattr(torch, dtype)).max
    near = torch.linspace(0.9, 1.2, 4001, dtype=torch.float64) * largest
    near = near.clamp(max=torch.finfo(torch.float32).max).to(torch.float32)
    return torch.cat([near, -near, torch.tensor([0.0, -0.0, 1e-30, 1.5])])


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.uint8)


@pytest.mark.parametrize("dtype", NARROW)
def test_numbers_beyond_a_dtype_stop_the_run_and_are_counted_as_torch_loses_them(
    dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    values = _wide(dtype)
    lost = int((~values.to(getattr(torch, dtype)).float().isfinite()).sum())
    save_file({"a": values, "b": torch.ones(3)}, "m.safetensors")

    code = main(["m.safetensors", "--dtype", dtype, "-o", "o.safetensors"])

    if not lost:  # torch itself saturates a dtype of 8 bits, in some versions
        assert code == 0
        return
    assert code == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: 'a' cannot be cast: {lost:,} numbers of it would become infinite or NaN",
        "hint: --saturate makes them the largest numbers that the dtype has",
    ]
    assert not Path("o.safetensors").exists()


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_saturated_numbers_are_those_that_torch_clamps(dtype: str, suffix: str) -> None:
    values = _wide(dtype)
    wanted = getattr(torch, dtype)
    largest = torch.finfo(wanted).max
    save_file({"a": values}, "m.safetensors")

    rewrite("m.safetensors", [], f"o{suffix}", dtype=dtype, saturate=True)

    state = load_file("o.safetensors") if suffix == ".safetensors" else torch.load("o.pt")
    assert torch.equal(_bits(state["a"]), _bits(values.clamp(-largest, largest).to(wanted)))


@pytest.mark.parametrize("saturate", [False, True])
def test_what_was_infinite_or_nan_stays_so(saturate: bool) -> None:
    values = torch.tensor([INF, -INF, float("nan"), 1.0])
    save_file({"a": values}, "m.safetensors")

    for dtype in NARROW:
        rewrite("m.safetensors", [], f"{dtype}.safetensors", dtype=dtype, saturate=saturate)
        cast = load_file(f"{dtype}.safetensors")["a"]
        assert torch.equal(_bits(cast), _bits(values.to(getattr(torch, dtype))))


def test_a_cast_between_small_dtypes_is_looked_at_too() -> None:
    values = torch.tensor([57344.0, 1.0]).to(torch.float8_e5m2)
    save_file({"a": values}, "m.safetensors")
    with pytest.raises(TensorError, match=r"^'a' cannot be cast: 1 number of it would"):
        rewrite("m.safetensors", [], "o.safetensors", dtype="float8_e4m3fnuz")
    rewrite("m.safetensors", [], "o.safetensors", dtype="float16")


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.uint8])
def test_what_is_not_of_floats_is_laid_out_and_stays_as_it_is(dtype: torch.dtype) -> None:
    values = torch.arange(6).reshape(2, 3).to(dtype).t()
    torch.save({"a": values, "b": torch.ones(2)}, "m.pt")
    rewrite("m.pt", [], "o.safetensors", dtype="float16")
    assert torch.equal(load_file("o.safetensors")["a"], values)


def test_several_tensors_are_counted_in_one_line() -> None:
    save_file({key: torch.full((2,), 1e6) for key in "cab"}, "m.safetensors")
    with pytest.raises(TensorError) as refused:
        rewrite("m.safetensors", [], "o.safetensors", dtype="float16")
    assert str(refused.value) == (
        "'a' cannot be cast: 2 numbers of it, and some of 2 more tensors, "
        "would become infinite or NaN"
    )


def test_a_large_tensor_is_looked_at_in_all_of_its_blocks() -> None:
    values = torch.zeros(1_000_003)
    values[[5, 600_000, 1_000_002]] = 1e6
    save_file({"a": values}, "m.safetensors")
    with pytest.raises(TensorError, match=r"3 numbers of it"):
        rewrite("m.safetensors", [], "o.safetensors", dtype="float16")


def test_plans_name_saturation_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"a": torch.ones(2)}, "m.safetensors")
    asked = ["m.safetensors", "--dtype", "float16", "--dry-run", "--json"]
    main(asked)
    assert "saturate" not in capsys.readouterr().out
    main([*asked, "--saturate"])
    assert json.loads(capsys.readouterr().out)["saturate"] is True
