"""Negative numbers in patterns, which count from the end as in Python."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.errors import PatternError
from reinit_cli.request.pattern import Pattern, select_keys
from reinit_cli.request.rename import Rename

STACKS = [
    *(f"encoder.layers.{at}.{name}" for at in range(4) for name in ("weight", "bias")),
    *(f"decoder.layers.{at}.{name}" for at in range(12) for name in ("weight", "bias")),
    "head.weight",
]
GAPS = [f"features.{at}.weight" for at in (0, 3, 6, 8, 10)]

CHOSEN = {
    "encoder.layers.{-1}.weight": ["encoder.layers.3.weight"],
    "*.layers.{-1}.weight": ["decoder.layers.11.weight", "encoder.layers.3.weight"],
    "*.layers.{-2..-1}.bias": [
        "decoder.layers.10.bias",
        "decoder.layers.11.bias",
        "encoder.layers.2.bias",
        "encoder.layers.3.bias",
    ],
    "decoder.layers.{-1..-2}.bias": ["decoder.layers.10.bias", "decoder.layers.11.bias"],
    "encoder.layers.{0,-1}.bias": ["encoder.layers.0.bias", "encoder.layers.3.bias"],
    "decoder.layers.{9..-2}.bias": ["decoder.layers.10.bias", "decoder.layers.9.bias"],
    "encoder.layers.{3..-2}.bias": [],
    "{encoder,decoder}.layers.{-1}.bias": ["decoder.layers.11.bias", "encoder.layers.3.bias"],
    "encoder.layers.{-99..-3}.bias": ["encoder.layers.0.bias", "encoder.layers.1.bias"],
    "encoder.layers.{-9..-5}.bias": [],
    "[!d]*.layers.{-1}.b*": ["encoder.layers.3.bias"],
    "{*.{-1},head}.weight": [
        "decoder.layers.11.weight",
        "encoder.layers.3.weight",
        "head.weight",
    ],
    "head.{-1}.weight": [],
}


def test_a_number_in_inner_braces_counts_there_alone() -> None:
    """Bash spells it features.01, features.0-1, features.02 and features.3."""
    assert select_keys(GAPS, ["features.{0{1,-1,2},3}.weight"]) == {"features.3.weight"}


@pytest.mark.parametrize(("pattern", "chosen"), CHOSEN.items(), ids=CHOSEN)
def test_negative_numbers_count_from_the_end_for_each_prefix_apart(
    pattern: str, chosen: list[str]
) -> None:
    assert sorted(select_keys(STACKS, [pattern])) == chosen
    positions = Pattern.parse(pattern).select(STACKS)
    assert positions == sorted(positions)
    assert sorted(STACKS[at] for at in positions) == chosen


def test_numbers_with_gaps_count_as_a_list_of_them_does() -> None:
    numbers = [0, 3, 6, 8, 10]

    for at in range(-6, 0):
        expected = {f"features.{numbers[at]}.weight"} if at >= -5 else set()
        assert select_keys(GAPS, [f"features.{{{at}}}.weight"]) == expected


def test_keys_that_hold_negative_numbers_are_still_named_by_them() -> None:
    keys = ["x-2.w", "x-1.w", "x0.w", "x1.w"]

    assert select_keys(keys, ["x{-2..-1}.w"]) == {"x-2.w", "x-1.w", "x0.w", "x1.w"}
    assert select_keys(keys, ["x{-1..1}.w"]) == {"x-1.w", "x0.w", "x1.w"}
    assert select_keys(keys[:2], ["x{-1}.w"]) == {"x-1.w"}


def test_numbers_are_whole_and_compared_as_numbers() -> None:
    keys = ["h.9.w", "h.10.w", "h.010x.w", "h.2.w"]

    assert select_keys(keys, ["h.{-1}.w"]) == {"h.10.w"}
    assert select_keys(keys, ["h.1{-1}.w"]) == set()


def test_two_numbers_count_in_their_own_places() -> None:
    keys = [f"blocks.{a}.experts.{b}.w" for a in range(3) for b in range(a + 2)]

    assert select_keys(keys, ["blocks.{-1}.experts.{-1}.w"]) == {"blocks.2.experts.3.w"}
    assert select_keys(keys, ["blocks.*.experts.{-1}.w"]) == {
        "blocks.0.experts.1.w",
        "blocks.1.experts.2.w",
        "blocks.2.experts.3.w",
    }


def test_a_pattern_of_names_insists_although_it_counts_from_the_end() -> None:
    assert not Pattern.parse("layers.{-2..-1}.weight").is_wildcard
    assert Pattern.parse("layers.{-2..-1}.*").is_wildcard


@given(
    st.lists(st.integers(0, 30), min_size=1, unique=True),
    st.integers(-12, -1),
    st.integers(-12, -1),
)
def test_a_range_from_the_end_is_python_s_slice(numbers: list[int], first: int, last: int) -> None:
    low, high = min(first, last), max(first, last)
    in_order = sorted(numbers)
    expected = in_order[max(low, -len(in_order)) :]
    expected = [each for each in expected if in_order.index(each) - len(in_order) <= high]

    chosen = select_keys([f"l.{each}.w" for each in numbers], [f"l.{{{first}..{last}}}.w"])

    assert chosen == {f"l.{each}.w" for each in expected}


@pytest.mark.parametrize("pattern", ["{-1}" * 8, "{-100..-1,-1}{-1,-2,-3}{-1,-2,-3}{-1,-2,-3}"])
def test_too_many_combinations_are_refused(pattern: str) -> None:
    with pytest.raises(PatternError, match="more than 100 combinations"):
        Pattern.parse(f"*.{pattern}.x")


def test_a_range_of_hundreds_and_one_number_more_count_from_the_end() -> None:
    keys = [f"l.{at}.w" for at in range(500)]
    chosen = select_keys(keys, ["l.{-300..-1}.w", "l.{-400,-500}.w"])
    assert chosen == {f"l.{at}.w" for at in (0, 100, *range(200, 500))}


@pytest.mark.parametrize("pattern", ["{1..99999}layers{0..-1}", "{a{0..-1},b{0..-1}}{0..9999}"])
def test_too_many_names_before_a_number_from_the_end_are_refused_at_once(pattern: str) -> None:
    started = time.process_time()
    with pytest.raises(PatternError, match="its braces stand for more than 10,000 names"):
        Pattern.parse(pattern)
    assert time.process_time() - started < 1


def test_hostile_keys_take_little_time() -> None:
    keys = ["1." * 400_000, *(f"{at}." * 2_000 for at in range(200)), "a.7.w"]
    started = time.process_time()

    assert select_keys(keys, ["*.{-1}.w"]) == {"a.7.w"}
    assert time.process_time() - started < 5


def test_a_rename_does_not_count_from_the_end() -> None:
    with pytest.raises(PatternError, match="a rename cannot count from the end"):
        Rename.parse("layers.{-1}.*=last.*")
