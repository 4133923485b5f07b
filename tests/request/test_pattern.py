"""Globs over keys."""

from __future__ import annotations

import fnmatch
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.errors import PatternError
from reinit_cli.request.pattern import KeyIndex, Pattern
from reinit_cli.text import quoted

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
    "{a..c}": "'{a..c}' is not a range of integers",
    "{1..}": "'{1..}' is not a range of integers",
    "{0..100000}": "its braces stand for more than 100,000 names",
    "{0..999999999999}": "its braces stand for more than 100,000 names",
    "{0..99}{0..999}{0,1}": "its braces stand for more than 100,000 names",
    "*{0..99}{0..99}{0,1}": "its braces stand for more than 10,000 names",
    "re:(": "not a regular expression: missing ), unterminated subpattern at position 0",
    "{" * 5000 + "}" * 5000: "its braces are nested too deeply",
}


@pytest.mark.parametrize(("pattern", "problem"), MALFORMED.items(), ids=lambda text: text[:30])
def test_what_is_no_pattern_is_refused(pattern: str, problem: str) -> None:
    with pytest.raises(PatternError) as refused:
        Pattern.parse(pattern)

    assert str(refused.value) == f"pattern {quoted(pattern)}: {problem}"


@pytest.mark.parametrize("pattern", ["{1..99999}layers", "layers{0..99998}", "{0..9}" * 5])
def test_a_hundred_thousand_names_are_read_quickly(pattern: str) -> None:
    started = time.process_time()
    Pattern.parse(pattern)
    assert time.process_time() - started < 0.5


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


NAMES = {
    "a": ["a"],
    "{a}": ["a"],
    "{}": [""],
    "a}": ["a}"],
    "a]": ["a]"],
    "a,b": ["a,b"],
    "-": ["-"],
    "a!": ["a!"],
    "[]]": ["]"],
    "[-]": ["-"],
    "[!]]": None,
    "{a,a}": ["a"],
    "{a,b}{c,d}": ["ac", "ad", "bc", "bd"],
    "{a,{b,{c,d}}}": ["a", "b", "c", "d"],
    "x{,.bias}": ["x", "x.bias"],
    "{[{],[}],[*]}": ["{", "}", "*"],
    "{[,],x}": [",", "x"],
    "{2..4}": ["2", "3", "4"],
    "{4..2}": ["4", "3", "2"],
    "{3..3}": ["3"],
    "{-2..1}": ["-2", "-1", "0", "1"],
    "{-1..-3}": ["-1", "-2", "-3"],
    "{08..11}": ["08", "09", "10", "11"],
    "{8..011}": ["008", "009", "010", "011"],
    "{11..08}": ["11", "10", "09", "08"],
    "{-01..1}": ["-01", "000", "001"],
    "{00..2}": ["00", "01", "02"],
    "{0..2}": ["0", "1", "2"],
    "{1..2,9}": ["1..2", "9"],
    "l{0..1}.{q,k}": ["l0.q", "l0.k", "l1.q", "l1.k"],
    "{x{1..2},y}": ["x1", "x2", "y"],
}


@pytest.mark.parametrize(("pattern", "names"), NAMES.items(), ids=NAMES)
def test_a_pattern_without_wildcards_is_a_list_of_names(
    pattern: str, names: list[str] | None
) -> None:
    """Padded and descending ranges are bash's."""
    assert Pattern.parse(pattern).names == (None if names is None else frozenset(names))


@given(st.integers(-(10**17), 10**17), st.integers(-50, 50))
def test_a_range_is_what_python_counts(first: int, steps: int) -> None:
    last = first + steps
    counted = range(first, last + 1) if steps >= 0 else range(last, first + 1)

    names = frozenset(map(str, counted))
    # From a number to one that counts from the end is a range that only keys can give.
    to_the_end = frozenset([f"{first}..{last}"])
    expected = to_the_end if first >= 0 > last else names
    assert Pattern.parse(f"{{{first}..{last}}}").names == expected


def _refusal(glob: str) -> str:
    try:
        Pattern.parse(glob)
    except PatternError as refused:
        return str(refused).removeprefix(f"pattern {glob!r}: ")
    return ""


@given(st.text("abc-!^]", min_size=1, max_size=6), st.sampled_from("abc-!^]xd"))
def test_classes_hold_what_fnmatch_s_do(members: str, char: str) -> None:
    glob = f"[{members}]"
    for key in (char, f"{char}]", f"{char}x]"):
        if not _refusal(glob):
            assert Pattern.parse(glob).matches(key) == fnmatch.fnmatchcase(key, glob)


@given(st.text("abc-!^]", max_size=6))
def test_only_classes_that_are_open_or_run_backwards_are_refused(members: str) -> None:
    """To fnmatch the one is literal and the other empty, which nobody means."""
    refusal = _refusal(f"[{members}]")

    if "not closed" in refusal:
        assert members in ("", "!")
    elif refusal:
        low, high = re.fullmatch("the range (.)-(.) runs backwards", refusal).groups()
        assert low > high
        assert f"{low}-{high}" in members


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("a[", "'[' is not closed; '[[]' is a literal one"),
        ("a[!", "'[' is not closed; '[[]' is a literal one"),
        ("a[!]", "'[' is not closed; '[[]' is a literal one"),
        ("{a[b,c}", "'[' is not closed; '[[]' is a literal one"),
        ("{", "'{' is not closed; '[{]' is a literal one"),
        ("{a,{b}", "'{' is not closed; '[{]' is a literal one"),
        ("{1..3", "'{' is not closed; '[{]' is a literal one"),
        ("layers.[-1].w", "[-1] is a set of characters; numbers from the end are {-1}"),
        ("layers.[-2:].w", "[-2:] is a set of characters; a range is {-2..-1}"),
        ("layers.[:3].w", "[:3] is a set of characters; a range is {0..2}"),
        ("layers[1:3].w", "[1:3] is a set of characters; a range is {1..2}"),
        ("layers.[2:].w", "[2:] is a set of characters; a range is {2..-1}"),
        ("layers.[0..3].w", "[0..3] is a set of characters; a range is {0..3}"),
        ("layer[10,11].w", "[10,11] is a set of characters; a choice is {10,11}"),
        ("layers.[-2, -1].w", "[-2, -1] is a set of characters; a choice is {-2,-1}"),
        ("[!c-a]", "the range c-a runs backwards"),
        ("{..}", "'{..}' is not a range of integers"),
        ("{1..2..3}", "'{1..2..3}' is not a range of integers"),
        ("{1.5..3}", "'{1.5..3}' is not a range of integers"),
        ("{+1..3}", "'{+1..3}' is not a range of integers"),
        ("{ 1..3}", "'{ 1..3}' is not a range of integers"),
        ("{[0]..3}", "'{[0]..3}' is not a range of integers"),
        ("{*..3}", "'{*..3}' is not a range of integers"),
        ("{0..-100000}", "its braces stand for more than 100,000 names"),
        ("*{0..9999}{a,b}", "its braces stand for more than 10,000 names"),
        ("re:[a", "not a regular expression: unterminated character set at position 0"),
        ("re:*", "not a regular expression: nothing to repeat at position 0"),
    ],
)
def test_what_is_malformed_is_named(pattern: str, problem: str) -> None:
    with pytest.raises(PatternError) as refused:
        Pattern.parse(pattern)

    assert str(refused.value) == f"pattern {quoted(pattern)}: {problem}"
    assert refused.value.about == pattern


@pytest.mark.parametrize(
    "pattern",
    [
        "{0..99999}" * 20,
        "*{0..9999}" * 20,
        "{0..999999999999999999}",
        "{a,b}" * 5000,
        "{{0..99999},{0..9999}}",
        "{a,b{a,b{a,b{a,b{" + ",".join("a" * 100_000) + "}}}}}",
    ],
    ids=lambda text: text[:24],
)
def test_too_many_names_are_refused_at_once(pattern: str) -> None:
    started = time.process_time()
    with pytest.raises(PatternError, match=r"its braces stand for more than 100?,000 names"):
        Pattern.parse(pattern)
    assert time.process_time() - started < 1


def test_names_in_braces_may_be_long() -> None:
    long, longer = "a" * 2000, "a" * 1999 + "b" * 2000

    assert Pattern.parse(f"{{{long},{longer}}}").names == {long, longer}
    assert Pattern.parse(f"*.{{{long},{longer}}}").matches(f"x.{longer}")


@pytest.mark.parametrize(
    ("pattern", "key", "is_match"),
    [
        ("re:", "", True),
        ("re:", "a", False),
        ("re:a|ab", "ab", True),
        ("re:A", "a", False),
        ("re:(?i)A", "a", True),
        ("re:a.b", "a\nb", False),
        ("re:a$", "a\n", False),
        (" re:a", " re:a", True),
        ("RE:a", "a", False),
        ("*", "", True),
        ("?", "", False),
        ("?", "é", True),
        ("?", "\n", True),
        ("[!a]", "\n", True),
        ("a", "a\n", False),
        ("*a", "a\n", False),
        ("a.b", "axb", False),
        ("a+(b)|^$\\", "a+(b)|^$\\", True),
        ("***a***", "ba", True),
        ("*?*", "", False),
        ("größe.*", "größe.ß", True),
    ],
)
def test_nothing_else_is_special(pattern: str, key: str, is_match: bool) -> None:
    assert Pattern.parse(pattern).matches(key) is is_match


@pytest.mark.parametrize(
    ("pattern", "is_named"),
    [
        ("bn.running_mean", True),
        ("running_mean", True),
        ("*.running_mean*", True),
        ("*.{running_mean,running_var}*", True),
        ("*.running_mean.x*", False),
        ("bn[.]running_mean", True),
        ("*.running_mea[n]", True),
        ("{running_mean,*}.x", False),
        ("*.running_mea?", False),
        ("*.Running_mean", False),
    ],
)
def test_wildcards_beside_a_name_do_not_hide_it(pattern: str, is_named: bool) -> None:
    assert Pattern.parse(pattern).names_segment("running_mean") is is_named


def _expanded(glob: str) -> list[str]:
    """Expand the innermost braces, again and again."""
    found = re.search(r"\{([^{}]*)\}", glob)
    if not found:
        return [glob]
    return [
        name
        for option in found[1].split(",")
        for name in _expanded(glob[: found.start()] + option + glob[found.end() :])
    ]


BRACED = st.recursive(
    st.sampled_from(["a", "b", "ab", "abb", "", "*", "?", "*a"]),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda some: f"{{{','.join(some)}}}")
        | st.lists(inner, min_size=2, max_size=5).map("*".join)
    ),
    max_leaves=8,
)


@given(BRACED, st.text("ab", max_size=9))
def test_braces_and_stars_match_the_union_of_what_they_expand_to(glob: str, key: str) -> None:
    if glob:
        expected = any(fnmatch.fnmatchcase(key, each) for each in _expanded(glob))
        assert Pattern.parse(glob).matches(key) == expected


HOSTILE = {
    "stars": ("*a" * 100 + "*b", "a" * 5000),
    "stars and question marks": ("*?a" * 50 + "*b", "a" * 2000),
    "stars and classes": ("*[ab]" * 50 + "*c", "ab" * 1000),
    "choices among stars": ("*{a,b}" * 5 + "*c", "ab" * 60),
    "choices of unequal length among stars": ("*{a,bb,aba}" * 5 + "*c", "ab" * 60),
    "stars in choices": ("{*a,*b}" * 5 + "c", "ab" * 50),
    "stars in nested choices": ("{*{a,b},x}" * 5 + "c", "ab" * 50),
    "two stars": ("*a*b", "a" * 5000),
    "choices that begin each other": ("*{a,aa}" * 13 + "b", "a" * 2000),
    "choices that begin each other between two stars": ("*" + "{a,aa}" * 13 + "*b", "a" * 500),
    "wild choices": ("*" + "{?,??}" * 13 + "*b", "a" * 500),
    "a long key": ("*a*b", "a" * 200_000),
}


@pytest.mark.parametrize(("pattern", "key"), HOSTILE.values(), ids=HOSTILE)
def test_the_time_of_a_match_is_bounded(pattern: str, key: str) -> None:
    """Keys come from strangers: none may keep a pattern busy for long."""
    parsed = Pattern.parse(pattern)

    started = time.process_time()
    assert not parsed.matches(key)
    assert time.process_time() - started < 2


def test_no_glob_takes_for_ever() -> None:
    pattern = Pattern.parse("*a" * 30 + "*b")

    started = time.process_time()
    assert not pattern.matches("a" * 2000)
    assert time.process_time() - started < 1


@given(GLOBS, st.lists(st.text("ab.1٣2\n", max_size=8)))
def test_keys_that_differ_in_numbers_alone_are_still_told_apart(glob: str, keys: list[str]) -> None:
    pattern = Pattern.parse(glob)

    assert sorted(KeyIndex(keys).select(pattern)) == pattern.select(keys)


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
        index = KeyIndex(keys)
        found = [index.select(pattern) for pattern in patterns]
        assert sorted(found[0]) == list(range(100_000))
        return time.process_time() - started

    assert min(once() for _ in range(3)) < 0.5


def test_the_regex_behind_a_glob_is_valid_for_python() -> None:
    assert re.escape("a.b") in Pattern.parse("a.b*")._regex.source


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("l.{4, 5}.w", "l.{4,5}.w"),
        ("l.{ 4 ,5 }.w", "l.{4,5}.w"),
        ("{q, {k ,v} }_proj", "{q,{k,v}}_proj"),
        ("l.{0, -1}.w", "l.{0,-1}.w"),
    ],
)
def test_spaces_around_an_option_in_braces_are_not_part_of_it(written: str, meant: str) -> None:
    """Otherwise {4, 5} fills layer 4 alone, without a word."""
    keys = [f"l.{number}.w" for number in range(7)] + ["q_proj", "k_proj", "v_proj"]

    assert Pattern.parse(written).select(keys) == Pattern.parse(meant).select(keys) != []


def test_other_spaces_are_part_of_a_name() -> None:
    pattern = Pattern.parse("{layer one,[ ]b} x")

    assert pattern.names == {"layer one x", " b x"}


@pytest.mark.parametrize("pattern", ["[0-3]", "[135]", "[1,3]", "[a:]", "[.:]", "[-_]", "s[-1]"])
def test_sets_of_characters_stay_what_they_are(pattern: str) -> None:
    members = pattern.partition("[")[2][:-1]

    assert Pattern.parse(pattern).matches(pattern.partition("[")[0] + members[0])
