"""Words and numbers for people: spelling, escaping, units."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Sequence

LONGEST_LINE = 2_000
"""The most characters of a line for people; strangers name keys of megabytes."""

LONGEST_WORD = 500
"""The most characters of a key, a path or a name within such a line."""

CUT = "[...]"
"""What stands for the middle of a text that is too long."""

MAX_DIGITS = 30
"""The most digits of an integer; reading more takes time that grows with their square."""

_INTEGER = re.compile(rf"[+-]?[0-9]{{1,{MAX_DIGITS}}}")
_NUMBER = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?inf(?:inity)?|[+-]?nan"
)


_LONGEST_NEAR = 200
"""The most characters of a word whose near spellings are looked for."""

MOST_COMPARED = 5 * 10**7
"""The most pairs of characters that are compared to find them, which takes half a second."""


def near(
    word: str, known: Iterable[str], count: int = 3, most_compared: int = MOST_COMPARED
) -> list[str]:
    """Return the known words spelled most like `word`, the nearest first.

    Words that are clearly further than the nearest are left out, and so are long ones and
    those that come after others whose comparison took too long.
    """
    from difflib import SequenceMatcher, get_close_matches

    if len(word) > _LONGEST_NEAR:
        return []
    by_lower: dict[str, str] = {}
    for name in known:
        if not len(word) // 3 <= len(name) <= 3 * len(word) + 3:
            continue  # too few of its letters can be those of the word
        most_compared -= len(word) * len(name)
        if most_compared < 0:
            break
        by_lower[name.lower()] = name
    found = get_close_matches(word.lower(), by_lower, n=count, cutoff=0.6)
    ratios = [SequenceMatcher(None, name, word.lower()).ratio() for name in found]
    return [
        by_lower[name] for name, ratio in zip(found, ratios, strict=True) if ratio > ratios[0] - 0.1
    ]


_DIGITS = re.compile(r"[0-9]+")


def natural(key: str) -> str:
    """Return what orders keys and paths as people count: layers.2 before layers.10.

    Numbers are compared as text, the shorter first: a stranger's may have any number of digits.
    One text of all parts takes little more than the key, which may have thousands of numbers.
    """
    return _DIGITS.sub(_with_length, key)


def _with_length(digits: re.Match[str]) -> str:
    """Return a number after its length, and both after what sorts before any text."""
    number = digits[0].lstrip("0")
    return f"\0{chr(min(len(number), sys.maxunicode))}{number}"


_LOOKALIKES = str.maketrans("“”„‟‘’‚‛′″–—−‐‑", '""""' + "''''" + "'\"" + "-----")
"""What word processors and chats make of quotes and hyphens."""


def plain(text: str) -> str:
    """Return a text with ASCII's quotes, hyphens, digits and marks for what looks like them."""
    import unicodedata

    return unicodedata.normalize("NFKC", text).translate(_LOOKALIKES)


def printable(text: str) -> str:
    """Return `text` with every character that could act on a terminal shown as its escape.

    Keys come from strangers: control and bidirectional characters would move the cursor,
    recolor the screen or reorder what is read.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def shortened(text: str, longest: int = LONGEST_WORD) -> str:
    """Return a text without its middle, where it is too long."""
    if len(text) <= longest:
        return text
    kept = (longest - len(CUT)) // 2
    return f"{text[:kept]}{CUT}{text[-kept:]}"


def named(text: str) -> str:
    """Return a text from a stranger as the short `repr` of a result has it, without quotes."""
    return printable(shortened(text))


def quoted(text: str) -> str:
    """Return a text from a stranger within quotes, its middle left out where it is too long.

    Unlike `repr` it leaves backslashes as they are, as in regular expressions and paths.
    """
    shown = printable(shortened(text))
    mark = '"' if "'" in shown and '"' not in shown else "'"
    return f"{mark}{shown}{mark}"


def one_line(text: str) -> str:
    """Return a text as one line that a terminal can show: escaped, and not too long."""
    # It is cut before too, so that megabytes are not escaped, and after, since escapes are longer.
    return shortened(printable(shortened(text, LONGEST_LINE)), LONGEST_LINE)


def why(error: OSError | ValueError) -> str:
    """Return what the system says of a failure, without number and path."""
    if "embedded null" in str(error):  # a byte or a character, depending on Python's version
        return "embedded null byte"
    return (getattr(error, "strerror", None) or str(error)).lower()


_WIDE = (
    (16 * 2**20, re.compile(rb"[\xf0-\xff]"), re.compile(rb"\\u[dD][89abAB]")),
    (32 * 2**20, re.compile(rb"[\xc4-\xef]"), re.compile(rb"\\u(?!00)")),
)
"""How long JSON may be that has a character of four bytes in memory, or of two, and such ones."""


def is_wide(data: bytes) -> bool:
    """Whether one character makes a long text of JSON take several times its size in memory."""
    if len(data) <= min(most for most, _, _ in _WIDE):
        return False
    is_ascii, has_escapes = data.isascii(), b"\\u" in data
    return any(
        len(data) > most
        and ((not is_ascii and raw.search(data)) or (has_escapes and escaped.search(data)))
        for most, raw, escaped in _WIDE
    )


def why_not_parsed(error: ValueError | RecursionError) -> str:
    """Return what a parser of JSON or TOML says of a text that it refuses."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    # `int` says which function of Python's to call.
    return "a number has too many digits" if "max_str_digits" in str(error) else str(error)


def number(value: float) -> str:
    """Return a float in five significant digits."""
    return f"{value:.5g}"


def nbytes(count: int) -> str:
    """Return a count of bytes in decimal units, as file managers and `ls --si` show it."""
    if count < 1000:
        return f"{count} B"
    scaled = float(count)
    for unit in ("kB", "MB", "GB"):
        if (scaled := scaled / 1000) < 999.95:
            return f"{scaled:.1f} {unit}"
    return f"{scaled / 1000:,.1f} TB"


def duration(seconds: float) -> str:
    """Return a time for people: "0.1 s", "3.7 s", "2 min 5 s", "1 h 10 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def has_too_many_digits(text: str) -> bool:
    """Whether a text is an integer, but longer than any that is read."""
    digits = text.strip().lstrip("+-")
    return digits.isascii() and digits.isdecimal() and len(digits) > MAX_DIGITS


def parse_integer(text: str) -> int:
    """Return the integer that decimal digits stand for, with or without a sign.

    `int` takes the digits of every script, underscores, and numbers of thousands of digits.

    Raises:
        ValueError: it is not one.
    """
    word = text.strip()
    if not _INTEGER.fullmatch(word):
        raise ValueError(f"{quoted(text)} is not an integer of at most {MAX_DIGITS} digits")
    return int(word)


def parse_number(text: str) -> float:
    """Return the number that a decimal text, "inf" or "nan" stands for.

    Raises:
        ValueError: it is not one, or it is too large for float64.
    """
    word = text.strip().lower()
    if not _NUMBER.fullmatch(word):
        raise ValueError(f"{quoted(text)} is not a number")
    number = float(word)
    if math.isinf(number) and "inf" not in word:
        raise ValueError(f"{quoted(text)} is too large")
    return number


def parse_nbytes(text: str) -> int:
    """Return the bytes that "5GB", "1.5GiB" or "4096" stands for.

    Prefixes are powers of 1000 without an i, of 1024 with one.

    Raises:
        ValueError: it is not a size; the text says what is wrong.
    """
    found = re.fullmatch(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    if not found:
        raise ValueError(f"{quoted(text)} is not a size; write it as 5GB or 500MiB")
    number, prefix, binary = found.groups()
    count = int(float(number) * (1024 if binary else 1000) ** " kmgt".index(prefix or " "))
    if count < 1:
        raise ValueError(f"{quoted(text)} is less than a byte")
    return count


def plural(count: int, noun: str) -> str:
    """Return "1 tensor", "2 tensors", "1,000 tensors"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(words: Sequence[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def shape(dims: tuple[int, ...]) -> str:
    """Return a shape as "64x3x11x11", and that of a scalar as "scalar"."""
    return "x".join(map(str, dims)) or "scalar"


def kind_of(value: object) -> str:
    """Return what a value is that was given for something else: "None", "an int", "a list"."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


Field = str | int | float | None
"""A value in a table for notebooks."""

MOST_ROWS = 100
"""The most rows of such a table: a notebook keeps what it shows."""

_CELL = "padding:0.15em 0.8em 0.15em 0;border:none"


def html_table(columns: Sequence[str], rows: Sequence[Sequence[Field]]) -> str:
    """Return a table in HTML without colors of its own, so that it fits a dark page too.

    Args:
        columns: their titles; one without a value is left out.
        rows: as many values each; numbers are aligned to the right.
    """
    shown = [at for at in range(len(columns)) if any(row[at] not in ("", None) for row in rows)]
    columns, rows = [columns[at] for at in shown], [[row[at] for at in shown] for row in rows]

    def cell(value: Field, tag: str = "td") -> str:
        side = "left" if isinstance(value, str) else "right"
        shown = value if isinstance(value, str) else _in_cell(value)
        return f'<{tag} style="{_CELL};text-align:{side}">{html_text(shown)}</{tag}>'

    are_numbers = [not any(isinstance(row[at], str) for row in rows) for at in range(len(columns))]
    head = "".join(
        f'<th style="{_CELL};text-align:{"right" if is_number else "left"}">{html_text(title)}</th>'
        for title, is_number in zip(columns, are_numbers, strict=True)
    )
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows[:MOST_ROWS])
    left = len(rows) - MOST_ROWS
    more = f"<p>and {plural(left, 'more row')}</p>" if left > 0 else ""
    return (
        f'<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>{more}"
    )


def html_text(text: str) -> str:
    """Return a text from anybody as HTML that shows it."""
    from html import escape

    return escape(shortened(printable(text)))


def _in_cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else number(value)


def html_section(title: str, inside: str, *, is_open: bool = True) -> str:
    """Return a part of a page in a notebook, below a line that opens and closes it."""
    is_shown = " open" if is_open else ""
    return f"<details{is_shown}><summary>{html_text(title)}</summary>{inside}</details>"
