"""Globs over keys."""

from __future__ import annotations

import fnmatch
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.errors import PatternError
from reinit_cli.patterns import Pattern

MATCHES = {
    "a name": ("fc.weight", "fc.weight", "fc.bias"),
    "the whole key": ("weight", "weight", "fc.weight"),
    "letters as they are": ("Fc", "Fc", "fc"),
    "a star over dots": (
        "features.*.weight",
        "features.denseblock1.norm.0.weight",
        "features.weight",
    ),
    "a star over nothing": ("a*b", "ab", "a"),
    "a star over newlines": ("a*b", "a\n\nb", "a\nb\n"),
    "a question mark": ("a?b", "a.b", "ab"),
    "a class": ("l[0-2a]", "la", "l3"),
    "a class that excludes": ("l[!0-2]", "l3", "l1"),
    "a literal star": ("a[*]b", "a*b", "axb"),
    "a literal brace": ("a[{]b", "a{b", "a[b"),
    "a literal bracket": ("a[[]b[]]", "a[b]", "ab"),
    "a class with a caret": ("[^a]", "^", "b"),
    "a class with a dash at its end": ("[a-]", "-", "b"),
    "braces": ("{a,b}.weight", "b.weight", "c.weight"),
    "braces with nothing": ("fc{,2}", "fc", "fc3"),
    "nested braces": ("{a,b{1,2}}x", "b2x", "bx"),
    "braces of wildcards": ("{*.a,b?}", "x.y.a", "b"),
    "a range": ("l.{0..8}.w", "l.8.w", "l.9.w"),
    "a range downwards": ("{3..1}", "2", "0"),
    "a padded range": ("{08..10}", "09", "9"),
    "a negative range": ("{-1..1}", "-1", "2"),
    "a range among choices": ("{a,{1..3}}", "3", "4"),
    "a regex": (r"re:layer\d+\.(weight|bias)", "layer12.bias", "xlayer12.bias"),
    "a regex with a brace": ("re:a{2}", "aa", "a{2}"),
    "many stars and a choice": ("*{ab,b}*c*d*", "xabxcxd", "xaxcxd"),
    "a choice whose shorter option matches": ("*{abbb,b}*bbb*x*", "abbbbx", "abbx"),
}


@pytest.mark.parametrize(("pattern", "key", "other"), MATCHES.values(), ids=MATCHES)
def test_a_pattern_matches_the_key_and_not_the_other(pattern: str, key: str, other: str) -> None:
    parsed = Pattern.parse(pattern)

    assert parsed.matches(key)
    assert not parsed.matches(other)
    assert parsed.select([other, key, other, key]) == [1, 3]


MALFORMED = {
    "": "it is empty",
    "a[b": "'[' is not closed; '[[]' is a literal one",
    "a[]": "'[' is not closed; '[[]' is a literal one",
    "a{b": "'{' is not closed; '[{]' is a literal one",
    "a{b,": "'{' is not closed; '[{]' is a literal one",
    "[z-a]": "the range z-a runs backwards",
    "{a..c}": "'{a..c}' is no range of integers",
    "{1..}": "'{1..}' is no range of integers",
    "{0..10000}": "its braces stand for more than 10,000 names",
    "{0..999999999999}": "its braces stand for more than 10,000 names",
    "{0..99}{0..99}{0,1}": "its braces stand for more than 10,000 names",
    "re:(": "not a regular expression: missing ), unterminated subpattern at position 0",
    "{" * 5000 + "}" * 5000: "its braces are nested too deeply",
}


@pytest.mark.parametrize(("pattern", "problem"), MALFORMED.items(), ids=lambda text: text[:30])
def test_what_is_no_pattern_is_refused(pattern: str, problem: str) -> None:
    with pytest.raises(PatternError) as refused:
        Pattern.parse(pattern)

    assert str(refused.value) == f"pattern {pattern!r}: {problem}"


def test_ten_thousand_names_are_allowed() -> None:
    assert Pattern.parse("{0..9999}").matches("9999")
    assert Pattern.parse("*.{0..9999}").matches("x.9999")


@pytest.mark.parametrize(
    ("pattern", "is_wildcard"),
    [
        ("a", False),
        ("{a,b}{0..3}", False),
        ("[*]", False),
        ("*", True),
        ("[ab]", True),
        ("re:a", True),
    ],
)
def test_a_pattern_of_names_insists_and_a_wildcard_takes(pattern: str, is_wildcard: bool) -> None:
    assert Pattern.parse(pattern).is_wildcard is is_wildcard


@pytest.mark.parametrize(
    ("pattern", "is_named"),
    [
        ("*.running_mean", True),
        ("*running_mean", True),
        ("bn.{running_mean,running_var}", True),
        ("{bn.running_mean,x}", True),
        ("re:.*running_mean", True),
        ("*", False),
        ("bn.*", False),
        ("*.running_*", False),
        ("running_mean.*", False),
    ],
)
def test_a_pattern_names_what_its_last_segment_spells(pattern: str, is_named: bool) -> None:
    assert Pattern.parse(pattern).names_segment("running_mean") is is_named


KEYS = st.text("ab.*[]{}!-?x\n", max_size=12)


@given(KEYS, KEYS)
def test_an_escaped_key_names_itself_alone(key: str, other: str) -> None:
    for each in (key, f"re:{key}"):
        if each:
            pattern = Pattern.parse(Pattern.escape(each))
            assert pattern.names == {each}
            assert pattern.matches(other) == (each == other)


GLOBS = st.lists(
    st.sampled_from(["a", "b", ".", "*", "?", "[ab]", "[!a]", "[a-c]", "[*]"]), min_size=1
).map("".join)


@given(GLOBS, st.text("abc.*", max_size=10))
def test_globs_without_braces_match_as_fnmatch_does(glob: str, key: str) -> None:
    assert Pattern.parse(glob).matches(key) == fnmatch.fnmatchcase(key, glob)


@given(st.lists(GLOBS, min_size=2, max_size=4), GLOBS, GLOBS, st.text("abc.*", max_size=10))
def test_braces_match_what_any_of_their_options_does(
    options: list[str], before: str, after: str, key: str
) -> None:
    together = Pattern.parse(f"{before}{{{','.join(options)}}}{after}")

    assert together.matches(key) == any(
        Pattern.parse(before + option + after).matches(key) for option in options
    )


def test_no_glob_takes_for_ever() -> None:
    pattern = Pattern.parse("*a" * 30 + "*b")

    started = time.process_time()
    assert not pattern.matches("a" * 2000)
    assert time.process_time() - started < 1


def test_a_hundred_thousand_keys_against_twenty_rules_take_under_half_a_second() -> None:
    keys = [
        f"model.layers.{layer}.{module}.{kind}"
        for layer in range(5000)
        for module in ("self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj", "norm", "mlp.gate")
        for kind in ("weight", "bias", "scale", "zero")
    ]
    assert len(keys) == 100_000
    texts = ["*", "*.weight", "*.bias", "*norm*", "model.layers.*.mlp.*.weight", "*.self_attn.*"]
    texts += [
        "model.layers.{0..99}.*",
        "*.layers.*.mlp.up_proj.bias",
        "re:.*[0-9]\\.norm.*",
        "*zero",
    ]
    patterns = [Pattern.parse(text) for text in texts * 2]

    def once() -> float:
        started = time.process_time()
        found = [pattern.select(keys) for pattern in patterns]
        assert found[0] == list(range(100_000))
        return time.process_time() - started

    assert min(once() for _ in range(3)) < 0.5


def test_the_regex_behind_a_glob_is_valid_for_python() -> None:
    assert re.escape("a.b") in Pattern.parse("a.b*")._regex.pattern
