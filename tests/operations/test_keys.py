"""Keys as they are chosen and ordered."""

from __future__ import annotations

import re
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.operations.keys import ORDERS, Selectors, arranged, choice_of, choose, list_keys
from reinit_cli.request.pattern import Pattern
from reinit_cli.tensors.info import TensorInfo


def _tensors(*keys: str) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(key, "float32", (2,), 8) for key in keys)


def _keys(tensors: object) -> list[str]:
    return [each.key for each in tensors]  # type: ignore[attr-defined]


def test_patterns_choose_in_the_order_of_the_source() -> None:
    tensors = _tensors("b.weight", "a.weight", "a.bias")

    assert _keys(choose(tensors, [])) == ["b.weight", "a.weight", "a.bias"]
    assert _keys(choose(tensors, [Pattern.parse("a.*"), Pattern.parse("b.*")])) == _keys(tensors)
    assert _keys(choose(tensors, [], [Pattern.parse("*.bias")])) == ["b.weight", "a.weight"]


@given(st.lists(st.text("ab.0123456789", max_size=12), max_size=8, unique=True))
def test_numbers_in_keys_are_ordered_as_integers(keys: list[str]) -> None:
    def natural(key: str) -> list[object]:
        parts = re.split("([0-9]+)", key)
        return [int(part) if at % 2 else part for at, part in enumerate(parts)]

    assert _keys(list_keys(_tensors(*keys), Selectors(order="key")).tensors) == sorted(
        keys, key=natural
    )


def test_a_number_may_have_more_digits_than_python_reads() -> None:
    """`int` refuses more than 4,300, and keys come from strangers."""
    keys = ["x." + "9" * 5000, "x.2", "x." + "1" * 5000, "x.10"]

    found = _keys(list_keys(_tensors(*keys), Selectors(order="key")).tensors)

    assert found == ["x.2", "x.10", "x." + "1" * 5000, "x." + "9" * 5000]


def test_every_order_sorts() -> None:
    tensors = (*_tensors("b", "a"), TensorInfo("c", "int64", (), 8))

    for order in ORDERS:
        assert sorted(_keys(list_keys(tensors, Selectors(order=order)).tensors)) == ["a", "b", "c"]


def test_keys_of_thousands_of_numbers_are_sorted_in_little_memory() -> None:
    keys = [f"{at}a" + "1a" * 30_000 for at in (10, 9, 1)]
    tensors = _tensors(*keys)

    tracemalloc.start()
    listing = list_keys(tensors, Selectors(order="key"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert [tensor.key for tensor in listing.tensors] == keys[::-1]
    assert peak < 30 * sum(map(len, keys))


def test_what_has_no_place_in_an_order_comes_last_in_either_direction() -> None:
    values = {"a": 2.0, "b": None, "c": 1.0}

    assert arranged("abc", values.get) == ["c", "a", "b"]
    assert arranged("abc", values.get, is_reversed=True) == ["a", "c", "b"]
    assert arranged("abc", None, is_reversed=True) == ["c", "b", "a"]


def test_a_choice_names_the_patterns_that_match_nothing() -> None:
    patterns = [Pattern.parse(text) for text in ("a.*", "none", "c")]

    choice = choice_of(["a.x", "a.y", "c"], patterns, [Pattern.parse("*.y"), Pattern.parse("z")])

    assert list(choice.positions) == [0, 2]
    assert [each.text for each in choice.unmatched] == ["none"]
    assert [each.text for each in choice.useless] == ["z"]
