"""Modules are a tree, in which layers that are alike are one branch."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.operations.tree import Branch, sorted_tree, tree_of
from reinit_cli.request.pattern import Pattern
from reinit_cli.tensors.info import TensorInfo


def _tensors(*keys: str, shape: tuple[int, ...] = (2,)) -> list[TensorInfo]:
    return [TensorInfo(key, "float32", shape, 8) for key in keys]


def _rows(tree: list[Branch]) -> list[tuple[str, int, int]]:
    return [(each.name, each.depth, each.copies) for each in tree]


def test_every_module_comes_before_its_contents() -> None:
    tensors = _tensors("a.x.w", "a.x.b", "c", "a.y.w", "a.y.v")

    assert [
        (each.path, each.depth, each.leaves, each.parameters, each.nbytes, each.tensor)
        for each in tree_of(tensors)
    ] == [
        ("a", 0, 4, 8, 32, None),
        ("a.x", 1, 2, 4, 16, None),
        ("a.x.w", 2, 1, 2, 8, tensors[0]),
        ("a.x.b", 2, 1, 2, 8, tensors[1]),
        ("a.y", 1, 2, 4, 16, None),
        ("a.y.w", 2, 1, 2, 8, tensors[3]),
        ("a.y.v", 2, 1, 2, 8, tensors[4]),
        ("c", 0, 1, 2, 8, tensors[2]),
    ]


def test_layers_that_are_alike_are_one_branch_with_the_sums_of_all() -> None:
    names = ("attn.q.weight", "attn.k.weight", "norm.weight")
    keys = [f"model.layers.{at}.{name}" for at in range(12) for name in names]

    tree = tree_of(_tensors("model.embed.weight", *keys))

    assert _rows(tree) == [
        ("model", 0, 1),
        ("embed.weight", 1, 1),
        ("layers.{0..11}", 1, 12),
        ("attn", 2, 1),
        ("q.weight", 3, 1),
        ("k.weight", 3, 1),
        ("norm.weight", 2, 1),
    ]
    assert [(each.leaves, each.parameters) for each in tree[2:4]] == [(36, 72), (24, 48)]


def test_experts_within_layers_are_counted_in_each() -> None:
    keys = [f"{at}.{name}" for at in range(4) for name in ("norm", "e.0.w", "e.1.w", "e.2.w")]

    tree = tree_of(_tensors(*keys))

    assert _rows(tree) == [("{0..3}", 0, 4), ("norm", 1, 1), ("e.{0..2}.w", 1, 3)]
    assert [each.leaves for each in tree] == [16, 4, 12]


@pytest.mark.parametrize(
    "other",
    [
        TensorInfo("1.w", "float16", (2,), 4),
        TensorInfo("1.w", "float32", (2, 1), 8),
        TensorInfo("1.v", "float32", (2,), 8),
        TensorInfo("1.w", "float32", (2,), 0, carried="a sparse tensor"),
    ],
)
def test_a_layer_of_another_kind_is_a_branch_of_its_own(other: TensorInfo) -> None:
    keys = ("0.w", "0.b", "1.b", "2.w", "2.b")

    tree = tree_of([*_tensors(*keys), other])

    assert [each.path for each in tree if each.depth == 0] == ["{0,2}", "1"]


def test_only_whole_numbers_are_joined() -> None:
    assert _rows(tree_of(_tensors("block1.w", "block2.w", "01.w", "02.w"))) == [
        (name, 0, 1) for name in ("block1.w", "block2.w", "01.w", "02.w")
    ]


def test_a_tree_ends_at_a_depth_with_the_sums_of_what_lies_deeper() -> None:
    tree = tree_of(_tensors("a.b.c.w", "a.b.c.v", "a.b.d.e.w", "a.b.d.e.v", "a.x"), deepest=2)

    assert [(each.path, each.leaves) for each in tree] == [("a", 5), ("a.b", 4), ("a.x", 1)]


def test_a_tensor_and_a_module_may_have_one_name() -> None:
    assert [(each.path, bool(each.tensor)) for each in tree_of(_tensors("a", "a.b", "a.c"))] == [
        ("a", True),
        ("a", False),
        ("a.b", True),
        ("a.c", True),
    ]


def test_what_is_repeated_adds_to_no_sum() -> None:
    tree = tree_of(_tensors("a.v", "a.w", "b.w"), {"a.w"}, {"a.w": "a.v"})

    assert [(each.path, each.leaves, each.parameters) for each in tree] == [
        ("a", 2, 2),
        ("a.v", 1, 2),
        ("a.w", 1, 0),
        ("b.w", 1, 2),
    ]


def test_what_lies_in_one_branch_is_sorted_with_what_lies_in_it() -> None:
    tree = tree_of(_tensors("a", "b.x.w", "b.x.v", "b.y", "c.w", "c.v"))

    found = sorted_tree(tree, lambda branch: -branch.nbytes)

    assert [each.path for each in found] == [
        *("b", "b.x", "b.x.w", "b.x.v", "b.y"),
        *("c", "c.w", "c.v"),
        "a",
    ]


def test_buffers_are_apart_from_parameters() -> None:
    keys = [f"{at}.{name}" for at in range(3) for name in ("weight", "mean")]

    tree = tree_of(_tensors(*keys), buffers={f"{at}.mean" for at in range(3)})

    assert [(each.path, each.parameters, each.buffers) for each in tree] == [
        ("{0..2}", 6, 6),
        ("{0..2}.weight", 6, 0),
        ("{0..2}.mean", 0, 6),
    ]


def test_layers_that_are_tied_in_the_same_way_are_alike() -> None:
    keys = ("0.v", "0.w", "1.v", "1.w")

    within = tree_of(_tensors(*keys), {"0.w", "1.w"}, {"0.w": "0.v", "1.w": "1.v"})
    across = tree_of(_tensors(*keys), {"1.w"}, {"1.w": "0.w"})

    assert _rows(within) == [("{0,1}", 0, 2), ("v", 1, 1), ("w", 1, 1)]
    assert _rows(across)[0] == ("0", 0, 1)


_SEGMENTS = st.sampled_from(
    ["0", "1", "2", "3", "10", "01", "a", "*", "{b}", "[c]", "re:", "", "é"]
)
_KEYS = st.lists(
    st.lists(_SEGMENTS, min_size=1, max_size=4).map(".".join), unique=True, max_size=40
)


@given(_KEYS)
def test_every_tensor_is_in_the_tree_once_and_paths_are_patterns_of_them(keys: list[str]) -> None:
    keys = [key for key in keys if key]
    tree = tree_of(_tensors(*keys))

    named = [
        [keys[at] for at in Pattern.parse(each.path).select(keys)] for each in tree if each.tensor
    ]
    assert sorted(key for found in named for key in found) == sorted(keys)
    assert [len(found) for found in named] == [each.leaves for each in tree if each.tensor]
    for module in tree:
        if not module.tensor:
            inside = [key for key in keys if Pattern.parse(f"{module.path}.*").matches(key)]
            assert (module.leaves, module.parameters) == (len(inside), 2 * len(inside))


def test_keys_of_very_many_segments_are_no_trouble() -> None:
    key = ".".join("a" * 20_000)

    assert tree_of(_tensors(key))[-1].path == key


def test_long_keys_of_many_segments_make_no_longer_paths() -> None:
    keys = [f"{at}." + ("x" * 600 + ".") * 99 + str(at) for at in range(50)]

    branches = tree_of(_tensors(*keys))

    assert [branch.path for branch in branches if branch.tensor] == keys
    assert sum(len(branch.path) for branch in branches if not branch.tensor) < len("".join(keys))


@pytest.mark.slow
def test_a_hundred_thousand_tensors_are_a_screen_of_branches_in_no_time() -> None:
    names = [f"{module}.{name}" for module in "abcd" for name in ("weight", "bias")]
    tensors = _tensors(*(f"layers.{at}.{name}" for at in range(12_500) for name in names))

    started = time.process_time()
    tree = tree_of(tensors)

    assert len(tree) == 13
    assert time.process_time() - started < 3  # 0.3 where nothing else runs
