"""A tensor is taken from another checkpoint under another key, of another dtype, as it was there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import apply_, rewrite, verify
from reinit_cli.cli import main
from reinit_cli.errors import TensorError, UnfillableError, UnmatchedRuleError
from reinit_cli.initializers.prefixes import Prefix, fitting_prefixes

EARLY = {
    "fc.weight": torch.linspace(-3, 3, 12).view(3, 4),
    "fc.bias": torch.tensor([0.1, 0.2, 0.3]),
    "steps": torch.tensor(7),
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(EARLY, "early.pt")


def _late(prefix: str = "", dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    state = {
        f"{prefix}{key}": torch.zeros_like(tensor, dtype=dtype if "fc" in key else None)
        for key, tensor in EARLY.items()
    }
    torch.save(state, "late.pt")
    return state


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "a.b.module."])
def test_one_prefix_that_the_source_has_or_lacks_is_found(prefix: str) -> None:
    _late(prefix)
    rewrite("late.pt", ["*=rewind:early.pt"], "out.pt")
    found = torch.load("out.pt")
    assert all(torch.equal(found[prefix + key], tensor) for key, tensor in EARLY.items())

    torch.save({prefix + key: tensor for key, tensor in EARLY.items()}, "early.pt")
    _late()
    rewrite("late.pt", ["*=rewind:early.pt"], "other.pt")
    found = torch.load("other.pt")
    assert all(torch.equal(found[key], tensor) for key, tensor in EARLY.items())


def test_a_prefix_of_one_is_exchanged_for_that_of_the_other() -> None:
    torch.save({f"model.{key}": tensor for key, tensor in EARLY.items()}, "early.pt")
    _late("module.")

    rewrite("late.pt", ["*=rewind:early.pt"], "out.pt")

    found = torch.load("out.pt")
    assert all(torch.equal(found[f"module.{key}"], tensor) for key, tensor in EARLY.items())


def test_of_two_prefixes_none_is_taken_and_each_can_be_named() -> None:
    ema = {f"ema.{key}": tensor + 1 for key, tensor in EARLY.items()}
    torch.save(ema | {f"model.{key}": tensor for key, tensor in EARLY.items()}, "early.pt")
    _late()

    with pytest.raises(UnfillableError) as caught:
        rewrite("late.pt", ["fc.weight=rewind:early.pt"], "out.pt")
    assert caught.value.problem == (
        "'early.pt' has it as 'ema.fc.weight' and 'model.fc.weight'; name one, such as from=ema.*"
    )

    rewrite("late.pt", ["fc.*=rewind:early.pt,from=model.*"], "out.pt")
    assert torch.equal(torch.load("out.pt")["fc.weight"], EARLY["fc.weight"])


@pytest.mark.parametrize(
    ("rule", "key", "source"),
    [
        ("fc.weight=rewind:early.pt,from=fc.weight", "fc.weight", "fc.weight"),
        ("a.*=rewind:early.pt,from=a.*=fc.*", "a.weight", "fc.weight"),
        ("b.w=rewind:early.pt,from=b.w=fc.weight", "b.w", "fc.weight"),
    ],
)
def test_another_key_is_named(rule: str, key: str, source: str) -> None:
    save_file({key: torch.zeros(3, 4)}, "late.safetensors")

    rewrite("late.safetensors", [rule], "out.safetensors")

    assert torch.equal(load_file("out.safetensors")[key], EARLY[source])


def test_a_source_that_has_some_of_the_keys_finds_no_prefix() -> None:
    """A head of the same shape under a longer name is another head."""
    torch.save(EARLY | {"aux.head.weight": torch.ones(2, 2)}, "early.pt")
    torch.save(EARLY | {"head.weight": torch.zeros(2, 2)}, "late.pt")

    with pytest.raises(UnfillableError, match="has no such key"):
        rewrite("late.pt", ["head.weight=rewind:early.pt"], "out.pt")


def test_a_key_that_from_names_and_nobody_has_is_said() -> None:
    _late()

    with pytest.raises(UnfillableError, match=re.escape("'early.pt' has no key 'x.fc.weight'")):
        rewrite("late.pt", ["fc.weight=rewind:early.pt,from=x.*"], "out.pt")
    with pytest.raises(UnmatchedRuleError, match=re.escape("from=m.*=* says nothing of it")):
        rewrite("late.pt", ["fc.*=rewind:early.pt,from=m.*=*"], "out.pt")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e5m2])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_another_dtype_of_floats_is_rounded_once(dtype: torch.dtype, suffix: str) -> None:
    precise = torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4) / 3
    torch.save({"fc.weight": precise}, "early.pt")
    torch.save({"fc.weight": torch.zeros(3, 4, dtype=dtype)}, "late.pt")

    rewrite("late.pt", ["fc.weight=rewind:early.pt"], f"out{suffix}")

    found = torch.load("out.pt") if suffix == ".pt" else load_file("out.safetensors")
    assert found["fc.weight"].dtype == dtype
    assert torch.equal(found["fc.weight"].view(torch.uint8), precise.to(dtype).view(torch.uint8))


def test_a_source_that_is_cast_takes_the_tensor_in_its_new_dtype() -> None:
    _late()

    rewrite("late.pt", ["fc.weight=rewind:early.pt"], "out.pt", dtype="bfloat16")

    assert torch.equal(torch.load("out.pt")["fc.weight"], EARLY["fc.weight"].bfloat16())


def test_numbers_beyond_the_dtype_stop_the_run_or_become_its_largest() -> None:
    torch.save({"fc.weight": torch.full((3, 4), 1e5)}, "early.pt")
    late = {"fc.weight": torch.zeros(3, 4).half()}
    torch.save(late, "late.pt")
    rule = "fc.weight=rewind:early.pt"

    with pytest.raises(TensorError, match="cannot be cast: 12 numbers of it would"):
        rewrite("late.pt", [rule], "out.pt")
    with pytest.raises(TensorError, match="cannot be cast: 12 numbers of it would"):
        apply_(late, [rule])
    assert not Path("out.pt").exists()
    assert not late["fc.weight"].any()

    rewrite("late.pt", [rule], "out.pt", saturate=True)
    assert torch.equal(torch.load("out.pt")["fc.weight"], torch.full((3, 4), 65504.0).half())


def test_a_module_in_memory_takes_the_same_values() -> None:
    state = _late("module.", torch.bfloat16)

    apply_(state, ["module.fc.*=rewind:early.pt"])

    assert torch.equal(state["module.fc.weight"], EARLY["fc.weight"].bfloat16())


def test_other_kinds_of_numbers_are_no_dtypes_to_round_to() -> None:
    torch.save({"fc.weight": torch.zeros(3, 4, dtype=torch.int64), "x": torch.zeros(1)}, "late.pt")

    with pytest.raises(UnfillableError, match="it is float32, not int64"):
        rewrite("late.pt", ["fc.weight=rewind:early.pt"], "out.pt")


def test_the_record_says_where_a_tensor_was_taken_from_and_is_verified() -> None:
    state = {f"module.{key}": torch.zeros_like(each) for key, each in EARLY.items()}
    save_file(state, "late.safetensors")

    rewrite("late.safetensors", ["*.weight=rewind:early.pt"], "out.safetensors", record="r.json")

    (row,) = json.loads(Path("r.json").read_text())["filled"]
    assert (row["key"], row["from"]) == ("module.fc.weight", "fc.weight")
    assert verify("out.safetensors", record="r.json", source="late.safetensors").holds


def test_a_recipe_says_from_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({f"model.{key}": tensor for key, tensor in EARLY.items()}, "early.pt")
    _late()
    Path("r.toml").write_text(
        '[[rule]]\nmatch = "fc.*"\ninit = "rewind"\ncheckpoint = "early.pt"\nfrom = "model.*"\n'
    )

    assert main(["late.pt", "-c", "r.toml", "-o", "out.pt"]) == 0

    assert "fc.weight from model.fc.weight, and 1 more key" in capsys.readouterr().out
    assert torch.equal(torch.load("out.pt")["fc.weight"], EARLY["fc.weight"])


def _shapes(*keys: str) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(keys, (2, 2))


@pytest.mark.parametrize(
    ("mine", "theirs", "prefixes"),
    [
        (_shapes("m.a.w", "m.b.w"), _shapes("a.w", "b.w"), [Prefix(removed="m.")]),
        (_shapes("a.w", "b.w"), _shapes("m.a.w", "m.b.w"), [Prefix(added="m.")]),
        (_shapes("a.w", "b.w"), _shapes("a.w", "b.w", "m.a.w", "m.b.w"), []),
        (_shapes("m.a.w", "m.b.w"), {"a.w": (3,), "b.w": (3,)}, []),
        (_shapes("m.a.w", "m.b.w"), _shapes("n.a.w", "n.b.w"), [Prefix("m.", "n.")]),
        (_shapes("m.a.w", "m.b.w", "m.c.w"), _shapes("w", "x", "y", "z"), []),
        (
            _shapes("m.a.w"),
            _shapes("a.w", "w"),
            [Prefix(removed="m."), Prefix(removed="m.a.")],
        ),
    ],
)
def test_prefixes_fit_that_find_half_of_the_tensors(
    mine: dict[str, tuple[int, ...]],
    theirs: dict[str, tuple[int, ...]],
    prefixes: list[Prefix],
) -> None:
    assert list(fitting_prefixes(mine, theirs)) == prefixes
