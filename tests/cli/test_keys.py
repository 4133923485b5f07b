"""`keys`: in order or sorted, alone or in groups, as a table, a tree, a count, or what is beside."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reinit_cli.cli.render.listing import tree_lines
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
    assert reinit("keys", "m.safetensors", "-x", "*") == Done(
        1, "", "error: no key of m.safetensors is left: -x excludes all of them\n"
    )


def test_an_exclusion_that_excludes_nothing_is_warned_of(
    reinit: Callable[..., Done], layers: Path
) -> None:
    done = reinit("keys", "m.safetensors", "*weight", "-x", "layers.*", "-x", "haed*")

    assert (done.code, done.out.split()) == (0, ["embed.weight", "head.weight"])
    assert done.err == "warning: -x 'haed*' matches no key of m.safetensors\n"


def test_a_long_list_in_a_pipe_has_tabs(reinit: Callable[..., Done], layers: Path) -> None:
    done = reinit("keys", "m.safetensors", "layers.0.*", "-l")

    header, *rows = [line.split("\t") for line in done.out.splitlines()]
    assert header == ["key", "shape", "dtype", "parameters", "bytes", "kind"]
    assert sorted(rows) == [
        ["layers.0.norm.running_mean", "4", "float16", "", "8", "buffer"],
        ["layers.0.norm.steps", "scalar", "int64", "", "8", "buffer"],
        ["layers.0.up.weight", "8x4", "float32", "32", "128", ""],
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
    assert long[1] == "layers.{0..10}.up.weight\t11\t8x4\tfloat32\t352\t1408\t"


def test_a_tree_has_the_sums_of_modules_and_layers_that_are_alike_once(
    reinit: Callable[..., Done], layers: Path
) -> None:
    done = reinit("keys", "m.safetensors", "layers.{0,1}.*", "embed.*", "--tree")

    rows = [line.split("\t") for line in done.out.splitlines()]
    assert rows[0] == [
        "module",
        "count",
        *("tensors", "shape", "dtype", "parameters", "bytes", "kind"),
    ]
    assert sorted(rows[1:7]) == [
        ["embed.weight", "1", "1", "10x4", "float32", "40", "160", ""],
        ["layers.{0,1}", "2", "6", "", "", "64", "288", ""],
        ["layers.{0,1}.norm", "1", "4", "", "", "", "32", ""],
        ["layers.{0,1}.norm.running_mean", "1", "2", "4", "float16", "", "16", "buffer"],
        ["layers.{0,1}.norm.steps", "1", "2", "scalar", "int64", "", "16", "buffer"],
        ["layers.{0,1}.up.weight", "1", "2", "8x4", "float32", "64", "256", ""],
    ]


def test_a_tree_ends_at_a_depth(reinit: Callable[..., Done], layers: Path) -> None:
    form = json.loads(reinit("keys", "m.safetensors", "--tree", "--depth", "1", "--json").out)

    assert sorted((each["path"], each["count"], each["tensors"]) for each in form["tree"]) == [
        ("embed.weight", 1, 1),
        ("head.weight", 1, 1),
        ("layers.{0..10}", 11, 33),
    ]
    refused = reinit("keys", "m.safetensors", "--depth", "1")
    assert (refused.code, refused.err.splitlines()[0]) == (2, "error: --depth needs --tree")


def test_a_tree_has_lines_on_a_terminal() -> None:
    """The lines are those of `tree`; what is last at its depth has a corner."""
    assert tree_lines([0, 1, 2, 2, 1, 0, 1, 2]) == [
        "",
        "├─ ",
        "│  ├─ ",
        "│  └─ ",
        "└─ ",
        "",
        "└─ ",
        "   └─ ",
    ]


def test_every_view_has_json(reinit: Callable[..., Done], layers: Path) -> None:
    groups = json.loads(reinit("keys", "m.safetensors", "--group", "--json", "layers.*").out)
    tree = json.loads(reinit("keys", "m.safetensors", "--tree", "--json", "*.up.*").out)

    assert json.loads(reinit("keys", "m.safetensors", "--count", "--json").out) == {
        "version": 1,
        "count": 35,
    }
    assert groups["version"] == tree["version"] == 1
    assert {"pattern": "layers.{0..10}.up.weight", "count": 11, "nbytes": 1408}.items() <= next(
        each for each in groups["groups"] if each["pattern"].endswith("weight")
    ).items()
    assert tree["tree"] == [
        {
            "path": "layers.{0..10}.up.weight",
            "depth": 0,
            "count": 11,
            "is_module": False,
            "tensors": 11,
            "parameters": 352,
            "buffers": 0,
            "nbytes": 1408,
            "shape": [8, 4],
            "dtype": "float32",
        }
    ]


@pytest.mark.parametrize("view", [(), ("--group",), ("--tree",), ("-l",)], ids=" ".join)
def test_the_first_rows_alone_can_be_shown(
    view: tuple[str, ...], reinit: Callable[..., Done], layers: Path
) -> None:
    all_of_it = reinit("keys", "m.safetensors", *view, "--json").out if view != ("-l",) else ""
    first = reinit("keys", "m.safetensors", *view, "--head", "2")

    rows = [line for line in first.out.splitlines() if not line.startswith(("key", "module"))]
    assert first.code == 0
    assert len([row for row in rows if row.startswith(("layers", "embed", "head"))]) == 2
    if view == ():
        keys = [json.loads(line)["key"] for line in all_of_it.splitlines()]
        assert rows == keys[:2]


def test_groups_and_branches_are_sorted_by_their_sums(
    reinit: Callable[..., Done], layers: Path
) -> None:
    groups = reinit("keys", "m.safetensors", "--group", "--sort", "bytes").out.splitlines()
    tree = json.loads(reinit("keys", "m.safetensors", "--tree", "--sort", "nbytes", "--json").out)

    # 11 layers of 128 B are more than an embedding of 160 B.
    assert groups[:2] == ["layers.{0..10}.up.weight", "embed.weight"]
    assert tree["tree"][0]["path"] == "layers.{0..10}"


def test_an_order_that_is_misspelled_is_answered_with_the_nearest(
    reinit: Callable[..., Done], layers: Path
) -> None:
    done = reinit("keys", "m.safetensors", "--sort", "bites")

    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[0] == (
        "error: invalid value for '--sort': 'bites' is not one of them; did you mean bytes?"
    )
    assert reinit("diff", "m.safetensors", "m.safetensors", "--sort", "relative-L2").code == 0


def test_the_order_can_be_reversed(reinit: Callable[..., Done], layers: Path) -> None:
    keys = reinit("keys", "m.safetensors", "--sort", "key").out.splitlines()

    assert (
        reinit("keys", "m.safetensors", "--sort", "name", "--reverse").out.splitlines()
        == keys[::-1]
    )


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
    none = reinit("keys", "m.safetensors", "nothing", "--count")
    assert (none.code, none.out) == (1, "0\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("keys", "m.safetensors", "head"),
            "error: no key of m.safetensors matches 'head'\n"
            "hint: to match head.weight, type: reinit keys m.safetensors '*head*'\n",
        ),
        (
            ("stats", "m.safetensors", "up"),
            "error: no key of m.safetensors matches 'up'\n"
            "hint: to match layers.0.up.weight and 10 more, type: reinit stats m.safetensors '*up*'\n",
        ),
        (
            ("show", "m.safetensors", "haed.weight"),
            "error: no key of m.safetensors matches 'haed.weight'\n"
            "hint: did you mean: reinit show m.safetensors head.weight\n",
        ),
        (
            ("diff", "m.safetensors", "m.safetensors", "head.*", "embed"),
            "error: no key of either source matches 'embed'\n"
            "hint: to match embed.weight, type: reinit diff m.safetensors m.safetensors 'head.*' '*embed*'\n",
        ),
        (
            ("keys", "m.safetensors", "*.norn.*"),
            "error: no key of m.safetensors matches '*.norn.*'\n"
            "hint: to match layers.0.norm.steps and 21 more, type: reinit keys m.safetensors '*.norm.*'\n",
        ),
        (
            ("keys", "m.safetensors", "*norn*"),
            "error: no key of m.safetensors matches '*norn*'\n"
            "hint: to match layers.0.norm.steps and 21 more, type: reinit keys m.safetensors '*norm*'\n",
        ),
        (
            ("keys", "m.safetensors", "nothing*"),
            "error: no key of m.safetensors matches 'nothing*'\n"
            "hint: reinit keys m.safetensors lists the keys\n",
        ),
        (
            ("models", "resnet"),
            "error: no model matches 'resnet'\n"
            "hint: to match deeplabv3_resnet101 and 20 more, type: reinit models '*resnet*'\n",
        ),
    ],
    ids=lambda value: " ".join(value[:1]) if isinstance(value, tuple) else "",
)
def test_a_pattern_that_matches_nothing_is_answered_with_one_that_does(
    args: tuple[str, ...], message: str, reinit: Callable[..., Done], layers: Path
) -> None:
    done = reinit(*args)

    assert done == Done(1 if args[0] in ("keys", "stats", "models") else 2, "", message)


def test_what_other_patterns_match_is_listed(reinit: Callable[..., Done], layers: Path) -> None:
    done = reinit("keys", "m.safetensors", "head.*", "haed.*")

    assert (done.code, done.out) == (1, "head.weight\n")
    assert done.err.startswith("error: no key of m.safetensors matches 'haed.*'\n")


def test_a_tie_counts_once_and_is_marked(reinit: Callable[..., Done]) -> None:
    shared = torch.zeros(5, 2)
    torch.save({"head": shared, "embed": shared}, "m.pt")

    done = reinit("keys", "m.pt", "-l")

    assert done.out.splitlines()[1:] == [
        "head\t5x2\tfloat32\t\t\ttied to embed",
        "embed\t5x2\tfloat32\t10\t40\t",
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
        "head.w\t1\t1\t5x2\tfloat32\t\t\ttied to embed.w",
        "embed.w\t1\t1\t5x2\tfloat32\t10\t40\t",
        "x.w\t1\t1\t1\tfloat32\t1\t4\t",
    ]
    assert "total: 3 tensors, 11 parameters, 44 B\n" in reinit("keys", "m.pt", "--meta").err


@pytest.mark.parametrize("args", [("*.weight",), ("-x", "*.bias"), ("--sort", "key")], ids=" ".join)
def test_what_is_beside_the_tensors_cannot_be_chosen(
    args: tuple[str, ...], reinit: Callable[..., Done], layers: Path
) -> None:
    done = reinit("keys", "m.safetensors", "--meta", *args)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(
        "error: --meta shows all of SOURCE; PATTERN and its options choose keys\n"
    )


def test_what_is_beside_the_tensors_is_shown(reinit: Callable[..., Done], layers: Path) -> None:
    source, format_, total, *metadata = reinit("keys", "m.safetensors", "--meta").out.splitlines()

    assert (source, format_) == ("source\tm.safetensors", "format\tsafetensors")
    assert total == "total\t35 tensors, 432 parameters, 55 in buffers, 1.9 kB"
    assert sorted(metadata) == ["metadata author\tsomebody", "metadata format\tpt"]


def test_the_weights_and_the_config_of_a_folder_are_told(reinit: Callable[..., Done]) -> None:
    weights = torch.nn.Linear(2, 2).state_dict()
    Path("hf").mkdir()
    save_file(weights, "hf/model.safetensors")
    Path("hf/config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')

    lines = reinit("keys", "hf", "--meta").out.splitlines()

    nbytes = os.path.getsize("hf/model.safetensors")
    assert f"weights\t1 file, {nbytes} B: model.safetensors" in lines
    assert "config\tLlamaForCausalLM" in lines


def test_what_is_beside_a_state_dict_is_named_and_typed(reinit: Callable[..., Done]) -> None:
    weights = torch.nn.Linear(2, 2).state_dict()
    beside = {"epoch": 3, "args": argparse.Namespace(lr=1), "best": torch.zeros(3)}
    torch.save({"state_dict": weights, **beside}, "m.pt")

    told = reinit("keys", "m.pt", "--meta")
    form = json.loads(reinit("keys", "m.pt", "--meta", "--json").out)

    assert told.err.splitlines() == [
        "source: m.pt",
        "format: torch zip",
        "root: state_dict",
        "total: 2 tensors, 6 parameters, 24 B",
        "attribute: _metadata",
        "unsafe global: argparse.Namespace",
    ]
    assert told.out.splitlines() == [
        "holds\tkind\tvalue\tbytes",
        ".\tdict\t4 members\t",
        "state_dict\tstate dict\t2 tensors\t24",
        "epoch\tint\t3\t",
        "args\targparse.Namespace\t\t",
        "args.lr\tint\t1\t",
        "best\ttensor\t3 float32\t12",
    ]
    assert (form["version"], form["root"], form["tensors"]) == (1, "state_dict", 2)
    assert form["beside"] == ["epoch (int)", "args (argparse.Namespace)", "best (a tensor)"]


@pytest.mark.parametrize(
    "flags",
    [("--tree", "--group"), ("--count", "--head=1"), ("--meta", "--count"), ("-0", "--json")],
    ids=" ".join,
)
def test_what_contradicts_itself_is_refused(
    flags: tuple[str, ...], reinit: Callable[..., Done], layers: Path
) -> None:
    done = reinit("keys", "m.safetensors", *flags)

    assert (done.code, done.out) == (2, "")
    assert done.said.splitlines()[0].endswith(" cannot be combined")


def test_groups_and_trees_of_a_model_need_no_weights(reinit: Callable[..., Done]) -> None:
    done = reinit("keys", "resnet18", "--group", "layer1.*.conv?.weight")

    assert done.out.splitlines() == [f"layer1.{{0,1}}.conv{at}.weight" for at in (1, 2)]
