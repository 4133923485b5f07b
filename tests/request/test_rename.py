"""Renames give the names that they say, and refuse what they cannot say."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.errors import PatternError, RuleError
from reinit_cli.request.pattern import Pattern
from reinit_cli.request.regex import Clock
from reinit_cli.request.rename import Rename


def renamed(text: str, *keys: str) -> list[str]:
    """Return the names of keys after a rename; those that do not match keep theirs."""
    new = Rename.parse(text).renamed(keys, Clock())
    return [new.get(at, key) for at, key in enumerate(keys)]


@pytest.mark.parametrize(
    ("text", "key", "name"),
    [
        ("module.*=*", "module.fc.weight", "fc.weight"),
        ("*=model.*", "fc.weight", "model.fc.weight"),
        ("*_orig_mod.*=**", "net._orig_mod.fc.weight", "net.fc.weight"),
        ("a.*.b.*.c.*=*-*-*", "a.1.b.2.c.3", "1-2-3"),
        ("{enc,dec}.*.w=*.weight", "dec.0.w", "0.weight"),
        ("{enc,dec}.*.x.*.y.*=*.*.*", "enc.1.x.2.y.3", "1.2.3"),
        ("layers.{0..3}.*=*", "layers.2.w", "w"),
        ("old=new", "old", "new"),
        ("l?.*=*", "l7.w", "w"),
        ("a[=]b=c=d", "a=b", "c=d"),
        ("x=[*]", "x", "*"),
        (r"*.w=\1.*", "a.w", r"\1.a"),
        (r"x=a\b", "x", r"a\b"),
        (r"re:(.*)\.gamma=\1.weight", "norm.gamma", "norm.weight"),
        (r"re:(?P<a>.*)(?=z)z=\g<a>=q", "aaz", "aa=q"),
        (r"re:[\]=]x=y", "=x", "y"),
        (r"re:a\=b=c", "a=b", "c"),
    ],
)
def test_a_rename_gives_the_name_that_it_says(text: str, key: str, name: str) -> None:
    assert renamed(text, key) == [name]


def test_of_several_texts_that_a_star_can_take_it_takes_the_shortest() -> None:
    assert renamed("*.x.*=*|*", "a.x.b.x.c") == ["a|b.x.c"]
    assert renamed("*.x.*.y.*=*|*|*", "a.x.b.y.c.y.d") == ["a|b|c.y.d"]


_PARTS = st.lists(st.sampled_from(["a", "b", "*", ".", "{a,b}"]), min_size=1, max_size=7)


@given(_PARTS, st.text("ab.", min_size=1, max_size=8))
def test_the_texts_of_the_stars_put_back_into_the_pattern_give_the_key(
    parts: list[str], key: str
) -> None:
    pattern = re.sub(r"\*+", "*", "".join(parts))
    new = "|".join("*" * pattern.count("*")) or "none"
    found = Rename.parse(f"{pattern}={new}").renamed([key], Clock())

    assert (0 in found) == Pattern.parse(pattern).matches(key)
    if found:
        taken = iter(found[0].split("|"))
        literal = re.escape(pattern).replace(r"\{a,b\}", "[ab]")
        assert re.fullmatch(re.sub(r"\\\*", lambda _: re.escape(next(taken)), literal), key)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("module.*", "has no '='"),
        ("module.*=", "has no new name"),
        ("=x", "it is empty"),
        ("{a.*,b}.c=*", "in braces"),
        ("a=*", "it has 1 star, and the left side 0"),
        ("a.*={b,c}.*", "only '*' stands for what is matched"),
        ("a?=b?", "only '*' stands for what is matched"),
        (r"re:(a)=\2", "invalid group reference"),
        (r"re:(a)=\g<b>", "unknown group name"),
        (r"re:(a=b", "has no '='"),
        (r"re:a)=b", "not a regular expression"),
    ],
)
def test_what_a_rename_cannot_say_is_refused(text: str, problem: str) -> None:
    with pytest.raises(RuleError, match=re.escape(problem)):
        Rename.parse(text)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("re:(a|aa)+=\\1", "a" * 60),
        ("re:(.*)=" + "\\1" * 3000, "x" * 100_000),
    ],
)
def test_no_rename_of_a_stranger_keeps_us_busy(text: str, key: str) -> None:
    rename = Rename.parse(text)

    started = time.process_time()
    with pytest.raises(PatternError, match="too long"):
        rename.renamed([key], Clock())
    assert time.process_time() - started < 5


def test_what_matches_nothing_is_found_out_in_bounded_time() -> None:
    started = time.process_time()
    assert renamed("*a*a*a*a*a*a*a*b=*", "a" * 50_000) == ["a" * 50_000]
    assert renamed("re:(a|aa)+(b)=\\2", "a" * 60 + "c") == ["a" * 60 + "c"]
    assert time.process_time() - started < 5


def test_keys_that_do_not_match_keep_their_names() -> None:
    assert renamed("module.*=*", "module.a", "b") == ["a", "b"]
