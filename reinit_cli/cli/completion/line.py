"""Split a line into words, and quote what completes it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Line(NamedTuple):
    """A line as far as it is written.

    Attributes:
        before: its words but the last, without quotes.
        word: the last, without quotes; "" after a space.
        typed: the end of it that the shell takes for the word, as it is typed.
        quote: the quote that is still open, or "".
    """

    before: tuple[str, ...]
    word: str
    typed: str
    quote: str


def read_line(line: str, breaks: str = "") -> Line:
    """Split a line as a shell would.

    Args:
        line: what is written in front of the cursor.
        breaks: the characters at which bash begins a word of its own, outside quotes.
    """
    words: list[str] = []
    word = quote = ""
    has_word = False
    at = typed_from = opened_at = 0
    while at < len(line):
        char = line[at]
        at += 1
        if char == "\\" and _is_escape(line[at : at + 1], quote):
            word, has_word = word + line[at : at + 1], True
            at += 1
        elif quote:
            quote, word = ("", word) if char == quote else (quote, word + char)
        elif char in "'\"":
            quote, has_word, opened_at = char, True, at
        elif char.isspace():
            words += [word] if has_word else []
            word, has_word, typed_from = "", False, at
        else:
            word, has_word = word + char, True
            typed_from = at if char in breaks else typed_from
    return Line(tuple(words), word, line[opened_at if quote else typed_from :], quote)


def _is_escape(following: str, quote: str) -> bool:
    """Whether a backslash takes the meaning of what follows, within that quote."""
    return quote == "" or (quote == '"' and following in {"$", "`", '"', "\\"})


def shown(candidates: Iterable[str], line: Line, shell: str) -> Iterator[str]:
    """Yield candidates as a shell takes them, in place of what is typed.

    fish quotes them itself. The others get what is typed as it stands, and after it
    what follows, quoted as the word is.
    """
    for candidate in candidates:
        text = candidate.removesuffix(" ")
        is_finished = text != candidate
        following = _quoted(text[len(line.word) :], line.quote)
        if shell == "fish":
            yield text
        elif following is not None and text.startswith(line.word):
            # bash would put the space inside the quotes, which it closes itself.
            has_space = is_finished and not (shell == "bash" and line.quote)
            yield line.typed + following + (" " if has_space else "")


_SPECIAL = re.compile(r"[^\w.+@%/:=,-]")


def _quoted(text: str, quote: str) -> str | None:
    """Return text so that it stands for itself within an open quote, or outside of quotes.

    Returns:
        None where it cannot be written: single quotes hold all but themselves, and in
        double quotes a backslash that keeps "!" from being obeyed stays.
    """
    if quote == "'":
        return None if "'" in text else text
    if quote:
        return None if "!" in text else re.sub(r'[$`"\\]', r"\\\g<0>", text)
    return _SPECIAL.sub(r"\\\g<0>", text)
