"""A page shows all that a command prints, or says where it leaves something out."""

from __future__ import annotations

import pytest

from tests.pages import Block, Reader, blocks_of, is_shown, typed_in


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        (["a", "b"], ["a", "b"], True),
        (["a", "b"], ["  a", "", "b  "], True),
        (["a"], ["a", "b"], False),
        (["a", "b"], ["a"], False),
        (["a", "…"], ["a", "b", "c"], True),
        (["a", "…"], ["a"], True),
        (["…", "b"], ["a", "c"], False),
        (["a", "…", "c", "…", "e"], ["a", "b", "c", "c", "d", "e"], True),
        (["a", "…", "c", "…", "e"], ["a", "b", "d", "e"], False),
        (["took  … s"], ["took  0.3 s"], True),
        (["took  … s"], ["took  0.3 ms"], False),
        (["a.…weight"], ["a.…weight"], True),
        (["…"], [], True),
        (["(a|b)*"], ["aab"], False),
    ],
)
def test_a_page_shows_all_lines_but_for_its_gaps(
    shown: list[str], printed: list[str], expected: bool
) -> None:
    assert is_shown(shown, printed) is expected


def test_a_command_and_its_output_are_told_apart() -> None:
    (block,) = blocks_of("x\n\n```console\n$ one \\\n    --more\nprinted\n\nas well\n$ two\n```\n")

    first, second = typed_in(block)

    assert (first.command, list(first.shown)) == ("one \\\n    --more", ["printed", "as well"])
    assert (second.command, list(second.shown)) == ("two", [])


def test_a_block_is_saved_where_the_sentence_before_it_says_so() -> None:
    text, other = blocks_of(
        "Save this as `a.toml`:\n\n```toml\nx = 1\n```\n\n```toml\ny = 1\n```\n"
    )

    assert (text.file, other.file) == ("a.toml", None)


def test_a_command_that_fails_is_an_error_of_the_page_unless_it_says_so(
    environment: dict[str, str],
) -> None:
    Reader(environment).follow(Block("console", "$ false\n$ echo $?\n1\n$ true\n"))

    with pytest.raises(AssertionError, match="exits with 1 and the page does not say so"):
        Reader(environment).follow(Block("console", "$ false\n$ true\n"))
    with pytest.raises(AssertionError, match="2"):
        Reader(environment).follow(Block("console", "$ (exit 2)\n$ echo $?\n1\n"))


def test_what_is_printed_otherwise_is_an_error_of_the_page(environment: dict[str, str]) -> None:
    with pytest.raises(AssertionError, match="hello"):
        Reader(environment).follow(Block("console", "$ echo hello\nhallo\n"))


def test_a_bar_that_is_cleared_stays_on_no_page(environment: dict[str, str]) -> None:
    bar = r"printf 'bar 0%%\r\033[2Kbar 9%%\n\033[1A\033[2Kdone\n'"
    Reader(environment).follow(Block("console", f"$ {bar}\ndone\n"))
