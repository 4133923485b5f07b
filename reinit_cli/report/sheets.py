"""A sheet: what a table says, before it is known who reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from reinit_cli.text import printable

if TYPE_CHECKING:
    from rich.table import Table

_LONGEST_WORD = 60
"""A word up to this width is not folded on a terminal: most keys are shorter."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        title: its heading.
        is_number: whether it is aligned to the right.
        is_note: whether a terminal shows it below the table, where it has room.
    """

    title: str
    is_number: bool = False
    is_note: bool = False


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table and the facts below it.

    Attributes:
        columns: its columns.
        rows: a text for each column.
        facts: name and value, below the table.
    """

    columns: tuple[Column, ...]
    rows: Sequence[tuple[str, ...]]
    facts: Sequence[tuple[str, str]] = ()

    def without_empty_columns(self) -> Sheet:
        """Return the sheet without the columns that say nothing in any row."""
        said = [at for at in range(len(self.columns)) if any(row[at] for row in self.rows)]
        return Sheet(
            tuple(self.columns[at] for at in said),
            [tuple(row[at] for at in said) for row in self.rows],
            self.facts,
        )


def show(sheet: Sheet, stream: TextIO) -> None:
    """Write a sheet: a table on a terminal, tab-separated lines elsewhere."""
    if stream.isatty():
        _show_table(sheet, stream)
    else:
        _write_lines(sheet, stream)


def _write_lines(sheet: Sheet, stream: TextIO) -> None:
    header = [tuple(column.title for column in sheet.columns)] if sheet.columns else []
    lines = [*header, *sheet.rows, *sheet.facts]
    # A tab or a newline within a cell would make two of it, so cells are escaped.
    stream.writelines("\t".join(map(printable, line)) + "\n" for line in lines)


def _show_table(sheet: Sheet, stream: TextIO) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    facts = [*_notes(sheet), *sheet.facts]
    if sheet.rows:
        table = _table(sheet)
        # A row that is wider than the terminal wraps there; nothing is cut off.
        needed = table.__rich_measure__(console, console.options.update(max_width=10_000)).minimum
        console.print(table, width=max(console.width, needed), crop=False)
    width = max((len(name) for name, _ in facts), default=0)
    for name, value in facts:
        line = Text(f"{name:{width}}  ", style="dim").append(printable(value), style="not dim")
        console.print(line, soft_wrap=True)


def _table(sheet: Sheet) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = [at for at, column in enumerate(sheet.columns) if not column.is_note]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for at in shown:
        column = sheet.columns[at]
        words = (word for row in sheet.rows for word in printable(row[at]).split(" "))
        table.add_column(
            column.title.replace(" ", "\n", 1) if column.is_number else column.title,
            justify="right" if column.is_number else "left",
            vertical="top",
            overflow="fold",
            no_wrap=column.is_number,
            min_width=min(_LONGEST_WORD, max(map(len, words), default=0)),
        )
    for row in sheet.rows:
        table.add_row(*(Text(printable(row[at])) for at in shown))
    return table


def _notes(sheet: Sheet) -> list[tuple[str, str]]:
    """Return the notes as facts, each with the first cell of its row."""
    at = [position for position, column in enumerate(sheet.columns) if column.is_note]
    return [
        ("note", f"{row[0]}: {row[position]}")
        for row in sheet.rows
        for position in at
        if row[position]
    ]
