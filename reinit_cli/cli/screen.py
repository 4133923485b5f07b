"""Know the terminal: its size, its colors, and what the display options ask of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, TextIO

import click

from reinit_cli.lazy import dataclass

Style = Literal["changed", "good", "warning", "error", "dim", "strong"]
"""What a text means; only the screen knows the color of that."""

When = Literal["auto", "always", "never"]

_CODES: dict[Style, str] = {
    "changed": "36",
    "good": "32",
    "warning": "33",
    "error": "31",
    "dim": "2",
    "strong": "1",
}

_WIDTH, _HEIGHT = 80, 24
"""Of a terminal that does not know its size."""

COLOR, WIDE, NO_PAGER = (f"{__name__}.{name}" for name in ("color", "wide", "no_pager"))
"""Where the context of a command keeps its display options, so that nothing passes them on."""


@dataclass(frozen=True, slots=True)
class Screen:
    """Where a text for people is shown.

    Attributes:
        width: its columns.
        height: its rows.
        has_color: whether escape sequences for colors are written.
        is_wide: whether lines may be longer than `width`, so that nothing is left out.
        has_pager: whether output that is longer than `height` goes through a pager.
        is_terminal: whether tables are laid out for people; elsewhere they are separated by tabs.
        is_unicode: whether it shows characters that ASCII lacks.
    """

    width: int = _WIDTH
    height: int = _HEIGHT
    has_color: bool = False
    is_wide: bool = False
    has_pager: bool = False
    is_terminal: bool = True
    is_unicode: bool = True

    @property
    def limit(self) -> int | None:
        """The columns that every line has to fit; None where lines may be longer."""
        return self.width if self.is_terminal and not self.is_wide else None

    def paint(self, text: str, style: Style | None) -> str:
        """Return a text in the color of its meaning."""
        if style is None or not self.has_color or not text:
            return text
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def screen_of(stream: TextIO, color: When | None = None) -> Screen:
    """Return the screen that a stream leads to, as the command's display options want it.

    Args:
        stream: standard output or standard error.
        color: when there are colors; None for what the command that runs was asked for.
    """
    asked = _asked()
    when: When = color or asked.get(COLOR, "auto")
    is_terminal = stream.isatty()
    width, height = _size(stream)
    return Screen(
        width=width,
        height=height,
        has_color=_has_color(when, is_terminal=is_terminal),
        is_wide=asked.get(WIDE, False),
        has_pager=is_terminal and not asked.get(NO_PAGER, False) and not is_dumb(),
        is_terminal=is_terminal or when == "always",
        is_unicode=(stream.encoding or "").lower().startswith("utf"),
    )


def asks_for_json(args: Sequence[str]) -> bool:
    """Whether a command line has `--json`, even one that is not valid."""
    words = list(args)
    return "--json" in words[: words.index("--") if "--" in words else len(words)]


def color_in(args: Sequence[str]) -> When | None:
    """Return what `--color` says in a command line, even in one that is not valid.

    An error that is found while the options are read has no context to remember them.
    """
    found: When | None = None
    for word, following in zip(args, [*args, ""][1:], strict=True):
        if word == "--":
            break
        name, _, value = str(word).partition("=")
        value = value or following
        if name == "--color" and value in ("auto", "always", "never"):
            found = value  # type: ignore[assignment]  # mypy does not narrow str to a Literal
    return found


def _asked() -> dict[str, Any]:
    ctx = click.get_current_context(silent=True)
    return ctx.meta if ctx else {}


def is_dumb() -> bool:
    """Whether the terminal knows no escape sequences, as one without a name, for git too."""
    return os.environ.get("TERM", "dumb") in ("", "dumb")


def _has_color(when: When, *, is_terminal: bool) -> bool:
    """Decide by the option, then by the variables of no-color.org and bixense.com/clicolors."""
    if when != "auto":
        return when == "always"
    get = os.environ.get
    if get("NO_COLOR"):
        return False
    for forcing in ("FORCE_COLOR", "CLICOLOR_FORCE"):
        if value := get(forcing):
            return value.lower() not in ("0", "false")
    return is_terminal and get("CLICOLOR") != "0" and not is_dumb()


def _size(stream: TextIO) -> tuple[int, int]:
    """Return the columns and rows of a stream's terminal, or of the one that its reader shows it on.

    COLUMNS and LINES win, as everywhere.
    """
    places: tuple[TextIO | int, ...] = (stream, 2, 0)
    found = filter(None, map(_terminal_size, places))
    width, height = next(found, (_WIDTH, _HEIGHT))
    return _of_variable("COLUMNS") or width, _of_variable("LINES") or height


def _terminal_size(place: TextIO | int) -> tuple[int, int] | None:
    try:
        size = os.get_terminal_size(place if isinstance(place, int) else place.fileno())
    except (OSError, ValueError, AttributeError):
        return None
    return (size.columns, size.lines or _HEIGHT) if size.columns else None


def _of_variable(name: str) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isascii() and value.isdecimal() and len(value) <= 6 else 0
