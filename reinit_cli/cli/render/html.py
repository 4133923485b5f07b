"""Render a report as one page of HTML that fetches nothing, with pictures as SVG."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from itertools import islice
from typing import Any

from reinit_cli.cli.render.panels import Panel, Point, steps_of, ticks
from reinit_cli.cli.render.table import Column, Sheet
from reinit_cli.text import number, printable
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
        note: what the pictures leave out, or "".
    """

    command: str
    title: str
    facts: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    sheets: Sequence[tuple[str, Sheet]]
    panels: Sequence[Panel]
    note: str = ""


def html_of(page: Page) -> bytes:
    """Return a page as HTML, in which every name stays text."""
    from jinja2 import Environment, StrictUndefined

    # The environment escapes everything; by default it would go by the template's suffix.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.clear()
    folder = files("reinit_cli.cli.render") / "page"
    template, style, script = (
        (folder / name).read_text("utf-8") for name in ("page.html", "page.css", "page.js")
    )
    shown = {
        "command": page.command,
        "title": printable(page.title),
        "facts": [(name, printable(value)) for name, value in page.facts],
        "warnings": [printable(warning) for warning in page.warnings],
        "tables": [
            _table(title, sheet, is_long=at == len(page.sheets) - 1)
            for at, (title, sheet) in enumerate(page.sheets)
        ],
        "panels": [_picture(panel) for panel in page.panels],
        "note": page.note,
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


class _Ours(str):
    """Text of our own files, which is HTML already."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


def _hash(text: str) -> str:
    """Return what a content security policy lets pass."""
    return f"sha256-{b64encode(sha256(text.encode('utf-8')).digest()).decode('ascii')}"


def _table(title: str, sheet: Sheet, *, is_long: bool) -> dict[str, Any]:
    key = next((at for at, column in enumerate(sheet.columns) if column.title == "key"), None)
    count = len(sheet.rows)
    return {
        "title": title,
        "is_long": is_long and count > 1,
        "counted": f"{min(count, ROWS):,}",
        "columns": sheet.columns,
        "rows": [
            {
                "key": printable(row[key]) if key is not None else "",
                "cells": [
                    {"kind": _kind(column, text), "text": printable(text)}
                    for column, text in zip(sheet.columns, row, strict=True)
                ],
            }
            for row in islice(sheet.texts(), ROWS)
        ],
        "note": f"The first {ROWS:,} of {count:,} rows; --json has all." if count > ROWS else "",
    }


def _kind(column: Column, text: str) -> str:
    """Return how a cell looks."""
    if column.is_right:
        return "number"
    if column.title in ("key", "pattern", "module"):
        return "key"
    verdict = text.partition(":")[0]
    if column.title == "check" and verdict in ("passed", "failed"):
        return verdict
    return "note" if column.is_below else "text"


def _picture(panel: Panel) -> dict[str, Any]:
    low, high = panel.window
    scale = _Scale(low, high, panel.height)
    return {
        "key": printable(panel.key),
        "about": printable(panel.about),
        "numbers": panel.numbers,
        "before": scale.path(steps_of(panel.before)) if panel.before else "",
        "after": scale.path(steps_of(panel.after)) if panel.after else "",
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


def _short(coordinate: float) -> str:
    return f"{coordinate:.1f}".removesuffix(".0")


def without_folders(text: str, paths: Iterable[str | None]) -> str:
    """Return a text in which paths are shown by their last part, as they differ elsewhere."""
    for path in paths:
        if path and os.sep in path:
            text = text.replace(path, os.path.basename(path.rstrip(os.sep)))
    return text
