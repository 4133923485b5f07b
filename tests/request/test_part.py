"""The bracket at the end of a pattern: a part of a tensor, or a set of characters."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reinit_cli.errors import PatternError, RuleError
from reinit_cli.request.part import Part, parted
from reinit_cli.request.pattern import Pattern
from reinit_cli.request.recipe import parse_recipe
from reinit_cli.request.rule import Rule, rules_of

SPLIT = {
    "embed.weight[50257:]=zeros": ("embed.weight", "50257:", "zeros"),
    "*.weight[:, :3]=zeros": ("*.weight", ":, :3", "zeros"),
    "x[-3:]=ones": ("x", "-3:", "ones"),
    "x[::2]=ones": ("x", "::2", "ones"),
    "*.bias_ih_l0[1/4]=ones": ("*.bias_ih_l0", "1/4", "ones"),
    "w[:,1/4]=ones": ("w", ":, 1/4", "ones"),
    "w[..., 3]=ones": ("w", "..., 3", "ones"),
    "w [0:1] = ones": ("w", "0:1", "ones"),
    "w[mask=m.pt]=ones": ("w", "mask=m.pt", "ones"),
    "w[ mask = m.pt ]=ones": ("w", "mask=m.pt", "ones"),
    "w[mask=a=b.pt]=ones": ("w", "mask=a=b.pt", "ones"),
    "w[mask=zeros:x]=ones": ("w", "mask=zeros:x", "ones"),
    "w[mask=dir[1]/m.pt]=ones": ("w", "mask=dir[1]/m.pt", "ones"),
    "re:w[0-9]+[0:1]=ones": ("re:w[0-9]+", "0:1", "ones"),
    "w[0-9][0:1]=ones": ("w[0-9]", "0:1", "ones"),
    "w[[]a[]][0:1]=ones": ("w[[]a[]]", "0:1", "ones"),
    "w[7]=ones": ("w[7]", None, "ones"),
    "w[abc]=ones": ("w[abc]", None, "ones"),
    "w[[]1:2[]]=ones": ("w[[]1:2[]]", None, "ones"),
    "w{[a:]}=ones": ("w{[a:]}", None, "ones"),
    "w[[:]=ones": ("w[[:]", None, "ones"),
    "w[]:]=ones": ("w[]:]", None, "ones"),
    "w[a:].x=ones": ("w[a:].x", None, "ones"),
    r"re:w\[0:1\]=ones": (r"re:w\[0:1\]", None, "ones"),
    r"re:w[\]:](?:[0:1])=ones": (r"re:w[\]:](?:[0:1])", None, "ones"),
}


@pytest.mark.parametrize(("text", "expected"), SPLIT.items(), ids=SPLIT)
def test_the_last_bracket_with_a_sign_in_it_is_a_part(
    text: str, expected: tuple[str, str | None, str]
) -> None:
    rule = Rule.parse(text)

    found = (rule.pattern.text, rule.part and rule.part.text, rule.init.initializer.name)
    assert found == expected


WRONG = {
    "w[a:b]": "'a:b' is not a range; write 0:4, -3:, : or 1/4 for each dimension, mask=FILE, "
    "heads=0,3 or experts=0..3; "
    "a set of characters is 'w{[a:b]}'",
    "w[5:5]": "'5:5' is empty: it ends before it starts",
    "w[5:3]": "'5:3' is empty: it ends before it starts",
    "w[-1:-2]": "'-1:-2' is empty: it ends before it starts",
    "w[:0]": "':0' is empty: it ends before it starts",
    "w[::0]": "a step is at least 1",
    "w[::-1]": "a step is at least 1",
    "w[4/4]": "there is no 4/4: the first is 0/4, the last 3/4",
    "w[0/0]": "there is no '0/0'",
    "w[-1/4]": "'-1/4' is not a range; write 0:4, -3:, : or 1/4 for each dimension, mask=FILE, "
    "heads=0,3 or experts=0..3",
    "w[..., :, ...]": "'...' can stand in it once",
    "w[" + "," * 64 + "]": "no tensor has 65 dimensions",
    "w[msk=f]": "it has an '=' but no mask=FILE; write 0:4, -3:, : or 1/4 for each dimension, "
    "mask=FILE, heads=0,3 or experts=0..3; a set of characters is 'w{[msk=f]}'",
    "w[mask=]": "it has an '=' but no mask=FILE; write 0:4, -3:, : or 1/4 for each dimension, "
    "mask=FILE, heads=0,3 or experts=0..3; a set of characters is 'w{[mask=]}'",
}


@pytest.mark.parametrize(("pattern", "why"), WRONG.items(), ids=lambda text: text[:20])
def test_what_is_not_a_valid_part_is_refused_with_a_reason(pattern: str, why: str) -> None:
    with pytest.raises(PatternError) as refused:
        Rule.parse(f"{pattern}=zeros")

    assert refused.value.problem == f"[{pattern[2:-1]}] is a part of a tensor, and {why}"


def test_a_part_alone_has_no_pattern() -> None:
    with pytest.raises(PatternError, match="there is no pattern before it"):
        Rule.parse("[0:4]=zeros")


def test_a_part_without_an_initializer_is_named_in_the_error() -> None:
    with pytest.raises(RuleError, match=re.escape("'w[mask=m.pt]' needs an '='")):
        Rule.parse("w[mask=m.pt]")
    with pytest.raises(RuleError, match="needs an '='") as refused:
        Rule.parse("w[0:4]:zeros")
    assert refused.value.known == ("w[0:4]=zeros",)


@pytest.mark.parametrize("text", ["w[0:4]", "*[:, 1/2]", "w [0:4]", "re:a+[-3:]"])
def test_a_part_comes_back_from_what_recipes_and_python_say(text: str) -> None:
    rule = Rule.parse(f"{text}=zeros")
    recipe = {"version": 1, "rule": [rule.serial()]}

    assert parse_recipe(json.dumps(recipe).encode(), "r.json")["rules"] == (rule,)
    assert rules_of({text: "zeros"}) == (rule,)
    assert Rule.of(text, "zeros") == rule
    assert Rule.parse(rule.text) == rule
    assert rule.serial()["match"] == text


def test_rules_on_other_parts_are_others() -> None:
    assert Rule.parse("w[0:4]=zeros") != Rule.parse("w[0:5]=zeros") != Rule.parse("w=zeros")


def test_exclusions_and_exceptions_may_be_parts() -> None:
    rule = Rule.excluding("w[0:4]")

    assert (rule.pattern.text, str(rule.part), rule.init.keeps) == ("w", "[0:4]", True)
    assert Rule.parse("w[0:4]=keep").part == rule.part


@given(st.text("ab.*[]{}!?-1\\", max_size=12))
def test_patterns_without_the_signs_of_a_part_are_read_as_ever(pattern: str) -> None:
    assert parted(pattern) == (pattern, None)


@given(st.text("ab.[]:,=/-*?{}1 ", min_size=1, max_size=12))
def test_a_key_that_is_escaped_is_never_a_part(key: str) -> None:
    assert parted(Pattern.escape(key)) == (Pattern.escape(key), None)


@given(st.text("ab[]:,=/1! \\", max_size=14), st.sampled_from(["", "re:"]))
def test_splitting_off_a_part_loses_nothing(text: str, prefix: str) -> None:
    try:
        pattern, part = parted(prefix + text)
    except PatternError:
        return
    if part is not None:
        assert text.endswith("]")
        assert (prefix + text).startswith(pattern)


SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
BOUNDS = st.none() | st.integers(-5, 5)


@given(SHAPES, st.data())
def test_a_part_has_the_elements_that_numpy_s_slices_have(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(shape)))
    slices = [
        slice(data.draw(BOUNDS), data.draw(BOUNDS), data.draw(st.sampled_from([None, 1, 2, 3])))
        for _ in range(count)
    ]
    ends = zip(slices, shape, strict=False)
    assume(all(abs(end or 0) <= dim for each, dim in ends for end in (each.start, each.stop)))
    words = [
        f"{'' if each.start is None else each.start}:{'' if each.stop is None else each.stop}"
        + (f":{each.step}" if each.step else "")
        for each in slices
    ]
    whole = np.arange(np.prod(shape)).reshape(shape)
    expected = whole[tuple(slices)]
    try:
        _, part = parted(f"w[{','.join(words)}]")
        assert part is not None
        ranges = part.ranges(shape)
    except (PatternError, ValueError):
        assert not expected.size
        return
    assert whole[np.ix_(*ranges)].tolist() == expected.tolist()


def _part(text: str) -> Part:
    _, part = parted(f"w[{text}]")
    assert part is not None
    return part


OF_SHAPE: dict[tuple[str, tuple[int, ...]], str | list[list[int]]] = {
    ("1/4", (8, 3)): [[2, 3], [0, 1, 2]],
    (":, 2/3", (2, 6)): [[0, 1], [4, 5]],
    ("..., 1", (2, 3, 4)): [[0, 1], [0, 1, 2], [1]],
    ("-1, ..., :1", (2, 3, 4)): [[1], [0, 1, 2], [0]],
    ("mask=m.pt", (2, 1)): [[0, 1], [0]],
    ("8:", (8, 3)): "the part [8:] covers nothing: dimension 0 has 8",
    ("0:9", (8, 3)): "9 is outside dimension 0, which has 8",
    ("-9:", (8, 3)): "-9 is outside dimension 0, which has 8",
    (":, 3", (8, 3)): "3 is outside dimension 1, which has 3",
    ("1/3", (8, 3)): "dimension 0 has 8, which 3 does not divide",
    (":, :1", (8,)): "it has 1 dimension, and the part [:, :1] has 2",
    (":", ()): "it has 0 dimensions, and the part [:] has 1",
    (":", (0, 3)): "the part [:] covers nothing: dimension 0 has 0",
}


@pytest.mark.parametrize(("of", "expected"), OF_SHAPE.items(), ids=lambda of: str(of)[:30])
def test_a_part_of_a_shape_is_ranges_or_a_reason(
    of: tuple[str, tuple[int, ...]], expected: str | list[list[int]]
) -> None:
    text, shape = of
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=re.escape(expected)):
            _part(text).ranges(shape)
    else:
        assert [list(each) for each in _part(text).ranges(shape)] == expected


def test_a_long_pattern_takes_a_time_in_proportion() -> None:
    for text in ("[" * 100_000, "[a]" * 50_000 + "[0:1]", "[mask=" * 30_000, "[=" * 50_000):
        with pytest.raises(RuleError):
            Rule.parse(f"{text}]")
