"""Render a report as one page of HTML that fetches nothing, with pictures as SVG."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.resources import files
from itertools import islice, starmap
from operator import itemgetter
from typing import Any

from reinit_cli.cli.render.overview import Spread, drawn
from reinit_cli.cli.render.panels import Panel, Point, drawn_of, joined, ticks
from reinit_cli.cli.render.table import Cell, Column, Sheet, Value, spelled
from reinit_cli.lazy import dataclass
from reinit_cli.text import natural, number, printable
from reinit_cli.version import __version__

ROWS = 2_000
"""The most rows of a table: a page is for reading, and JSON has all."""

_WIDTH, _HEIGHT = 320, 110
"""Of a picture, in units of its own; its labels lie below."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page says.

    Attributes:
        command: the command that was run, in two words.
        title: what it was run on.
        facts: name and value.
        warnings: a line each.
        sheets: title and table; the last one is long, and can be filtered.
        panels: the pictures.
        total: of how many tensors or modules there could be pictures.
        spreads: how wide the tensors are, in the order of the network.
    """

    command: str
    title: str
    facts: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    sheets: Sequence[tuple[str, Sheet]]
    panels: Sequence[Panel]
    total: int = 0
    spreads: Sequence[Spread] = ()


def html_of(page: Page) -> bytes:
    """Return a page as HTML, in which every name stays text."""
    from jinja2 import Environment, StrictUndefined

    page = _as_people_count(page)

    # The environment escapes everything; by default it would go by the template's suffix.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.clear()
    folder = files("reinit_cli.cli.render") / "page"
    template, style, script = (
        (folder / name).read_text("utf-8") for name in ("page.html", "page.css", "page.js")
    )
    pictures = {printable(panel.key): f"picture-{at}" for at, panel in enumerate(page.panels)}
    shown = {
        "command": page.command,
        "title": printable(page.title),
        "facts": [(name, printable(value)) for name, value in page.facts],
        "warnings": [printable(warning) for warning in page.warnings],
        "tables": [
            _table(title, sheet, pictures if at == len(page.sheets) - 1 else None)
            for at, (title, sheet) in enumerate(page.sheets)
        ],
        "panels": [_picture(at, panel) for at, panel in enumerate(page.panels)],
        "note": drawn_of(len(page.panels), page.total),
        "overview": drawn(page.spreads),
        "is_cut": any(panel.cut.bars for panel in page.panels),
        "has_before": any(panel.before for panel in page.panels),
        "has_expected": any(panel.expected for panel in page.panels),
    }
    return (
        environment.from_string(template)
        .render(
            page=shown,
            version=__version__,
            style=_Ours(style),
            script=_Ours(script),
            style_hash=_hash(style),
            script_hash=_hash(script),
        )
        .encode("utf-8")
    )


def _as_people_count(page: Page) -> Page:
    """Return a page with layer 2 before layer 10, where they come in alphabetical order.

    So they do in safetensors files; any other order is that of the network.
    """
    if not page.sheets:
        return page
    title, sheet = page.sheets[-1]
    at = next((at for at, column in enumerate(sheet.columns) if _is_key(column)), None)
    if at is None:
        return page
    keys = [texts[at] for texts in sheet.texts()]
    if keys != sorted(keys):
        return page
    rows = [
        row
        for _, row in sorted(zip(map(natural, keys), sheet.rows, strict=True), key=itemgetter(0))
    ]
    return replace(
        page,
        sheets=[*page.sheets[:-1], (title, replace(sheet, rows=rows))],
        panels=sorted(page.panels, key=lambda panel: natural(panel.key)),
        spreads=sorted(page.spreads, key=lambda spread: natural(spread.key)),
    )


class _Ours(str):
    """Text of our own files, which is HTML already."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


def _hash(text: str) -> str:
    """Return what a content security policy lets pass."""
    return f"sha256-{b64encode(sha256(text.encode('utf-8')).digest()).decode('ascii')}"


def _table(title: str, sheet: Sheet, pictures: Mapping[str, str] | None) -> dict[str, Any]:
    """Return a table for the template.

    Args:
        title: what is in it.
        sheet: the table.
        pictures: the anchor of each key that has a picture; None where the table has no filter.
    """
    count = len(sheet.rows)
    rows = list(islice(zip(sheet.rows, sheet.texts(), strict=True), ROWS))
    return {
        "title": title,
        "is_long": pictures is not None and count > 1,
        "counted": f"{min(count, ROWS):,}",
        "noun": "modules" if sheet.columns[0].title == "module" else "tensors",
        "has_more": any(column.rank for column in sheet.columns),
        "columns": [
            {
                "title": column.title,
                "kind": "number" if column.is_right else "text",
                "is_spare": column.rank > 0,
            }
            for column in sheet.columns
        ],
        "rows": [_row(sheet.columns, row, texts, pictures or {}) for row, texts in rows],
        "note": f"The first {ROWS:,} of {count:,} rows; --json has all." if count > ROWS else "",
    }


def _row(
    columns: Sequence[Column],
    row: Sequence[Value | Cell],
    texts: Sequence[str],
    pictures: Mapping[str, str],
) -> dict[str, Any]:
    cells = list(starmap(_cell, zip(columns, row, texts, strict=True)))
    key = next((text for column, text in zip(columns, texts, strict=True) if _is_key(column)), "")
    for column, cell in zip(columns, cells, strict=True):
        cell["picture"] = pictures.get(printable(key)) if _is_key(column) else None
    return {"key": printable(key), "cells": cells}


def _cell(column: Column, cell: Value | Cell, text: str) -> dict[str, Any]:
    classes = list(_classes(column, cell))
    return {
        "kind": " ".join(classes),
        "words": words_of(text) if "key" in classes else [printable(text)],
        "value": _sorted_by(cell, text) if column.is_right else None,
    }


def _is_key(column: Column) -> bool:
    return column.kind == "key" or column.title in ("key", "module")


def _classes(column: Column, cell: Value | Cell) -> Iterator[str]:
    """Yield how a cell looks."""
    if column.is_right:
        yield "number"
    elif _is_key(column) or column.title == "pattern":
        yield "key"
    else:
        yield "note" if column.is_below else "text"
    if column.rank:
        yield "spare"
    if isinstance(cell, Cell) and cell.style is not None:
        yield cell.style


def _sorted_by(cell: Value | Cell, text: str) -> float | str | None:
    """Return the number that a cell is sorted by; the last one of several."""
    value = cell.value if isinstance(cell, Cell) else cell
    if isinstance(value, (int, float)):
        return spelled(value) if isinstance(value, float) else value
    found: list[str] = re.findall(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?", text)
    return found[-1].replace(",", "") if found else None


def _picture(at: int, panel: Panel) -> dict[str, Any]:
    low, high = panel.window
    scale = _Scale(low, high, panel.height)
    cut = panel.cut
    return {
        "id": f"picture-{at}",
        "key": printable(panel.key),
        "words": words_of(panel.key),
        "cut": "".join(map(scale.teeth, joined(cut.bars))),
        "times": f"{cut.times:.2g}" if cut.times else "",
        "goes_lower": cut.goes_lower,
        "goes_higher": cut.goes_higher,
        "about": printable(panel.about),
        "numbers": panel.numbers,
        "before": scale.path(panel.outline(panel.before)) if panel.before else "",
        "after": scale.path(panel.outline(panel.after)) if panel.after else "",
        "expected": scale.path(panel.expected),
        "ticks": [
            (_short(x), number(value))
            for value in ticks(low, high)
            if 14 < (x := scale.x(value)) < 306
        ],
    }


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values and densities to the units of a picture."""

    low: float
    high: float
    top: float

    def x(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low) * _WIDTH

    def y(self, density: float) -> float:
        return _HEIGHT - density / self.top * (_HEIGHT - 4)

    def teeth(self, bar: tuple[float, float]) -> str:
        """Return the mark of a bar that goes on above: a jagged line through it."""
        left, right = max(0.0, self.x(bar[0])), min(float(_WIDTH), self.x(bar[1]))
        count = max(1, round((right - left) / 8))
        half = (right - left) / count / 2
        return f"M{_short(left)} 9" + f"l{half:.2f} -4l{half:.2f} 4" * count

    def path(self, points: Iterable[Point]) -> str:
        """Return points as a path, without those that continue a straight line."""
        # What lies outside the picture is cut off by it; far outside it would only be long.
        placed = [
            (_short(min(2 * _WIDTH, max(-_WIDTH, self.x(x)))), _short(max(-_HEIGHT, self.y(y))))
            for x, y in points
        ]
        kept = [
            point
            for at, point in enumerate(placed)
            if not 0 < at < len(placed) - 1
            or not (
                placed[at - 1][0] == point[0] == placed[at + 1][0]
                or placed[at - 1][1] == point[1] == placed[at + 1][1]
            )
        ]
        return "M" + "L".join(f"{x} {y}" for x, y in kept) if kept else ""


def words_of(key: str) -> list[str]:
    """Return the parts of a key, between which a line may break."""
    return re.findall(r"[^._/]*[._/]+|[^._/]+", printable(key))


def _short(coordinate: float) -> str:
    return f"{coordinate:.1f}".removesuffix(".0")


def without_folders(text: str, paths: Iterable[str | None]) -> str:
    """Return a text in which paths are shown by their last part, as they differ elsewhere."""
    for path in paths:
        if path and os.sep in path:
            text = text.replace(path, os.path.basename(path.rstrip(os.sep)))
    return text
