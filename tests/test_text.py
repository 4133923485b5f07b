"""Words and numbers for people."""

from __future__ import annotations

import unicodedata

import pytest

from reinit_cli.text import (
    LONGEST_LINE,
    LONGEST_WORD,
    nbytes,
    one_line,
    parse_integer,
    parse_nbytes,
    parse_number,
    printable,
    quoted,
    shortened,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (244_408_336, "244.4 MB"),
        (4 * 10**12, "4.0 TB"),
        (4 * 10**15, "4,000.0 TB"),
        (2**63, "9,223,372.0 TB"),
    ],
)
def test_bytes_are_shown_in_decimal_units(count: int, text: str) -> None:
    assert nbytes(count) == text


def test_what_acts_on_a_terminal_is_escaped() -> None:
    control = [chr(at) for at in (*range(32), *range(127, 160))]
    bidirectional = [*"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"]
    separators = ["\u2028", "\u2029", "\u00a0", "\ufeff", "\u200b", "\U000e0041"]
    surrogates = [chr(0xD800), chr(0xDFFF)]

    for char in (*control, *bidirectional, *separators, *surrogates):
        assert printable(char).isprintable()
        assert printable(char).startswith("\\")
        assert unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"}
    assert printable("größe 重み 😀") == "größe 重み 😀"


@pytest.mark.parametrize(
    "text", ["x" * 10**7, "\x1b" * 10**7, "\ud800" * 3000, "a\n" * 2000, "short"]
)
def test_a_line_is_one_line_and_bounded(text: str) -> None:
    line = one_line(text)

    assert line.isprintable()
    assert len(line) <= LONGEST_LINE


def test_a_long_text_loses_its_middle_alone() -> None:
    text = f"start{'x' * 10**6}end"

    assert len(shortened(text)) <= LONGEST_WORD
    assert shortened(text).startswith("startx")
    assert shortened(text).endswith("xend")
    assert "x[...]x" in shortened(text)
    assert shortened("x" * LONGEST_WORD) == "x" * LONGEST_WORD
    assert quoted("a\nb") == repr("a\nb")


@pytest.mark.parametrize("text", ["0", "-1", "+7", " 12 ", "9" * 30, "-" + "9" * 30, "007"])
def test_an_integer_is_read_as_python_reads_it(text: str) -> None:
    assert parse_integer(text) == int(text)


@pytest.mark.parametrize(
    "text", ["", "-", "1_000", "٣", "²", "1.0", "1e3", "0x10", "9" * 31, "9" * 5000, "1 2", "one"]
)
def test_what_is_not_an_integer_in_ascii_digits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an integer of at most 30 digits"):
        parse_integer(text)


@pytest.mark.parametrize(
    "text",
    ["0", "-1.5", "1e-3", ".5", "5.", "+2E+3", " 3 ", "inf", "-Infinity", "1e-999", "0" * 999],
)
def test_a_number_is_read_as_python_reads_it(text: str) -> None:
    assert parse_number(text) == float(text)


@pytest.mark.parametrize("text", ["1e999", "-1e309", "9" * 400, "٣", "1_0.5", "", "e5", "0x1p3"])
def test_a_number_that_float64_cannot_hold_is_refused_rather_than_infinite(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a number|is too large"):
        parse_number(text)


def test_sizes_are_written_in_ascii_digits() -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_nbytes("٣GB")
