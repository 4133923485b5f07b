"""Tables fit: what leaves, what is folded, what is shortened, and what never is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from reinit_cli.cli.render.layout import Strip, fact_lines, shortened, table_lines, wrapped
from reinit_cli.cli.screen import Screen

LONG = "model.layers.31.post_attention_layernorm.weight"

KEYS = Strip("key", ["embed.weight", LONG], is_key=True)
SHAPES = Strip("shape", ["128256x4096", "4096"])
COUNTS = Strip("parameters", ["525,336,576", "4,096"], is_right=True, rank=1)
SIZES = Strip("bytes", ["1.1 GB", "8.2 kB"], is_right=True, rank=2)
SHEET = (KEYS, SHAPES, COUNTS, SIZES)


def _table(strips: Sequence[Strip], width: int, *, is_wide: bool = False) -> list[str]:
    lines, _ = table_lines(strips, Screen(width=width, is_wide=is_wide))
    return list(lines)


def test_columns_leave_by_rank_and_are_named() -> None:
    hidden = {width: table_lines(SHEET, Screen(width=width))[1] for width in (81, 80, 72, 60)}

    assert hidden == {
        81: [],
        80: ["bytes"],
        72: ["parameters", "bytes"],
        60: ["parameters", "bytes"],
    }


def test_a_key_is_shortened_only_after_every_column_that_may_leave_has_left() -> None:
    assert any(LONG in line for line in _table(SHEET, 60))

    (row,) = (line for line in _table(SHEET, 50) if "…" in line)
    key, shape = row.split()
    assert (len(key), shape) == (37, "4096")
    head, tail = key.split("…")
    assert LONG.startswith(head)
    assert LONG.endswith(tail)
    assert abs(len(head) - len(tail)) <= 1


def test_wide_leaves_nothing_out() -> None:
    assert _table(SHEET, 30, is_wide=True) == _table(SHEET, 1_000)


def test_a_narrow_screen_shows_each_row_as_a_block() -> None:
    lines = _table((Strip("key", ["fc.weight"], is_key=True), SHAPES, COUNTS), 20)[:4]

    assert lines == ["fc.weight", "  shape: 128256x4096", "  parameters:", "    525,336,576"]


def test_one_key_that_is_longer_than_the_screen_leaves_the_table_a_table() -> None:
    numbers = [Strip(f"n{n}", ["0.25", "1"], is_right=True, rank=n) for n in range(1, 6)]
    keys = Strip("key", ["fc.weight", "x" * 300], is_key=True)

    lines, hidden = table_lines((keys, *numbers), Screen(width=80))
    shown = list(lines)

    assert hidden == []
    assert shown[2].split() == ["fc.weight", *["0.25"] * 5]
    assert "…" in shown[3]
    assert {len(line) for line in shown} == {80}


def test_headings_are_folded_at_spaces_and_stand_on_the_rule() -> None:
    strips = (Strip("std before → after", ["1 → 2"], is_right=True), Strip("key", ["a"]))

    assert _table(strips, 40)[0] == "std before → after  key"
    assert _table(strips, 12) == [
        "   std",
        "before",
        "     →",
        " after  key",
        "──────  ───",
        " 1 → 2  a",
    ]


def test_rows_of_a_group_are_listed_under_its_title() -> None:
    strips = (Strip("name", ["xavier", "kaiming", "zeros"]),)

    lines, _ = table_lines(strips, Screen(width=40), ["layers", "layers", "one value"])

    assert list(lines) == [
        *("name", "───────", "layers", "xavier", "kaiming"),
        *("", "one value", "zeros"),
    ]


def test_a_text_is_wrapped_before_a_column_leaves_but_not_below_what_reads_well() -> None:
    law = Strip("law", ["a normal distribution cut off at two of its deviations"])
    arguments = Strip("arguments", ["mean=0.0, std=1.0"], rank=1)

    assert table_lines((law, arguments), Screen(width=43))[1] == []
    assert table_lines((law, arguments), Screen(width=42))[1] == ["arguments"]
    unwrapped = Strip("law", law.texts, comfortable=60)
    assert table_lines((unwrapped, arguments), Screen(width=60))[1] == ["arguments"]


@pytest.mark.parametrize("width", [20, 31, 47, 80])
def test_facts_are_wrapped_at_spaces_below_each_other(width: int) -> None:
    text = "one of linear, conv1d, conv_transpose3d, sigmoid and leaky_relu"

    lines = list(fact_lines([("argument", text, None)], Screen(width=width)))

    assert max(map(len, lines)) <= width
    assert " ".join(" ".join(lines).split()) == f"argument {text}"
    indents = {len(line) - len(line.lstrip()) for line in lines[1:]}
    assert len(indents) <= 1


_TEXTS = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), max_size=90)


@given(_TEXTS, st.integers(2, 60))
def test_a_wrapped_text_fits_and_has_every_letter(text: str, width: int) -> None:
    """Rich measures how wide a character is."""
    lines = wrapped(text, width)

    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(_TEXTS, st.integers(3, 60))
def test_a_shortened_text_fits_and_keeps_both_ends(text: str, width: int) -> None:
    short = shortened(text, width)

    assert cell_len(short) <= max(width, 0)
    if short != text:
        head, _, tail = short.partition("…")
        assert text.startswith(head)
        assert text.endswith(tail)


_STRIPS = st.lists(
    st.tuples(
        st.text("ab c", min_size=1, max_size=14).filter(str.strip),
        st.lists(_TEXTS, min_size=3, max_size=3),
        st.booleans(),
        st.integers(0, 3),
        st.booleans(),
    ),
    min_size=1,
    max_size=7,
)


@given(_STRIPS, st.integers(20, 200))
def test_no_line_is_wider_than_the_screen(
    drawn: list[tuple[str, list[str], bool, int, bool]], width: int
) -> None:
    strips = [
        Strip(title.strip(), texts, {}, right, rank, key)
        for title, texts, right, rank, key in drawn
    ]

    assert all(cell_len(line) <= width for line in _table(strips, width))
