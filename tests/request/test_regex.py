"""Regular expressions: matched as `re` does, in bounded time."""

from __future__ import annotations

import copy
import pickle
import re
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reinit_cli.errors import PatternError
from reinit_cli.request.pattern import KeyIndex, Pattern
from reinit_cli.request.regex import Clock, Regex

ATOMS = st.sampled_from(
    [
        *("a", "b", ".", r"\.", "[ab]", "[^a]", "[a-c]", r"\w", r"\d", r"\W", r"\s", "é", "A"),
        *(r"\b", r"\B", "^", "$", r"\A", r"\Z", "", "(?:)", "(?i:A)", "(?s:.)", "(?-i:A)", "\n"),
    ]
)


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    quantifiers = st.sampled_from(["*", "+", "?", "*?", "+?", "{2}", "{1,2}", "{0,3}?", "{2,}"])
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})"),
        st.tuples(inner, quantifiers).map(lambda two: f"(?:{two[0]}){two[1]}"),
        inner.map("({})".format),
        inner.map("(?={})".format),
        inner.map("(?!{})".format),
        st.sampled_from(["(?<=a)", "(?<!b)", "(?<=[ab].)"]),
    )


REGEXES = st.recursive(ATOMS, _larger, max_leaves=8)
FLAGS = st.sampled_from(["", "(?i)", "(?s)", "(?m)", "(?x)", "(?a)", "(?im)"])
KEYS = st.text("abA.é1 \n", max_size=8)


@settings(max_examples=500)
@given(FLAGS, REGEXES, KEYS)
def test_without_backtracking_the_same_keys_match(flags: str, source: str, key: str) -> None:
    """The oracle is `re.fullmatch`."""
    try:
        expected = re.fullmatch(flags + source, key) is not None
    except re.error:
        assume(condition=False)
        raise
    everywhere = Regex("", flags + source, known_reach=-1)

    assert everywhere.select([key], Clock()) == [0] * expected


@given(FLAGS, REGEXES, st.lists(KEYS, max_size=5))
def test_a_pattern_selects_what_fullmatch_does(flags: str, source: str, keys: list[str]) -> None:
    try:
        found = re.compile(flags + source)
    except re.error:
        assume(condition=False)
        raise

    assert Pattern.parse(f"re:{flags}{source}").select(keys) == [
        at for at, key in enumerate(keys) if found.fullmatch(key)
    ]


HOSTILE = {
    "options of one beginning": ("(a|aa)+$", "a" * 60 + "b"),
    "a repeat in a repeat": ("(a+)+$", "a" * 60 + "b"),
    "repeats in repeats": ("((a*)*)*", "a" * 200 + "b"),
    "many optional parts": ("a?" * 60 + "a" * 60, "a" * 59),
    "many stars": (".*a" * 20 + "b", "a" * 300),
    "many options": ("(a|a)" * 60 + "b", "a" * 61),
    "a repeat of options": ("(?:a|a|a){40}b", "a" * 41),
    "a repeat of stars": ("(.*){20}x", "a" * 200),
    "counted repeats of counted repeats": ("((a{1,50}){1,50}){1,50}b", "a" * 300),
    "a repeat that a look ahead hides": ("(?=(a+)+b).*", "a" * 60),
    "a lazy repeat": ("(a+?)+?b", "a" * 60),
    "a repeat of a huge count": ("(?:a?){999999}b", "a" * 60),
    "letters of either case": ("(?i)(A|aA)+$", "aA" * 30 + "b"),
    "repeats of nothing": ("(?:(?:(?:){9999}){9999}){9999}a", ""),
    "repeats of what may be nothing": ("(?:(?:(?:a*){9999}){9999}){99}b", "a"),
    "repeats of a look ahead": ("(?:(?:(?=a)){9999}){9999}b", "a"),
    "repeats of an end of a word": (r"(?:(?:(?:\b){9999}){9999}){9999}b", "a"),
    "a key of many letters": (r"(\w+\.?)+!", "a" * 2000),
}


@pytest.mark.parametrize(("source", "key"), HOSTILE.values(), ids=HOSTILE)
def test_no_key_keeps_a_pattern_busy(source: str, key: str) -> None:
    pattern = Pattern.parse(f"re:{source}")

    started = time.process_time()
    assert not pattern.matches(key)
    assert time.process_time() - started < 2


def test_what_repeats_is_still_matched_where_backtracking_would_take_long() -> None:
    keys = ["layers" + ".1" * 100 + end for end in (".weight", ".bias", "weight")]

    assert Pattern.parse(r"re:layers(\.\d+)+\.weight").select(keys) == [0]
    assert Pattern.parse(r"re:(?!.*bias)layers(\.\d+)+.*").select(keys) == [0, 2]


@pytest.mark.parametrize(
    ("source", "feature"),
    [(r"(a|aa)+(b)\2", "a reference to a group"), (r"(?>a|aa)(a|aa)+bb", "an atomic group")],
)
def test_what_is_not_regular_is_matched_against_short_keys_alone(source: str, feature: str) -> None:
    pattern = Pattern.parse(f"re:{source}")

    assert pattern.matches("aabb") is (re.fullmatch(source, "aabb") is not None)
    with pytest.raises(PatternError) as refused:
        pattern.matches("a" * 100)

    assert str(refused.value) == (
        f"pattern 're:{source}': a pattern with {feature} is matched against short keys only"
    )


def test_a_reference_to_a_group_is_obeyed_where_it_costs_little() -> None:
    keys = ["a.1.1", "a.1.2", "a.12.12" + "x" * 500]

    assert Pattern.parse(r"re:a\.(\d+)\.\1x*").select(keys) == [0, 2]


def test_all_patterns_of_one_source_share_a_time() -> None:
    index = KeyIndex(["a" * 400 + str(at) for at in range(1000)])
    index._clock.seconds = 0.2
    patterns = [Pattern.parse(f"re:(.*a){{9}}.*{at}!") for at in range(1000)]

    started = time.process_time()
    with pytest.raises(PatternError, match="it takes too long to match"):
        for pattern in patterns:
            index.select(pattern)

    assert time.process_time() - started < 5


@pytest.mark.parametrize("source", ["re:(a|aa)+b", "*{a,aa}" * 13])
def test_slow_patterns_share_a_second_for_the_keys_of_a_source(source: str) -> None:
    keys = [f"{'a' * 100}{at}" for at in range(60_000)]
    index = KeyIndex(keys)
    started = time.process_time()

    for _ in range(4):
        with pytest.raises(PatternError, match="it takes too long to match"):
            index.select(Pattern.parse(source))

    assert time.process_time() - started < 4


def test_a_long_regular_expression_is_refused_before_it_is_compiled() -> None:
    """A class of this kind takes a millisecond for each of its characters."""
    started = time.process_time()
    with pytest.raises(PatternError, match="it has more than 10,000 characters"):
        Pattern.parse("re:(?i)" + r"[a-\uffff]" * 2000)

    assert time.process_time() - started < 1


def test_groups_that_are_nested_too_deeply_are_an_error() -> None:
    def matches(depth: int) -> bool:
        return Pattern.parse(f"re:{'(' * depth}a{'|b)*' * depth}").matches("abab")

    assert matches(40)
    with pytest.raises(PatternError, match="its groups are nested too deeply"):
        matches(300)
    with pytest.raises(PatternError, match="not a regular expression: maximum recursion"):
        matches(1000)


def test_a_pattern_can_be_copied_and_pickled_after_it_was_used() -> None:
    pattern = Pattern.parse("re:(a|aa)+b")
    assert not pattern.matches("a" * 60)

    for each in (copy.deepcopy(pattern), pickle.loads(pickle.dumps(pattern))):
        assert each == pattern
        assert each.select(["aab", "a" * 60]) == [0]


@pytest.mark.parametrize(
    "text",
    [
        "re:(?i)" + "[!-\uffff]?" * 900,
        "re:(?i:" + "[^!-\U0010fff0]|" * 500 + "a)",
        "re:" + "[!-\\uffff]" * 400,
        "[!-\uffff]" * 900 + "*",
    ],
)
def test_sets_that_take_long_to_compile_are_bounded(text: str) -> None:
    started = time.process_time()
    with pytest.raises(PatternError, match="more than 100 sets in which characters may be beyond"):
        Pattern.parse(text)
    assert time.process_time() - started < 1


def test_sets_beyond_ascii_are_matched_as_before() -> None:
    assert Pattern.parse("re:(?i)[à-ý]+").matches("ÉÈ")
    assert Pattern.parse("[α-ω]*").matches("λ.weight")
    assert Pattern.parse("re:" + "[a-z]?" * 1000).matches("abc")
