"""Keys that are alike are one pattern."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.operations.outline import groups_of
from reinit_cli.request.pattern import Pattern
from reinit_cli.tensors.info import TensorInfo


def _tensors(*keys: str, shape: tuple[int, ...] = (2,)) -> list[TensorInfo]:
    return [TensorInfo(key, "float32", shape, 8) for key in keys]


def _patterns(tensors: list[TensorInfo]) -> list[tuple[str, int]]:
    return [(group.pattern, len(group.tensors)) for group in groups_of(tensors)]


def test_layers_that_are_alike_are_one_pattern() -> None:
    keys = [f"layers.{at}.{name}" for at in range(32) for name in ("up.weight", "up.bias")]

    assert _patterns(_tensors("embed", *keys, "head")) == [
        ("embed", 1),
        ("layers.{0..31}.up.weight", 32),
        ("layers.{0..31}.up.bias", 32),
        ("head", 1),
    ]


def test_what_has_another_shape_stands_apart() -> None:
    tensors = [*_tensors("a.0.w", "a.1.w", "a.2.w"), *_tensors("a.3.w", shape=(4, 1))]

    assert _patterns(tensors) == [("a.{0..2}.w", 3), ("a.3.w", 1)]


def test_numbers_with_gaps_are_a_list() -> None:
    keys = [f"a.{at}.w" for at in (0, 1, 2, 3, 7, 9, 10)]

    assert _patterns(_tensors(*keys)) == [("a.{{0..3},7,9,10}.w", 7)]
    assert _patterns(_tensors("a.4", "a.5")) == [("a.{4,5}", 2)]


def test_several_numbers_are_collapsed_where_all_combinations_are_there() -> None:
    whole = [f"b.{at}.c.{inner}.w" for at in range(3) for inner in range(4)]

    assert _patterns(_tensors(*whole)) == [("b.{0..2}.c.{0..3}.w", 12)]
    assert _patterns(_tensors(*whole[:-1])) == [("b.{0,1}.c.{0..3}.w", 8), ("b.2.c.{0..2}.w", 3)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        [f"layers.{at}.w" for at in range(125_001)],
        [f"a.{at}.b.{inner}" for at in range(350) for inner in range(350)],
        [f"{at}" for at in range(0, 220_000, 2)],
        [f"{at}.{'long.' * 500}w" for at in range(8_000)],
    ],
    ids=["one number", "two numbers", "gaps", "long keys"],
)
def test_no_pattern_stands_for_more_names_than_a_rule_takes(keys: list[str]) -> None:
    groups = groups_of(_tensors(*keys))

    assert 2 <= len(groups) <= 4
    named: set[str] = set()
    for group in groups:
        names = Pattern.parse(group.pattern).names
        assert names == {tensor.key for tensor in group.tensors}
        named |= names
    assert named == set(keys)


@pytest.mark.slow
def test_a_hundred_thousand_numbers_are_grouped_quickly() -> None:
    started = time.process_time()
    groups = groups_of(_tensors(*(f"layers.{at}.w" for at in range(100_000))))

    assert len(groups) == 1
    assert time.process_time() - started < 3  # merged one by one they take 40


def test_the_layers_of_a_large_model_are_one_pattern() -> None:
    experts = [f"layers.{at}.experts.{inner}.w" for at in range(3, 61) for inner in range(256)]
    deep = [f"blocks.{at}.heads.{inner}.w" for at in range(1_000) for inner in range(12)]

    assert _patterns(_tensors(*experts, *deep)) == [
        ("layers.{3..60}.experts.{0..255}.w", 58 * 256),
        ("blocks.{0..999}.heads.{0..11}.w", 12_000),
    ]


def test_only_whole_segments_are_numbers() -> None:
    keys = ["layer1.w", "layer2.w", "x.01.w", "x.02.w", "1", "2"]

    assert [pattern for pattern, _ in _patterns(_tensors(*keys))] == [*keys[:4], "{1,2}"]


_SEGMENTS = st.sampled_from(
    ["0", "1", "2", "3", "10", "01", "a", "*", "{b}", "[c]", "re:", "", "é"]
)
_KEYS = st.lists(
    st.lists(_SEGMENTS, min_size=1, max_size=4).map(".".join), unique=True, max_size=40
)


@given(_KEYS)
def test_a_group_s_pattern_names_its_keys_and_no_other(keys: list[str]) -> None:
    keys = [key for key in keys if key]
    groups = groups_of(_tensors(*keys))

    assert sorted(tensor.key for group in groups for tensor in group.tensors) == sorted(keys)
    for group in groups:
        named = Pattern.parse(group.pattern)
        assert not named.is_wildcard
        assert [keys[at] for at in named.select(keys)] == [each.key for each in group.tensors]


def test_keys_of_very_many_segments_are_no_trouble() -> None:
    assert _patterns(_tensors(".".join("1" * 20_000))) != []


def _colliding_pairs(count: int) -> list[tuple[int, int]]:
    """Pairs of numbers with one hash: CPython's hash of a tuple of two can be inverted."""
    modulus, start = 2**64, 2870177450012600261  # Objects/tupleobject.c
    first, second = 11400714785074694791, 14029467366897019727

    def mixed(state: int, value: int) -> int:
        state = (state + value * second) % modulus
        return (state << 31 | state >> 33) % modulus * first % modulus

    target = mixed(mixed(start, 1), 2) * pow(first, -1, modulus) % modulus
    target = (target << 33 | target >> 31) % modulus
    found = []
    number = 0
    while len(found) < count:
        number += 1
        other = (target - mixed(start, number)) * pow(second, -1, modulus) % modulus
        if 0 < other < 10**18:  # the longest numbers of a pattern
            found.append((number, other))
    return found


def test_numbers_of_one_hash_are_grouped_as_fast_as_others() -> None:
    pairs = _colliding_pairs(20_000)
    assert len({hash(pair) for pair in pairs}) == 1

    started = time.process_time()
    groups = groups_of(_tensors(*(f"a.{one}.{two}" for one, two in pairs)))
    assert time.process_time() - started < 3
    assert sum(len(group.tensors) for group in groups) == len(pairs)
