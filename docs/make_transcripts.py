"""Write below the commands of a page what they print.

    python docs/make_transcripts.py PAGE...

Only what the page shows already is replaced. An output that the page shortens with a line "…"
stays, and is named where it is no longer what is printed.
"""

from __future__ import annotations

import re
import sys
import tempfile
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.pages import (
    GAP,
    Done,
    Reader,
    Typed,
    blocks_of,
    copy_beside,
    is_shown,
    tools_in,
    typed_in,
)


@dataclass
class Transcriber(Reader):
    """Types the blocks of a page, and notes what it should show."""

    outputs: list[list[str]] = field(default_factory=list)

    def look(self, typed: Typed, done: Done) -> None:
        """Note the lines to show below a command."""
        printed = done.output if any(line.strip() for line in done.output) else done.errors
        shown = list(typed.shown)
        if not shown:
            self.outputs.append([])
        elif any(line.strip() == GAP for line in shown):
            if not is_shown(shown, done.output) and not is_shown(shown, printed):
                sys.stderr.write("\n".join(["look at:", typed.command, *printed, ""]))
            self.outputs.append(shown)
        else:
            lines = "\n".join(printed).strip("\n").split("\n")
            self.outputs.append([_elided(line) for line in lines])


VARYING = ((r"^((?:seconds|took) +).*", r"\1…"), (r"(, torch )[\d.]+\S*,", r"\1…,"))
"""What differs from run to run and from machine to machine."""


def _elided(line: str) -> str:
    for pattern, instead in VARYING:
        line = re.sub(pattern, instead, line)
    return line


def transcribed(page: str, environment: dict[str, str]) -> str:
    """Return a page with the outputs that its commands have now."""
    reader = Transcriber(environment)
    for block in blocks_of(page):
        before = len(reader.outputs)
        reader.follow(block)
        if block.language == "console":
            parts = zip(typed_in(block), reader.outputs[before:], strict=True)
            text = "".join(
                "\n".join([f"$ {typed.command}", *output]) + "\n" for typed, output in parts
            )
            page = page.replace(block.text, text, 1)
    return page


def main(paths: list[str]) -> None:
    """Write the pages again."""
    for path in map(Path, paths):
        page = path.read_text()
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as tools:
            environment = tools_in(Path(tools))
            copy_beside(path, Path(folder))
            with chdir(folder):
                text = transcribed(page, environment)
        path.write_text(text)


if __name__ == "__main__":
    main([str(Path(each).resolve()) for each in sys.argv[1:]])
