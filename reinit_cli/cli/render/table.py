"""Render tables: laid out for people on a terminal, raw and tab-separated in a pipe."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, TextIO, cast

from reinit_cli.cli.render.layout import COMFORTABLE, Strip, fact_lines, table_lines
from reinit_cli.cli.screen import Screen, Style, screen_of
from reinit_cli.lazy import dataclass
from reinit_cli.text import nbytes, one_line, printable

Kind = Literal["text", "key", "count", "nbytes", "number", "note", "picture", "group"]
"""What the values of a column are, which says how they are written and aligned."""

Value = str | int | float | None
"""What a cell says; None is an empty cell."""

_NUMERIC = ("count", "nbytes", "number")


@dataclass(frozen=True, slots=True)
class Cell:
    """A value with a style; a bare value is a cell without one."""

    value: Value
    style: Style | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        title: its heading.
        kind: what its values are. A `count` is an integer and `nbytes` one of bytes; a `number`
            is a float. A `key` is shortened in its middle where nothing else helps; a `note` is
            shown below the table; a `picture` is for terminals alone. The rows of a `group` are
            listed under its name.
        rank: 0 for a column that never leaves; of the others the highest leaves first where the
            table is too wide.
        comfortable: the width down to which its texts are wrapped before any column leaves.
    """

    title: str
    kind: Kind = "text"
    rank: int = 0
    comfortable: int = COMFORTABLE

    @property
    def is_right(self) -> bool:
        """Whether its cells are aligned to the right."""
        return self.kind in _NUMERIC

    @property
    def is_below(self) -> bool:
        """Whether a terminal shows its cells below the table."""
        return self.kind == "note"


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table and the facts below it.

    Attributes:
        columns: its columns.
        rows: a value for each column.
        facts: name and value, below the table.
    """

    columns: tuple[Column, ...]
    rows: Sequence[tuple[Value | Cell, ...]]
    facts: Sequence[tuple[str, str | Cell]] = ()

    @property
    def plain_facts(self) -> list[tuple[str, str]]:
        """The facts without their styles."""
        return [(name, _said(value)) for name, value in self.facts]

    def texts(self) -> Iterator[tuple[str, ...]]:
        """Yield each row as a person reads it."""
        writers = [_FOR_PEOPLE.get(column.kind, _plain) for column in self.columns]
        for row in self.rows:
            yield tuple(write(_bare(cell)) for write, cell in zip(writers, row, strict=True))

    def without_empty_columns(self) -> Sheet:
        """Return the sheet without the columns that say nothing in any row."""
        said = [at for at in range(len(self.columns)) if any(map(_says, self._cells(at)))]
        return self if len(said) == len(self.columns) or not self.rows else self._with(said)

    def _cells(self, at: int) -> Iterator[Value | Cell]:
        return (row[at] for row in self.rows)

    def _with(self, chosen: Sequence[int]) -> Sheet:
        """Return the sheet with some of its columns."""
        return replace(
            self,
            columns=tuple(self.columns[at] for at in chosen),
            rows=[tuple(row[at] for at in chosen) for row in self.rows],
        )


def show(sheet: Sheet, stream: TextIO) -> None:
    """Write a sheet.

    On a terminal this is a table that fits, with its notes and facts below. In a pipe it is a
    line of headings and a line for each row, separated by tabs, with raw numbers; the facts go
    to standard error, but those of a sheet without columns, which are all that it says.
    """
    screen = screen_of(stream)
    if screen.is_terminal:
        stream.writelines(line + "\n" for line in _laid_out(sheet, screen, stream))
    elif sheet.columns:
        _write_lines(sheet, stream)
        stream.flush()
        sys.stderr.writelines(f"{name}: {one_line(text)}\n" for name, text in sheet.plain_facts)
    else:
        stream.writelines(_tabbed(fact) for fact in sheet.plain_facts)


def _bare(cell: Value | Cell) -> Value:
    return cell.value if isinstance(cell, Cell) else cell


def _says(cell: Value | Cell) -> bool:
    return _bare(cell) not in (None, "")


def _said(text: str | Cell) -> str:
    return str(text.value) if isinstance(text, Cell) else text


def _plain(value: Value) -> str:
    return "" if value is None else str(value)


def _count(value: Value) -> str:
    return f"{value:,}" if isinstance(value, int) else _plain(value)


def _nbytes(value: Value) -> str:
    return nbytes(value) if isinstance(value, int) else _plain(value)


def spelled(value: float) -> str:
    """Return a float as a program reads it: its shortest digits, or NaN, Infinity, -Infinity."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)


def rounded(value: float) -> str:
    """Return a float in four significant digits; large ones in all those before the point."""
    if not math.isfinite(value):
        return spelled(value)
    short = f"{value:.4g}"
    return f"{value:.0f}" if "e+0" in short and abs(value) < 10**7 else short


def _number(value: Value) -> str:
    return rounded(value) if isinstance(value, int | float) else _plain(value)


def _raw(value: Value) -> str:
    return spelled(value) if isinstance(value, float) else _plain(value)


_FOR_PEOPLE: dict[Kind, Callable[[Value], str]] = {
    "count": _count,
    "nbytes": _nbytes,
    "number": _number,
}


def _tabbed(cells: tuple[str, ...]) -> str:
    # A tab or a newline within a cell would make two of it, so cells are escaped. Most lines
    # have neither, and are checked together.
    return "\t".join(cells if "".join(cells).isprintable() else map(printable, cells)) + "\n"


def _write_lines(sheet: Sheet, stream: TextIO) -> None:
    at = [at for at, column in enumerate(sheet.columns) if column.kind != "picture"]
    at.sort(key=lambda position: sheet.columns[position].is_below)
    stream.write(_tabbed(tuple(sheet.columns[position].title for position in at)))
    stream.writelines(
        _tabbed(tuple(_raw(_bare(row[position])) for position in at)) for row in sheet.rows
    )


def _laid_out(sheet: Sheet, screen: Screen, stream: TextIO) -> Iterator[str]:
    """Yield the lines of a sheet for people."""

    def shown(text: str) -> str:
        # What the terminal cannot show is escaped now, while its width still counts.
        text = one_line(text)
        if screen.is_unicode or text.isascii():
            return text
        return text.encode(stream.encoding, "backslashreplace").decode(stream.encoding)

    table = sheet.without_empty_columns()
    kinds = [column.kind for column in table.columns]
    apart = ("group",) if screen.is_unicode else ("group", "picture")
    strips = [
        _strip(table, at, shown)
        for at, column in enumerate(table.columns)
        if not column.is_below and column.kind not in apart
    ]
    groups = _strip(table, kinds.index("group"), shown).texts if "group" in kinds else ()
    lines, hidden = table_lines(strips, screen, groups) if sheet.rows else ((), [])
    yield from lines
    facts = [(name, Cell(text)) for name, text in _notes(table)]
    if hidden:
        facts.append(("not shown", Cell(f"{', '.join(hidden)} (add --wide)", "dim")))
    facts += [(name, each if isinstance(each, Cell) else Cell(each)) for name, each in sheet.facts]
    if facts and sheet.rows:
        yield ""
    yield from fact_lines(
        [(shown(name), shown(_said(cell)), cell.style) for name, cell in facts], screen
    )


def _strip(sheet: Sheet, at: int, shown: Callable[[str], str]) -> Strip:
    """Return one column as texts."""
    column = sheet.columns[at]
    write = _FOR_PEOPLE.get(column.kind, _plain)
    cells = list(sheet._cells(at))
    values = [cell.value if type(cell) is Cell else cell for cell in cells]
    texts = [shown(write(cast("Value", value))) for value in values]
    if column.kind == "number":
        texts = _aligned(texts)
    styles: dict[int, Style] = {}
    for row, (cell, value) in enumerate(zip(cells, values, strict=True)):
        if type(cell) is Cell and cell.style:
            styles[row] = cell.style
        elif type(value) is float and not math.isfinite(value):
            styles[row] = "error"
    return Strip(
        title=shown(column.title),
        texts=texts,
        styles=styles,
        is_right=column.is_right,
        rank=column.rank,
        is_key=column.kind == "key",
        comfortable=column.comfortable,
        is_picture=column.kind == "picture",
    )


def _aligned(texts: list[str]) -> list[str]:
    """Return numbers padded so that their points are below each other; NaN is at the right."""
    found = [_NUMBER.fullmatch(text) for text in texts]
    width = max((len(each[1]) for each in found if each), default=0)
    return [
        text + " " * (width - len(each[1])) if each else text
        for text, each in zip(texts, found, strict=True)
    ]


_NUMBER = re.compile(r"-?[0-9]+(|\.[0-9.e+-]*|e[+-][0-9]+)")
"""A number, and what comes after its digits before the point."""


def _notes(sheet: Sheet) -> Iterator[tuple[str, str]]:
    """Yield the notes as facts, each with the first cell of its row."""
    at = [position for position, column in enumerate(sheet.columns) if column.is_below]
    for row in sheet.rows if at else ():
        for position in at:
            if _says(row[position]):
                yield "note", f"{_plain(_bare(row[0]))}: {_plain(_bare(row[position]))}"
