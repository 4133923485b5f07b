"""Words and numbers for people: spelling, escaping, units."""

from __future__ import annotations

import re
from collections.abc import Iterable


def near(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the known words spelled most like `word`, the nearest first.

    Words that are clearly further than the nearest are left out.
    """
    from difflib import SequenceMatcher, get_close_matches

    by_lower = {name.lower(): name for name in known}
    found = get_close_matches(word.lower(), by_lower, n=count, cutoff=0.6)
    ratios = [SequenceMatcher(None, name, word.lower()).ratio() for name in found]
    return [
        by_lower[name] for name, ratio in zip(found, ratios, strict=True) if ratio > ratios[0] - 0.1
    ]


def printable(text: str) -> str:
    """Return `text` with every character that could act on a terminal shown as its escape.

    Keys come from strangers: control and bidirectional characters would move the cursor,
    recolour the screen or reorder what is read.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def why(error: OSError | ValueError) -> str:
    """Return what the system says of a failure, without number and path."""
    return (getattr(error, "strerror", None) or str(error)).lower()


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


def parse_nbytes(text: str) -> int:
    """Return the bytes that "5GB", "1.5GiB" or "4096" stands for.

    Prefixes are powers of 1000 without an i, of 1024 with one.

    Raises:
        ValueError: it is not a size; the text says what is wrong.
    """
    found = re.fullmatch(r"(\d{1,20}(?:\.\d{1,20})?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    if not found:
        raise ValueError(f"{text!r} is no size; write it as 5GB or 500MiB")
    number, prefix, binary = found.groups()
    count = int(float(number) * (1024 if binary else 1000) ** " kmgt".index(prefix or " "))
    if count < 1:
        raise ValueError(f"{text!r} is less than a byte")
    return count


def plural(count: int, noun: str) -> str:
    """Return "1 tensor", "2 tensors", "1,000 tensors"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shape(dims: tuple[int, ...]) -> str:
    """Return a shape as "64x3x11x11", and that of a scalar as "scalar"."""
    return "x".join(map(str, dims)) or "scalar"
