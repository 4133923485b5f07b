"""Members of a JSON text are replaced and added, and every other byte stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.planning.json_edit import adding, edited, objects, parse, replacing

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
).map(lambda value: json.loads(json.dumps(value, sort_keys=True)))
FORMS = st.dictionaries(st.text(max_size=3), VALUES, min_size=1, max_size=5)
STYLES = st.sampled_from(
    [
        {"indent": 2},
        {"indent": 2, "sort_keys": True},
        {"indent": "\t"},
        {},
        {"separators": (",", ":")},
        {"ensure_ascii": False, "indent": 4},
    ]
)


@given(FORMS, STYLES, st.data(), VALUES)
def test_a_replaced_member_is_what_another_dump_would_have(
    form: dict[str, Any], style: dict[str, Any], data: st.DataObject, value: Any
) -> None:
    name = data.draw(st.sampled_from(sorted(form)))
    text = json.dumps(form, **style)

    after = edited(text, [replacing(text, parse(text), name, value)])

    assert json.loads(after) == {**form, name: value}
    if "indent" in style and text.isascii() and json.dumps(value, ensure_ascii=False).isascii():
        assert after == json.dumps({**form, name: value}, **style)


@given(FORMS, STYLES, st.text(max_size=3), VALUES)
def test_an_added_member_is_where_another_dump_would_have_it(
    form: dict[str, Any], style: dict[str, Any], name: str, value: Any
) -> None:
    form.pop(name, None)
    text = json.dumps(form, **style)

    after = edited(text, [adding(text, parse(text), name, value)])

    assert json.loads(after) == {**form, name: value}
    is_plain = text.isascii() and json.dumps({name: value}, ensure_ascii=False).isascii()
    if style == {"indent": 2, "sort_keys": True} and is_plain and form:
        assert after == json.dumps({**form, name: value}, **style)


def test_other_bytes_stay_as_strange_as_they_were() -> None:
    text = '{ "a" :1e3,\r\n\t"vocab_size"  :  10 , "b": [ ],\n"é": "\\u00e9", "a": -0.0 }\n\n'

    after = edited(text, [replacing(text, parse(text), "vocab_size", 12)])

    assert after == text.replace("10", "12")


def test_of_a_name_that_is_there_twice_the_last_counts_as_in_python() -> None:
    text = '{"n": 1, "n": 2}'

    after = edited(text, [replacing(text, parse(text), "n", 3)])

    assert after == '{"n": 1, "n": 3}'
    assert json.loads(after) == {"n": 3}


def test_objects_are_found_with_their_paths_but_not_in_those_that_are_whole() -> None:
    text = '{"a": {"b": {}, "c": 1}, "whole": {"d": {}}, "l": [{}]}'

    found = [path for path, _ in objects(parse(text, frozenset(("whole",))))]

    assert found == [(), ("a",), ("a", "b")]


@pytest.mark.parametrize("depth", [7, 8, 9, 500])
def test_what_is_nested_deeper_is_a_value(depth: int) -> None:
    text = '{"a":' * depth + '{"n": 1}' + "}" * depth

    after = edited(text, [replacing(text, parse(text), "a", 0)])

    assert after == '{"a":0}'
    assert len(list(objects(parse(text)))) == min(depth + 1, 8)


def test_what_is_not_an_object_is_refused() -> None:
    with pytest.raises(ValueError, match="it is not an object"):
        parse("[]")


def test_objects_beyond_the_first_are_values_and_too_many_members_are_refused() -> None:
    text = json.dumps({"a": [], **{str(at): {"n": at} for at in range(300)}})

    assert len(list(objects(parse(text)))) == 256
    assert json.loads(edited(text, [replacing(text, parse(text), "299", 0)]))["299"] == 0
    with pytest.raises(ValueError, match="it has more than 20,000 members"):
        parse(json.dumps(dict.fromkeys(map(str, range(20_001)), 0)))
