"""The pages of the project, what they ask a reader to type, and a reader who types it."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text() for path in sorted(DOCS.rglob("*.md"))}
"""The pages of the site, by their path in docs/."""

ALL_PAGES = {
    **{
        path.relative_to(ROOT).as_posix(): path.read_text()
        for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("examples/**/*.md")])
    },
    **{f"docs/{name}": text for name, text in PAGES.items()},
}
"""Every page that a user reads, by its path in the repository."""

EXAMPLES = ROOT / "examples"

GAP = "…"
"""A line that says: here the page leaves out some lines of what is printed."""

COLUMNS, LINES = 80, 24
"""The size of the terminal whose output the pages show."""

_FENCED = re.compile(r"^```(\w*)[^\n`]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SAVED_AS = re.compile(r"[Ss]ave (?:it|this) as `([\w./-]+)`[^\n]*\n+\Z")
_PARTS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\]8;[^\x1b]*\x1b\\|[\n\r]|[^\x1b\n\r]+")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: what stands after the fence.
        text: its lines.
        file: the name under which the sentence before it asks the reader to save it.
    """

    language: str
    text: str
    file: str | None = None


@dataclass(frozen=True)
class Typed:
    """A command of a page, and the lines that the page shows below it."""

    command: str
    shown: Sequence[str]


@dataclass(frozen=True)
class Done:
    """What a command printed on a terminal, and its exit status."""

    status: int
    output: Sequence[str]
    errors: Sequence[str]


def blocks_of(page: str) -> list[Block]:
    blocks = []
    for found in _FENCED.finditer(page):
        saved = _SAVED_AS.search(page, 0, found.start())
        blocks.append(Block(found[1], found[2], saved[1] if saved else None))
    return blocks


def typed_in(block: Block) -> Iterator[Typed]:
    """Yield the commands behind a `$ `; a line that ends with a backslash goes on in the next."""
    before, *parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    assert not before.strip(), "a console block begins with a command"
    for part in parts:
        lines = part.splitlines()
        many = next(at for at, line in enumerate(lines) if not line.endswith("\\")) + 1
        shown = [line.rstrip() for line in lines[many:] if line.strip()]
        yield Typed("\n".join(lines[:many]), shown)


def is_like(shown: str, printed: str) -> bool:
    """Whether a line of a page is a line that is printed; "…" in it stands for any characters."""
    parts = (re.escape(part) for part in shown.strip().split(GAP))
    return re.fullmatch(".*".join(parts), printed.strip()) is not None


def is_shown(shown: Sequence[str], printed: Sequence[str]) -> bool:
    """Whether a page shows all that is printed; a line "…" of it stands for any lines."""
    lines = [line for line in printed if line.strip()]
    # Where a reader of the lines so far may be on the page, as for a pattern with wildcards.
    places = {0}
    for line in lines:
        places = {next_ for at in _after_gaps(shown, places) for next_ in _steps(shown, at, line)}
    return len(shown) in _after_gaps(shown, places)


def _is_gap(shown: Sequence[str], at: int) -> bool:
    return at < len(shown) and shown[at].strip() == GAP


def _after_gaps(shown: Sequence[str], places: set[int]) -> set[int]:
    """Add the places behind gaps, which may stand for no line."""
    found = set(places)
    for at in sorted(places):
        while _is_gap(shown, at):
            at += 1  # noqa: PLW2901  gap by gap
            found.add(at)
    return found


def _steps(shown: Sequence[str], at: int, line: str) -> Iterator[int]:
    if _is_gap(shown, at):
        yield at
    elif at < len(shown) and is_like(shown[at], line):
        yield at + 1


def copy_beside(page: Path, folder: Path) -> None:
    """Copy what lies next to the page of an example, as that page asks the reader to."""
    if page.is_relative_to(EXAMPLES) and page.parent != EXAMPLES:
        for file in page.parent.iterdir():
            if file.is_file() and file != page:
                shutil.copy(file, folder)


@dataclass
class Reader:
    """Types the blocks of a page, one after the other, in the current folder.

    A command that fails is followed by `echo $?` and its exit status; otherwise the page does
    not do what it says.
    """

    environment: dict[str, str]
    scope: dict[str, object] = field(default_factory=lambda: {"__name__": "page"})
    status: int = 0
    printed: str = ""

    def follow(self, block: Block) -> None:
        if block.file is not None:
            Path(block.file).write_text(block.text)
        elif block.language == "console":
            for typed in typed_in(block):
                self._type(typed)
        elif block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as caught:
                exec(compile(block.text, "page", "exec"), self.scope)
            self.printed = caught.getvalue()

    def _type(self, typed: Typed) -> None:
        assert self.status == 0 or typed.command == "echo $?", (
            f"a command exits with {self.status} and the page does not say so, before: "
            f"{typed.command}"
        )
        done = terminal(f"(exit {self.status})\n{typed.command}", self.environment)
        self.status = done.status
        self.look(typed, done)

    def look(self, typed: Typed, done: Done) -> None:
        """Compare what a command printed with what the page shows."""
        everything = [*done.output, *done.errors]
        if typed.shown:
            assert is_shown(typed.shown, done.output) or is_shown(typed.shown, everything), (
                "\n".join([typed.command, *everything])
            )

    def finish(self) -> None:
        assert self.status == 0, f"the last command exits with {self.status}"


def shell(command: str, environment: dict[str, str]) -> str:
    """Run a command and return what it prints into a pipe."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def terminal(command: str, environment: dict[str, str]) -> Done:
    """Run a command on a terminal, and return what it prints without colors."""
    status, printed, said = screen(command, environment)
    return Done(status, _lines(printed), _lines(said))


def screen(command: str, environment: dict[str, str]) -> tuple[int, bytes, bytes]:
    """Run a command on a terminal without a pager, and return its status, output and errors."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    size = {"COLUMNS": str(COLUMNS), "LINES": str(LINES)}
    with (
        os.fdopen(ours, "rb", buffering=0) as display,
        subprocess.Popen(
            ["bash", "-uo", "pipefail", "-c", command],
            env=environment | size | {"TERM": "xterm", "PAGER": "cat"},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        os.close(theirs)
        assert process.stderr is not None
        said: list[bytes] = []
        listener = threading.Thread(target=lambda: said.append(process.stderr.read()))
        listener.start()
        printed = b"".join(_until_closed(display.fileno()))
        listener.join()
    return process.returncode, printed, b"".join(said)


def tools_in(folder: Path) -> dict[str, str]:
    """Return the environment of a shell whose `reinit` and `python` are those of this process."""
    for name, line in {
        "reinit": f'exec "{sys.executable}" -m reinit_cli "$@"',
        "python": f'exec "{sys.executable}" "$@"',
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def _lines(data: bytes) -> list[str]:
    """Return the lines that stay on a terminal: a bar that is cleared leaves none."""
    lines, row = [""], 0
    for part in _PARTS.findall(data.decode()):
        if part == "\n":
            row += 1
            lines.extend([""] * (row + 1 - len(lines)))
        elif part.endswith("A") and part.startswith("\x1b["):
            row = max(0, row - int(part[2:-1] or 1))
        elif part in ("\x1b[2K", "\x1b[K"):
            lines[row] = ""
        elif not part.startswith(("\x1b", "\r")):
            lines[row] += part
    return [line.rstrip() for line in lines]


def _until_closed(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(descriptor, 2**16)
        except OSError:  # Linux's way to say that nobody has the other end
            return
        if not data:
            return
        yield data
