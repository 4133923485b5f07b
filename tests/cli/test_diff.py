"""`diff` and `stats` on the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.cli.conftest import Done


@pytest.fixture
def pair() -> Path:
    state = {"a": torch.tensor([3.0, 4.0]), "b": torch.ones(2, 3), "d": torch.zeros(1)}
    torch.save(state, "a.pt")
    new = {"a": torch.tensor([3.0, 4.5]), "b": torch.ones(3, 2), "c": torch.zeros(4)}
    torch.save(new, "b.pt")
    return Path("a.pt")


HEAD = "change\tkey\tcount\tshape\tdtype\tmoved to\tmax diff\trelative L2\t% changed\tcosine\n"


def test_what_differs_is_listed_and_counted(reinit: Callable[..., Done], pair: Path) -> None:
    done = reinit("diff", "a.pt", "b.pt")

    assert done == Done(
        1,
        HEAD + f"values\ta\t1\t2\tfloat32\t\t0.5\t0.1\t50.0\t{27 / (5 * math.sqrt(29.25))}\n"
        "shape\tb\t1\t2x3 → 3x2\tfloat32\t\t\t\t\t\n"
        "removed\td\t1\t1\tfloat32\t\t\t\t\t\n"
        "added\tc\t1\t4\tfloat32\t\t\t\t\t\n",
        "from: a.pt\nto: b.pt\ntensors: 2 changed (1 in shape, 1 in values), 1 added, 1 removed\n",
    )


def test_repeated_layers_are_one_row_with_the_largest_change(reinit: Callable[..., Done]) -> None:
    state = {f"layers.{at}.{name}": torch.ones(4) for at in range(5) for name in ("w", "b")}
    torch.save(state, "a.pt")
    new = {
        key: tensor + (len(key) + at) * key.endswith("w")
        for at, (key, tensor) in enumerate(state.items())
    }
    torch.save({**new, "layers.0.b": torch.ones(4, dtype=torch.int64)}, "b.pt")

    done = reinit("diff", "a.pt", "b.pt", "--stat")
    form = json.loads(reinit("diff", "a.pt", "b.pt", "--stat", "--json").out)

    _, values, dtype = [line.split("\t") for line in done.out.splitlines()]
    largest = max((new[key] - state[key]).max().item() for key in state)
    assert values[:7] == ["values", "layers.{0..4}.w", "5", "4", "float32", "", str(largest)]
    assert dtype[:5] == ["dtype", "layers.0.b", "1", "4", "float32 → int64"]
    assert done.err.endswith("tensors: 6 changed (1 in dtype, 5 in values), 4 identical\n")
    first, second = form["groups"]
    assert (first["pattern"], first["count"], first["numel"]) == ("layers.{0..4}.w", 5, 20)
    assert (second["pattern"], second["count"]) == ("layers.0.b", 1)
    assert "differences" not in form


def test_differences_are_excluded_sorted_and_cut(reinit: Callable[..., Done]) -> None:
    torch.save({key: torch.ones(4) for key in "abcd"}, "a.pt")
    torch.save(
        {key: torch.ones(4) + at for key, at in {"a": 2, "b": 3, "c": 1, "d": 0}.items()}, "b.pt"
    )

    form = json.loads(reinit("diff", "a.pt", "b.pt", "--sort", "max_abs", "--json").out)
    first = reinit("diff", "a.pt", "b.pt", "-x", "b", "--sort", "max_abs", "--head", "1")

    assert [each["key"] for each in form["differences"]] == ["b", "a", "c"]
    assert first.out.splitlines()[-1].startswith("values\ta\t")
    assert "not shown: 1 row\n" in first.err
    assert reinit("diff", "a.pt", "b.pt", "-x", "[a-c]").code == 0
    assert reinit("diff", "a.pt", "b.pt", "-x", "*").code == 2


def test_nothing_that_differs_is_exit_0(reinit: Callable[..., Done], pair: Path) -> None:
    assert reinit("diff", "a.pt", "a.pt") == Done(
        0, HEAD, "from: a.pt\nto: a.pt\ntensors: 3 identical\n"
    )
    assert reinit("diff", "a.pt", "a.pt", "-q") == Done(0, "", "")
    assert reinit("diff", "a.pt", "b.pt", "-q") == Done(1, "", "")
    assert "same\ta\t1\t2\tfloat32\t" in reinit("diff", "a.pt", "a.pt", "--all").out


def test_patterns_choose_keys(reinit: Callable[..., Done], pair: Path) -> None:
    assert reinit("diff", "a.pt", "b.pt", "b", "-q").code == 1
    assert reinit("diff", "a.pt", "b.pt", "a", "--atol", "0.5", "-q").code == 0
    done = reinit("diff", "a.pt", "b.pt", "nothing")
    assert done.code == 2
    assert done.err.splitlines()[0] == "error: no key of either source matches 'nothing'"
    assert reinit("diff", "a.pt", "b.pt", "a", "nothing", "-q").code == 2


def test_keys_only_reads_no_values(reinit: Callable[..., Done], pair: Path) -> None:
    done = reinit("diff", "a.pt", "b.pt", "--keys-only")

    assert [line.split("\t")[:2] for line in done.out.splitlines()[1:]] == [
        ["shape", "b"],
        ["removed", "d"],
        ["added", "c"],
    ]


def test_differences_as_json_are_versioned(reinit: Callable[..., Done], pair: Path) -> None:
    form = json.loads(reinit("diff", "a.pt", "b.pt", "--json").out)

    assert (form["version"], form["first"], form["second"]) == (1, "a.pt", "b.pt")
    assert form["counts"] == {"added": 1, "removed": 1, "shape": 1, "values": 1}
    assert form["differences"][0] == {
        "key": "a",
        "change": "values",
        "shape": [[2], [2]],
        "dtype": ["float32", "float32"],
        "numel": 2,
        "changed": 1,
        "max_abs": 0.5,
        "relative_l2": 0.1,
        "cosine": pytest.approx(27 / 5 / math.sqrt(29.25)),
    }


def test_a_missing_source_is_told(reinit: Callable[..., Done], pair: Path) -> None:
    done = reinit("diff", "a.pt", "c.pt")

    assert (done.code, done.err.splitlines()[0]) == (2, "error: no such file: 'c.pt'")


# --- stats ---------------------------------------------------------------------------------


@pytest.fixture
def numbers() -> Path:
    state = {
        "a.w": torch.tensor([[1.0, 2.0], [3.0, 0.0]]),
        "a.b": torch.tensor([-1.0, math.nan, math.inf]),
        "n": torch.arange(5),
        "s": torch.eye(2).to_sparse(),
    }
    torch.save(state, "m.pt")
    return Path("m.pt")


def test_tensors_are_measured(reinit: Callable[..., Done], numbers: Path) -> None:
    assert reinit("stats", "m.pt") == Done(
        0,
        "key\telements\tmean\tstd\tmin\tmax\tnorm\tzeros\tNaN\tInf\n"
        f"a.w\t4\t1.5\t{math.sqrt(1.25)}\t0.0\t3.0\t{math.sqrt(14)}\t1\t0\t0\n"
        "a.b\t3\t-1.0\t0.0\t-1.0\t-1.0\t1.0\t0\t1\t1\n"
        f"n\t5\t2.0\t{math.sqrt(2)}\t0\t4\t{math.sqrt(30)}\t1\t0\t0\n",
        "total: 3 tensors\nskipped: s: a sparse tensor\n",
    )


def test_modules_are_measured_together(reinit: Callable[..., Done], numbers: Path) -> None:
    rows = reinit("stats", "m.pt", "a.*", "--by", "module").out.splitlines()

    assert rows == [
        "module\telements\tmean\tstd\tmin\tmax\tnorm\tzeros\tNaN\tInf",
        f"a\t7\t1.0\t{math.sqrt(2)}\t-1.0\t3.0\t{math.sqrt(15)}\t1\t1\t1",
    ]
    assert reinit("stats", "m.pt", "--by", "0").code == 2


def test_a_check_names_what_is_not_finite(reinit: Callable[..., Done], numbers: Path) -> None:
    bad = reinit("stats", "m.pt", "--fail-nan")

    assert bad.code == 1
    assert bad.err.splitlines()[-1] == "error: 'a.b' has 1 NaN and 1 infinity in 3 elements"
    assert reinit("stats", "m.pt", "a.w", "--fail-nan").code == 0


def test_statistics_as_json_are_versioned(reinit: Callable[..., Done], numbers: Path) -> None:
    form = json.loads(reinit("stats", "m.pt", "a.w", "s", "--json").out)

    assert form == {
        "version": 1,
        "tensors": [
            {
                "key": "a.w",
                "numel": 4,
                "mean": 1.5,
                "std": pytest.approx(math.sqrt(1.25)),
                "min": 0.0,
                "max": 3.0,
                "norm": pytest.approx(math.sqrt(14)),
                "zeros": 1,
                "nan": 0,
                "inf": 0,
                "histogram": {
                    "low": 0.0,
                    "high": 3.0,
                    "counts": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1],
                },
            }
        ],
        "skipped": ["s: a sparse tensor"],
    }


def test_statistics_are_sorted_excluded_and_cut(reinit: Callable[..., Done], numbers: Path) -> None:
    by_std = reinit("stats", "m.pt", "--sort", "std").out.splitlines()[1:4]
    first = reinit("stats", "m.pt", "-x", "n", "--sort", "numel", "--head", "1")
    form = json.loads(reinit("stats", "m.pt", "--sort", "nan", "--head", "1", "--json").out)

    assert [line.split("\t")[0] for line in by_std] == ["n", "a.w", "a.b"]
    assert first.out.splitlines()[1].startswith("a.w\t4\t")
    assert first.err.startswith("shown: the first 1 of 2 keys\ntotal: 2 tensors\n")
    assert [each["key"] for each in form["tensors"]] == ["a.b"]


def test_what_is_not_shown_is_checked_too(reinit: Callable[..., Done], numbers: Path) -> None:
    assert reinit("stats", "m.pt", "--head", "1", "--fail-nan").code == 1


def test_histograms_can_have_one_range(reinit: Callable[..., Done]) -> None:
    save_file({"a": torch.tensor([0.0, 8.0]), "b": torch.tensor([3.0, 4.0])}, "m.safetensors")

    form = json.loads(reinit("stats", "m.safetensors", "--same-range", "--json").out)

    assert [each["histogram"] for each in form["tensors"]] == [
        {"low": 0.0, "high": 8.0, "counts": [1, *[0] * 14, 1]},
        {"low": 0.0, "high": 8.0, "counts": [*[0] * 6, 1, 0, 1, *[0] * 7]},
    ]


def test_a_hostile_key_is_escaped(reinit: Callable[..., Done]) -> None:
    save_file({"\x1b[31m": torch.tensor([math.nan])}, "m.safetensors")

    assert "\x1b" not in reinit("stats", "m.safetensors", "--fail-nan").err


def _with_prefix() -> None:
    state = {"fc.weight": torch.arange(6.0).view(2, 3), "fc.bias": torch.ones(2)}
    torch.save({f"module.{key}": tensor for key, tensor in state.items()}, "ddp.pt")
    torch.save(state | {"fc.bias": torch.zeros(2)}, "plain.pt")


def test_a_prefix_that_explains_all_differences_is_named_with_the_command_to_type(
    reinit: Callable[..., Done],
) -> None:
    _with_prefix()

    said = reinit("diff", "ddp.pt", "plain.pt", "--keys-only")

    assert said.err.splitlines()[-1] == (
        "prefix: 2 keys differ only in 'module.', which ddp.pt has in front: "
        "reinit diff ddp.pt plain.pt --rename 'module.*=*'"
    )
    assert json.loads(reinit("diff", "plain.pt", "ddp.pt", "--json").out)["prefix"] == {
        "removed": "",
        "added": "module.",
        "keys": 2,
        "rename": ["*=module.*"],
    }


def test_keys_of_the_first_are_compared_under_new_names(reinit: Callable[..., Done]) -> None:
    _with_prefix()

    done = reinit("diff", "ddp.pt", "plain.pt", "--rename", "module.*=*")

    assert done == Done(
        1,
        HEAD + "values\tfc.bias\t1\t2\tfloat32\t\t1.0\t1.0\t100.0\t\n",
        "from: ddp.pt\nto: plain.pt\ntensors: 1 changed, 1 identical\nrenamed by: module.*=*\n",
    )
    form = json.loads(reinit("diff", "ddp.pt", "plain.pt", "--rename", "module.*=*", "--json").out)
    assert form["rename"] == ["module.*=*"]
    assert [(each["key"], each["source_key"]) for each in form["differences"]] == [
        ("fc.bias", "module.fc.bias")
    ]
    assert (
        reinit("diff", "ddp.pt", "plain.pt", "fc.weight", "--rename", "module.*=*", "-q").code == 0
    )


def test_a_rename_that_matches_nothing_or_too_much_is_refused_by_diff(
    reinit: Callable[..., Done],
) -> None:
    _with_prefix()

    done = reinit("diff", "ddp.pt", "plain.pt", "--rename", "modul.*=*")

    assert (done.code, done.err.splitlines()) == (
        2,
        [
            "error: rename 'modul.*=*' matches no key of ddp.pt",
            "hint: did you mean --rename 'module.*=*'?",
        ],
    )
    assert reinit("diff", "ddp.pt", "plain.pt", "--rename", "*=x").code == 2


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["philox", "torch"])
def test_a_model_without_weights_is_compared_measured_and_shown_as_a_run_copies_it(
    reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    given = ("--weights", "none", "--seed", "3", "--stream", stream)
    name, key = "squeezenet1_1", "classifier.1.weight"
    reinit("run", name, *given, "-o", "copy.pt")

    same = reinit("diff", name, "copy.pt", *given)
    of_model, of_copy = (
        [reinit(*words).out for words in (("show", each, key, *more), ("stats", each, key, *more))]
        for each, more in ((name, given), ("copy.pt", ()))
    )
    monkeypatch.setenv("REINIT_STREAM", stream)
    by_environment = reinit("diff", name, "copy.pt", *given[:4])

    assert (same.code, by_environment.code) == (0, 0)
    assert of_model == of_copy
