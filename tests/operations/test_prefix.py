"""A prefix by which the keys of two checkpoints differ is found, and its rename undoes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.operations.prefix import PrefixDifference, prefix_between
from reinit_cli.request.regex import Clock
from reinit_cli.request.rename import Rename

KEYS = {f"layers.{at}.{name}" for at in range(10) for name in ("weight", "bias")}


def under(prefix: PrefixDifference, keys: set[str]) -> set[str]:
    """Return the names that the rename gives keys."""
    listed = sorted(keys)
    new = Rename.parse(prefix.rename).renamed(listed, Clock())
    return {new.get(at, key) for at, key in enumerate(listed)}


@pytest.mark.parametrize("text", ["module.", "_orig_mod.", "base_model.model.", "a[0].", "x=1."])
def test_a_prefix_is_found_in_either_source_and_its_rename_undoes_it(text: str) -> None:
    prefixed = {text + key for key in KEYS}

    removed, added = prefix_between(prefixed, KEYS), prefix_between(KEYS, prefixed)

    assert removed is not None
    assert added is not None
    assert (removed.prefix.removed, removed.explained) == (text, 20)
    assert (added.prefix.added, added.explained) == (text, 20)
    assert under(removed, prefixed) == KEYS
    assert under(added, KEYS) == prefixed


def test_a_few_keys_may_differ_otherwise() -> None:
    found = prefix_between(
        {f"module.{key}" for key in KEYS} | {"head.weight", "step"}, KEYS | {"x"}
    )

    assert found is not None
    assert (found.prefix.removed, found.explained, found.unexplained) == ("module.", 20, 3)


def test_part_of_a_larger_network_is_found() -> None:
    whole = {f"encoder.{key}" for key in KEYS} | {f"decoder.{at}" for at in range(19)}

    found = prefix_between(whole, KEYS)

    assert found is not None
    assert found.rename == "encoder.*=*"


def test_each_source_may_have_a_prefix_of_its_own() -> None:
    first, second = {f"module.{key}" for key in KEYS}, {f"model.{key}" for key in KEYS}

    found = prefix_between(first, second)

    assert found is not None
    assert found.rename == "module.*=model.*"
    assert under(found, first) == second


def test_keys_that_both_have_keep_their_names() -> None:
    prefixed = {f"module.{key}" for key in KEYS} | {"step", "a.b"}

    found = prefix_between(KEYS | {"step", "a.b"}, prefixed)

    assert found is not None
    assert under(found, KEYS | {"step", "a.b"}) == prefixed


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (KEYS, KEYS),
        (KEYS, KEYS | {"module.x"}),
        ({"a.w", "b.w"}, {"c.w", "d.w"}),
        # Without the prefix two keys would have one name.
        ({"m.a", "a", "m.b"}, {"a", "b", "c"}),
        ({f"m.{key}" for key in KEYS} | {f"z.{at}" for at in range(50)}, KEYS | {"q.1"}),
    ],
)
def test_other_differences_have_no_prefix(first: set[str], second: set[str]) -> None:
    assert prefix_between(first, second) is None


_NAMES = st.sets(st.sampled_from(["a.w", "b.w", "m.a.w", "m.b.w", "n.m.a.w", "c"]), max_size=6)


@given(_NAMES, _NAMES)
def test_a_prefix_counts_what_its_rename_leaves_different(
    first: set[str], second: set[str]
) -> None:
    found = prefix_between(first, second)

    if found is not None:
        renamed = under(found, first)
        assert len(renamed) == len(first)
        assert len(renamed ^ second) == found.unexplained < len(first ^ second)
        assert len(renamed & second) - len(first & second) == found.explained > 0
