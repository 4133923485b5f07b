"""Render tables: aligned on a terminal, tab-separated elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from reinit_cli.text import one_line, printable

if TYPE_CHECKING:
    from rich.table import Table

_LONGEST_WORD = 60
"""A word up to this width is not folded on a terminal: most keys are shorter."""

_LONGEST_TABLE = 500
"""Rows that rich lays out; it takes a second for some 2,500."""


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
        if len(said) == len(self.columns):
            return self
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
    # A tab or a newline within a cell would make two of it, so cells are escaped. Most lines
    # have neither, and are checked together.
    stream.writelines(
        "\t".join(line if "".join(line).isprintable() else map(printable, line)) + "\n"
        for line in lines
    )


def _show_table(sheet: Sheet, stream: TextIO) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    facts = [(one_line(name), one_line(value)) for name, value in (*_notes(sheet), *sheet.facts)]
    if len(sheet.rows) > _LONGEST_TABLE:
        _write_aligned(sheet, stream)
    elif sheet.rows:
        table = _table(sheet)
        # A row that is wider than the terminal wraps there; nothing is cut off.
        needed = table.__rich_measure__(console, console.options.update(max_width=10_000)).minimum
        # Not the `width` of print, which rich cuts to that of the terminal.
        console.width = max(console.width, needed)
        console.print(table, crop=False)
    width = max((len(name) for name, _ in facts), default=0)
    for name, value in facts:
        line = Text(f"{name:{width}}  ", style="dim").append(value, style="not dim")
        console.print(line, soft_wrap=True)


def _write_aligned(sheet: Sheet, stream: TextIO) -> None:
    """Write a long table with its columns aligned, a hundred times as fast as rich lays it out."""
    from rich.cells import cell_len

    shown = [at for at, column in enumerate(sheet.columns) if not column.is_note]
    numbers = [sheet.columns[at].is_number for at in shown]
    titles = [sheet.columns[at].title for at in shown]
    rows = [[one_line(row[at]) for at in shown] for row in sheet.rows]

    def width_of(cell: str) -> int:
        return len(cell) if cell.isascii() else cell_len(cell)

    widths = [max(map(width_of, cells)) for cells in zip(titles, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = []
        for cell, width, is_number in zip(cells, widths, numbers, strict=True):
            padding = " " * (width - width_of(cell))
            padded.append(padding + cell if is_number else cell + padding)
        return f" {'   '.join(padded)}".rstrip() + "\n"

    line_of = "─" if (stream.encoding or "").lower().startswith("utf") else "-"
    rule = line_of * (sum(widths) + 3 * len(widths) - 1)
    stream.write(line(titles) + f" {rule}\n")
    stream.writelines(map(line, rows))


def _table(sheet: Sheet) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = [at for at, column in enumerate(sheet.columns) if not column.is_note]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for at in shown:
        column = sheet.columns[at]
        words = (word for row in sheet.rows for word in one_line(row[at]).split(" "))
        table.add_column(
            column.title.replace(" ", "\n", 1) if column.is_number else column.title,
            justify="right" if column.is_number else "left",
            vertical="top",
            overflow="fold",
            no_wrap=column.is_number,
            min_width=min(_LONGEST_WORD, max(map(len, words), default=0)),
        )
    for row in sheet.rows:
        table.add_row(*(Text(one_line(row[at])) for at in shown))
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
