"""Lay out pages of help: columns, wrapping, and colors that a pipe does not get."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence

import click

from reinit_cli.cli.pager import paged
from reinit_cli.cli.screen import screen_of
from reinit_cli.lazy import dataclass

WIDEST = 80
"""Columns of a page, however wide the terminal is."""

_NARROWEST = 16
_LEAST_TEXT = 30
"""Columns that a text needs next to what it explains; below that it goes under it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a page explains, and its explanation.

    Attributes:
        name: as it is typed.
        text: paragraphs; a line that begins with two spaces is left as it is.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """Entries under a heading; without one the entries stand alone."""

    heading: str
    entries: Sequence[Entry]


def page_width() -> int:
    """Return the columns of a page: those of the terminal, but not more than can be read well."""
    return min(screen_of(sys.stdout).width, WIDEST)


def print_page(lines: Iterable[str]) -> None:
    """Print the lines of a page, with colors where the screen has them."""
    text = "\n".join(lines)
    has_color = screen_of(sys.stdout).has_color
    with paged():
        click.echo(text if has_color else click.unstyle(text), color=has_color)


def heading(text: str) -> str:
    """Return a line that stands out on a terminal."""
    return click.style(text, bold=True)


def paragraph(text: str, width: int, indent: int = 0) -> Iterator[str]:
    """Yield the lines of a text, of which those that begin with two spaces stay as they are."""
    gathered: list[str] = []
    for line in text.splitlines():
        if line.startswith("  "):
            yield from _wrapped(gathered, width, indent)
            gathered = []
            yield " " * indent + line
        else:
            gathered.append(line)
    yield from _wrapped(gathered, width, indent)


def _wrapped(lines: Iterable[str], width: int, indent: int) -> list[str]:
    margin = " " * indent
    # A default is one word, so that it is not torn apart.
    text = _BRACKETS.sub(lambda found: found[0].replace(" ", _JOINT), " ".join(lines))
    wrapped = textwrap.wrap(
        text,
        max(width, indent + _NARROWEST),
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_JOINT, " ") for line in wrapped]


_BRACKETS = re.compile(r"\[(?:default|env): [^\]]{,50}\]")
_JOINT = "\N{NO-BREAK SPACE}"


def section(shown: Section, width: int) -> Iterator[str]:
    """Yield a section: in two columns if each text fits on a line, otherwise one below the other."""
    if shown.heading:
        yield heading(f"{shown.heading}:")
    if _is_flat(shown.entries, width):
        yield from columns(shown.entries, width)
    else:
        yield from _stacked(shown.entries, width)


def _is_flat(entries: Sequence[Entry], width: int) -> bool:
    room = width - _second_column(entries)
    return all("\n" not in each.text and len(each.text) <= room for each in entries)


def columns(entries: Sequence[Entry], width: int) -> Iterator[str]:
    """Yield entries in two columns, if the second has room."""
    second = _second_column(entries)
    if width - second < _LEAST_TEXT:
        yield from _stacked(entries, width)
        return
    for each in entries:
        lines = list(paragraph(each.text, width, second))
        name = f"  {_named(each.name)}" + " " * (second - 2 - len(each.name))
        yield (name + lines[0].lstrip() if lines else name).rstrip()
        yield from lines[1:]


def _stacked(entries: Iterable[Entry], width: int) -> Iterator[str]:
    indent = 10 if width >= WIDEST // 2 else 4
    for each in entries:
        yield f"  {_named(each.name)}"
        yield from paragraph(each.text, width, indent)


def _second_column(entries: Iterable[Entry]) -> int:
    return max((len(each.name) for each in entries), default=0) + 4


def _named(name: str) -> str:
    indent = len(name) - len(name.lstrip())
    return " " * indent + click.style(name[indent:], fg="cyan")
