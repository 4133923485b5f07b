"""A cast rounds as torch does, and makes no infinity and no NaN of a number unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import rewrite, verify
from reinit_cli.cli import main
from reinit_cli.errors import TensorError
from reinit_cli.streams.stream import seed_for
from tests.tools import needs_safetensors

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
    if suffix == ".safetensors":
        needs_safetensors(dtype)
    save_file({"a": values}, "m.safetensors")

    rewrite("m.safetensors", [], f"o{suffix}", dtype=dtype, saturate=True)

    state = load_file("o.safetensors") if suffix == ".safetensors" else torch.load("o.pt")
    assert torch.equal(_bits(state["a"]), _bits(values.clamp(-largest, largest).to(wanted)))


@pytest.mark.parametrize("saturate", [False, True])
def test_what_was_infinite_or_nan_stays_so(saturate: bool) -> None:
    needs_safetensors(*NARROW)
    values = torch.tensor([INF, -INF, float("nan"), 1.0])
    save_file({"a": values}, "m.safetensors")

    for dtype in NARROW:
        rewrite("m.safetensors", [], f"{dtype}.safetensors", dtype=dtype, saturate=saturate)
        cast = load_file(f"{dtype}.safetensors")["a"]
        expected = values.to(getattr(torch, dtype))
        # Torch's scalar and vector code make different NaNs.
        is_nan = expected.float().isnan()
        assert torch.equal(cast.float().isnan(), is_nan)
        assert torch.equal(_bits(cast[~is_nan]), _bits(expected[~is_nan]))


def test_a_cast_between_small_dtypes_is_looked_at_too() -> None:
    values = torch.tensor([57344.0, 1.0]).to(torch.float8_e5m2)
    save_file({"a": values}, "m.safetensors")
    with pytest.raises(TensorError, match=r"^'a' cannot be cast: 1 number of it would"):
        rewrite("m.safetensors", [], "o.safetensors", dtype="float8_e4m3fnuz")
    rewrite("m.safetensors", [], "o.safetensors", dtype="float16")


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.uint8])
def test_what_is_not_of_floats_is_laid_out_and_stays_as_it_is(dtype: torch.dtype) -> None:
    needs_safetensors(str(dtype).removeprefix("torch."))
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


def _norms() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        "a.weight": torch.randn(4, 4),
        "a.norm.weight": torch.randn(4).half(),
        "b.norm.weight": torch.randn(4),
        "steps": torch.tensor([1, 2]),
    }


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_the_last_dtype_that_matches_a_tensor_decides_and_only_floats_change(suffix: str) -> None:
    state = _norms()
    torch.save(state, "m.pt")

    rewrite("m.pt", [], f"o{suffix}", dtype=["bfloat16", "*norm*=float32", "b.*=float64"])

    found = load_file("o.safetensors") if suffix == ".safetensors" else torch.load("o.pt")
    wanted = {
        "a.weight": state["a.weight"].bfloat16(),
        "a.norm.weight": state["a.norm.weight"].float(),
        "b.norm.weight": state["b.norm.weight"].double(),
        "steps": state["steps"],
    }
    assert {key: each.dtype for key, each in found.items()} == {
        key: each.dtype for key, each in wanted.items()
    }
    assert all(torch.equal(found[key], each) for key, each in wanted.items())


def test_a_pattern_casts_what_it_matches_and_nothing_else() -> None:
    state = _norms()
    torch.save(state, "m.pt")

    rewrite("m.pt", [], "o.pt", dtype="a.*=bfloat16")

    found = torch.load("o.pt")
    assert found["a.norm.weight"].dtype == torch.bfloat16
    assert torch.equal(found["b.norm.weight"], state["b.norm.weight"])
    assert found["b.norm.weight"].dtype == torch.float32


def test_rules_draw_in_the_dtype_that_a_tensor_gets_and_patterns_see_new_keys() -> None:
    torch.save(_norms(), "m.pt")

    rewrite(
        "m.pt",
        ["c.weight=normal"],
        "o.safetensors",
        rename=["a.weight=c.weight"],
        dtype=["c.*=bfloat16"],
        stream="torch",
    )

    drawn = torch.empty(4, 4).normal_(
        generator=torch.Generator().manual_seed(seed_for(0, "c.weight"))
    )
    assert torch.equal(load_file("o.safetensors")["c.weight"], drawn.bfloat16())


def test_a_tied_tensor_gets_the_last_dtype_that_matches_any_of_its_keys() -> None:
    table = torch.randn(4, 4)
    torch.save({"embed": table, "head": table, "part": table[1:3]}, "m.pt")

    rewrite("m.pt", [], "o.pt", dtype=["bfloat16", "embed=float16"])

    found = torch.load("o.pt")
    assert found["embed"].data_ptr() == found["head"].data_ptr()
    assert torch.equal(found["head"], table.half())
    assert torch.equal(found["part"], table[1:3].bfloat16())


def test_numbers_are_checked_for_each_tensor_in_its_own_dtype() -> None:
    state = {"big": torch.full((3,), 1e5), "small": torch.ones(3)}
    save_file(state, "m.safetensors")

    with pytest.raises(TensorError, match="'big' cannot be cast: 3 numbers"):
        rewrite("m.safetensors", [], "o.safetensors", dtype="float16")
    rewrite("m.safetensors", [], "o.safetensors", dtype=["float16", "big=bfloat16"])

    assert torch.equal(load_file("o.safetensors")["big"], state["big"].bfloat16())


@pytest.mark.parametrize(
    ("pattern", "error"),
    [
        (
            "*nrm*=float32",
            ["error: dtype '*nrm*=float32' matches no key of m.pt", None],
        ),
        (
            "a.nrom.weight=float32",
            [
                "error: dtype 'a.nrom.weight=float32' matches no key of m.pt",
                "hint: did you mean --dtype a.norm.weight=float32?",
            ],
        ),
        (
            "steps=float32",
            ["error: dtype 'steps=float32' matches no floating tensor of m.pt", None],
        ),
        ("a.*=flaot32", ["error: unknown dtype 'flaot32'", "hint: did you mean float32?"]),
        (
            "a.*=int8",
            [
                "error: dtype 'int8' is not a floating-point one",
                "hint: --dtype takes float64, float32, float16, bfloat16 or one of the float8 "
                "dtypes",
            ],
        ),
    ],
)
def test_a_dtype_for_nothing_or_of_no_floats_is_an_error(
    pattern: str, error: list[str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(_norms(), "m.pt")

    assert main(["m.pt", "--dtype", "bfloat16", "--dtype", pattern, "-o", "o.pt"]) == 2

    said = capsys.readouterr().err.splitlines()
    assert said[0] == error[0]
    assert error[1] is None or said[1] == error[1]
    assert not Path("o.pt").exists()


def test_dtypes_of_some_are_in_recipes_and_records() -> None:
    save_file(_norms(), "m.safetensors")
    Path("r.toml").write_text('dtype = ["bfloat16", "*norm*=float32"]\n')

    assert main(["m.safetensors", "-c", "r.toml", "--record", "-o", "o.safetensors"]) == 0

    assert load_file("o.safetensors")["b.norm.weight"].dtype == torch.float32
    assert verify("o.safetensors", source="m.safetensors").holds
    assert (
        main(["m.safetensors", "-c", "o.safetensors", "-o", "again.safetensors", "--record"]) == 0
    )
    assert Path("again.safetensors").read_bytes() == Path("o.safetensors").read_bytes()


def test_floats_that_keep_their_dtype_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    arrays = {f"{name}.weight": torch.ones(2, 2).numpy() for name in "abc"}
    torch.save({"model": arrays}, "arrays.pkl.pt")
    torch.save({"a": torch.ones(2), "b": torch.eye(2).to_sparse(), "n": 3}, "sparse.pt")

    assert main(["arrays.pkl.pt", "--dtype", "float16", "-o", "a.pt"]) == 0
    assert main(["sparse.pt", "--dtype", "float16", "-o", "s.pt"]) == 0

    warned = capsys.readouterr().err
    assert "warning: 'a.weight', a NumPy array, and 2 others keep their dtypes\n" in warned
    assert "warning: 'b', a sparse tensor, keeps its dtype\n" in warned
    assert torch.load("s.pt", weights_only=False)["b"].dtype == torch.float32
    assert main(["arrays.pkl.pt", "-o", "a.safetensors"]) == 2
    assert "'a.weight', a NumPy array and 2 others\n" in capsys.readouterr().err


@pytest.mark.parametrize("is_new", [True, False])
def test_what_shares_memory_with_a_copy_of_the_weights_is_cast_and_filled(is_new: bool) -> None:
    state = {"a": torch.zeros(3), "b": torch.zeros(2)}
    state["c"] = state["a"]
    saved = {"state_dict": state, "state_dict_ema": dict(state)}
    torch.save(saved, "m.pt", _use_new_zipfile_serialization=is_new)

    rewrite("m.pt", ["a=ones"], "o.pt", dtype="float64")

    loaded = torch.load("o.pt")
    assert torch.equal(loaded["state_dict"]["a"], torch.ones(3, dtype=torch.float64))
    assert loaded["state_dict"]["c"].data_ptr() == loaded["state_dict"]["a"].data_ptr()
    assert all(
        torch.equal(loaded["state_dict_ema"][key], torch.zeros_like(state[key])) for key in state
    )
