"""Draw the terminal of the README, light and dark, from what its commands print."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass
from html import escape
from pathlib import Path

from rich.ansi import AnsiDecoder
from rich.color import ColorType
from rich.style import Style
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.pages import COLUMNS, ROOT, screen, tools_in

IMAGES = ROOT / "docs" / "images"

RULES = '-r "fc.weight=normal:std=0.01" -r "fc.bias=zeros"'
SETUP = f"""
reinit resnet18 --weights none --seed 1 -o model.safetensors --quiet
reinit model.safetensors {RULES} -o new.safetensors --record --quiet
"""
COMMANDS = (
    f"reinit model.safetensors {RULES} -n",
    "reinit diff model.safetensors new.safetensors",
    "reinit verify new.safetensors",
)

WIDE, HIGH, SIZE, MARGIN, BAR = 8.4, 20, 14, 18, 34
"""A character's width, a line's height, the font's size, the margin and the title bar, in px."""

FONT = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"


@dataclass(frozen=True)
class Theme:
    """The colors of a terminal.

    Attributes:
        colors: those of the numbers 0 to 7, bright ones alike.
    """

    background: str
    text: str
    dim: str
    edge: str
    colors: tuple[str, ...]


THEMES = {
    "light": Theme(
        background="#ffffff",
        text="#1f2328",
        dim="#656d76",
        edge="#d0d7de",
        colors=(
            *("#1f2328", "#cf222e", "#116329", "#7d4e00"),
            *("#0550ae", "#8250df", "#1b7c83", "#57606a"),
        ),
    ),
    "dark": Theme(
        background="#0d1117",
        text="#e6edf3",
        dim="#8b949e",
        edge="#30363d",
        colors=(
            *("#6e7681", "#ff7b72", "#3fb950", "#d29922"),
            *("#79c0ff", "#d2a8ff", "#56d4dd", "#e6edf3"),
        ),
    ),
}


def pictures() -> dict[str, str]:
    """Return the text of each picture, by its name in docs/images."""
    lines = list(_lines())[:-1]
    return {f"first-minute-{name}.svg": _svg(lines, theme) for name, theme in THEMES.items()}


def _lines() -> Iterator[Text]:
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as tools:
        environment = tools_in(Path(tools))
        with chdir(folder):
            screen(SETUP, environment)
            for command in COMMANDS:
                yield from _wrapped(Text.assemble(("$ ", "green"), (command, "bold")))
                _, printed, _ = screen(command, environment | {"TERM": "xterm-256color"})
                yield from AnsiDecoder().decode(printed.decode().replace("\r\n", "\n").rstrip())
                yield Text()


def _wrapped(line: Text) -> Sequence[Text]:
    return line.divide(range(COLUMNS, len(line), COLUMNS))


def _svg(lines: Sequence[Text], theme: Theme) -> str:
    width, height = COLUMNS * WIDE + 2 * MARGIN, len(lines) * HIGH + BAR + MARGIN
    dots = "".join(
        f'<circle cx="{MARGIN + 4 + 18 * at}" cy="{BAR / 2:g}" r="5.5" fill="{theme.edge}"/>'
        for at in range(3)
    )
    text = "\n".join(
        run for row, line in enumerate(lines) for run in _runs(line, BAR + row * HIGH, theme)
    )
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}">
<rect x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}" rx="8" \
fill="{theme.background}" stroke="{theme.edge}"/>
{dots}
<g font-family="{FONT}" font-size="{SIZE}" fill="{theme.text}">
{text}
</g>
</svg>
"""


def _runs(line: Text, top: float, theme: Theme) -> Iterator[str]:
    """Yield the parts of a line that look alike, each as wide as its characters on a terminal."""
    column = 0
    for part in line.divide(sorted({end for span in line.spans for end in (span.start, span.end)})):
        styles = (
            Style.parse(span.style) if isinstance(span.style, str) else span.style
            for span in part.spans
        )
        style = Style.combine([Style.null(), *styles])
        # Not every viewer keeps several spaces, so that words are put in their columns.
        for words in re.finditer(r"\S+(?: \S+)*", part.plain):
            yield (
                f'<text x="{MARGIN + (column + words.start()) * WIDE:.1f}" y="{top + SIZE:g}" '
                f'textLength="{len(words[0]) * WIDE:.1f}"{_look(style, theme)}>'
                f"{escape(words[0], quote=False)}</text>"
            )
        column += len(part.plain)


def _look(style: Style, theme: Theme) -> str:
    look = ' font-weight="bold"' if style.bold else ""
    color = style.color
    if style.dim:
        look += f' fill="{theme.dim}"'
    elif color is not None and color.type is not ColorType.DEFAULT and color.number is not None:
        look += f' fill="{theme.colors[color.number % 8]}"'
    return look


if __name__ == "__main__":
    for name, picture in pictures().items():
        (IMAGES / name).write_text(picture)
