"""`keys`: in order or sorted, alone or in groups, as a table, a tree, a count, or what is beside."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.cli.conftest import Done


@pytest.fixture
def layers() -> Path:
    state = {"embed.weight": torch.zeros(10, 4), "head.weight": torch.zeros(10, 4)}
    for at in range(11):
        state[f"layers.{at}.up.weight"] = torch.zeros(8, 4)
        state[f"layers.{at}.norm.running_mean"] = torch.zeros(4).half()
        state[f"layers.{at}.norm.steps"] = torch.tensor(1)
    save_file(state, "m.safetensors", {"format": "pt", "author": "somebody"})
    return Path("m.safetensors")


def test_excluded_keys_are_left_out(reinit: Callable[..., Done], layers: Path) -> None:
    done = reinit("keys", "m.safetensors", "*weight", "-x", "layers.*", "-x", "head*")

    assert done.out == "embed.weight\n"
    assert reinit("keys", "m.safetensors", "-x", "*") == Done(1, "", "")


def test_a_long_list_in_a_pipe_has_tabs(reinit: Callable[..., Done], layers: Path) -> None:
    done = reinit("keys", "m.safetensors", "layers.0.*", "-l")

    header, *rows = [line.split("\t") for line in done.out.splitlines()]
    assert header == ["key", "shape", "dtype", "parameters", "bytes", "mark"]
    assert sorted(rows) == [
        ["layers.0.norm.running_mean", "4", "float16", "", "8 B", "buffer"],
        ["layers.0.norm.steps", "scalar", "int64", "", "8 B", "buffer"],
        ["layers.0.up.weight", "8x4", "float32", "32", "128 B", ""],
    ]
    assert done.err == "total: 3 tensors, 32 parameters, 5 in buffers, 144 B\n"


def test_groups_are_patterns_that_can_be_typed(reinit: Callable[..., Done], layers: Path) -> None:
    done = reinit("keys", "m.safetensors", "--group")

    assert sorted(done.out.splitlines()) == [
        "embed.weight",
        "head.weight",
        "layers.{0..10}.norm.running_mean",
        "layers.{0..10}.norm.steps",
        "layers.{0..10}.up.weight",
    ]
    for pattern in done.out.splitlines():
        assert reinit("keys", "m.safetensors", pattern).code == 0
    long = reinit("keys", "m.safetensors", "--group", "-l", "*.up.*").out.splitlines()
    assert long[1] == "layers.{0..10}.up.weight\t×11\t8x4\tfloat32\t352\t1.4 kB"


def test_a_tree_has_the_sums_of_modules(reinit: Callable[..., Done], layers: Path) -> None:
    done = reinit("keys", "m.safetensors", "layers.{0,1}.*", "--tree")

    rows = [line.split("\t") for line in done.out.splitlines()]
    assert rows[0] == ["module", "tensors", "shape", "dtype", "parameters", "bytes", "mark"]
    assert ["layers", "6", "", "", "64", "288 B", ""] in rows
    assert ["layers.1", "3", "", "", "32", "144 B", ""] in rows
    assert ["layers.1.norm", "2", "", "", "0", "16 B", ""] in rows
    assert ["layers.1.norm.steps", "", "scalar", "int64", "", "8 B", "buffer"] in rows
    assert ["layers.1.up.weight", "", "8x4", "float32", "32", "128 B", ""] in rows


@pytest.mark.parametrize(
    ("order", "first", "last"),
    [
        ("key", "embed.weight", "layers.10.up.weight"),
        ("bytes", "embed.weight", "layers."),
        ("parameters", "embed.weight", "layers."),
        ("dtype", "layers.", "layers."),
    ],
)
def test_keys_can_be_sorted(
    order: str, first: str, last: str, reinit: Callable[..., Done], layers: Path
) -> None:
    found = reinit("keys", "m.safetensors", "--sort", order).out.splitlines()

    assert len(found) == 35
    assert found[0].startswith(first)
    assert found[-1].startswith(last)


def test_numbers_in_keys_are_sorted_as_numbers(reinit: Callable[..., Done], layers: Path) -> None:
    found = reinit("keys", "m.safetensors", "*.up.weight", "--sort", "key").out.splitlines()

    assert found == [f"layers.{at}.up.weight" for at in range(11)]


def test_keys_are_counted(reinit: Callable[..., Done], layers: Path) -> None:
    assert reinit("keys", "m.safetensors", "*.weight", "--count") == Done(0, "13\n", "")
    assert reinit("keys", "m.safetensors", "nothing", "--count") == Done(1, "0\n", "")


def test_a_tie_counts_once_and_is_marked(reinit: Callable[..., Done]) -> None:
    shared = torch.zeros(5, 2)
    torch.save({"head": shared, "embed": shared}, "m.pt")

    done = reinit("keys", "m.pt", "-l")

    assert done.out.splitlines()[1:] == [
        "head\t5x2\tfloat32\t\t\ttied to embed",
        "embed\t5x2\tfloat32\t10\t40 B\t",
    ]
    assert done.err == "total: 2 tensors, 10 parameters, 40 B\n"


def test_a_tie_counts_where_its_other_key_is_not_listed(reinit: Callable[..., Done]) -> None:
    shared = torch.zeros(5, 2)
    torch.save({"head.w": shared, "embed.w": shared, "x.w": torch.zeros(1)}, "m.pt")

    long = reinit("keys", "m.pt", "head.*", "-l")
    tree = reinit("keys", "m.pt", "--tree")

    assert long.err == "total: 1 tensor, 10 parameters, 40 B\n"
    assert tree.err == "total: 3 tensors, 11 parameters, 44 B\n"
    assert tree.out.splitlines()[1:] == [
        "head\t1\t\t\t0\t0 B\t",
        "head.w\t\t5x2\tfloat32\t\t\ttied to embed.w",
        "embed\t1\t\t\t10\t40 B\t",
        "embed.w\t\t5x2\tfloat32\t10\t40 B\t",
        "x\t1\t\t\t1\t4 B\t",
        "x.w\t\t1\tfloat32\t1\t4 B\t",
    ]
    assert "total\t3 tensors, 11 parameters, 44 B" in reinit("keys", "m.pt", "--meta").out


@pytest.mark.parametrize("args", [("*.weight",), ("-x", "*.bias"), ("--sort", "key")], ids=" ".join)
def test_what_is_beside_the_tensors_cannot_be_chosen(
    args: tuple[str, ...], reinit: Callable[..., Done], layers: Path
) -> None:
    done = reinit("keys", "m.safetensors", "--meta", *args)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: --meta shows SOURCE whole, so nothing chooses or sorts\n")


def test_what_is_beside_the_tensors_is_shown(reinit: Callable[..., Done], layers: Path) -> None:
    source, format_, total, *metadata = reinit("keys", "m.safetensors", "--meta").out.splitlines()

    assert (source, format_) == ("source\tm.safetensors", "format\tsafetensors")
    assert total == "total\t35 tensors, 432 parameters, 55 in buffers, 1.9 kB"
    assert sorted(metadata) == ["metadata author\tsomebody", "metadata format\tpt"]


def test_what_is_beside_a_state_dict_is_named_and_typed(reinit: Callable[..., Done]) -> None:
    weights = torch.nn.Linear(2, 2).state_dict()
    beside = {"epoch": 3, "args": argparse.Namespace(lr=1), "best": torch.zeros(3)}
    torch.save({"state_dict": weights, **beside}, "m.pt")

    told = reinit("keys", "m.pt", "--meta").out.splitlines()
    form = json.loads(reinit("keys", "m.pt", "--meta", "--json").out)

    assert told == [
        "source\tm.pt",
        "format\ttorch zip",
        "root\tstate_dict",
        "total\t2 tensors, 6 parameters, 24 B",
        "attribute of the state dict\t_metadata",
        "name that torch refuses\targparse.Namespace",
        "holds\tkind\tvalue\tbytes",
        ".\tdict\t4 members\t",
        "state_dict\tstate dict\t2 tensors\t24 B",
        "epoch\tint\t3\t",
        "args\targparse.Namespace\t\t",
        "args.lr\tint\t1\t",
        "best\ttensor\t3 float32\t12 B",
    ]
    assert (form["version"], form["root"], form["tensors"]) == (1, "state_dict", 2)
    assert form["beside"] == ["epoch (int)", "args (argparse.Namespace)", "best (a tensor)"]


@pytest.mark.parametrize(
    "flags",
    [("--tree", "--group"), ("--count", "--json"), ("--meta", "--count"), ("-0", "--json")],
    ids=" ".join,
)
def test_what_contradicts_itself_is_refused(
    flags: tuple[str, ...], reinit: Callable[..., Done], layers: Path
) -> None:
    done = reinit("keys", "m.safetensors", *flags)

    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[0].endswith(" do not go together")


def test_groups_and_trees_of_a_model_need_no_weights(reinit: Callable[..., Done]) -> None:
    done = reinit("keys", "resnet18", "--group", "layer1.*.conv?.weight")

    assert done.out.splitlines() == [f"layer1.{{0,1}}.conv{at}.weight" for at in (1, 2)]
