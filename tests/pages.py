"""The pages of docs/, what they tell a reader to type, and a shell that types it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text() for path in sorted(DOCS.rglob("*.md"))}

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SIGNS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str


def blocks_of(page: str) -> list[Block]:
    return [Block(found[1], found[2]) for found in _FENCED.finditer(page)]


def commands_of(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Yield each command behind a `$ `, and the lines that the page shows it to print."""
    before, *parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    assert not before.strip(), "a console block begins with a command"
    for part in parts:
        command, _, shown = part.partition("\n")
        yield command, [line.strip() for line in shown.splitlines() if line.strip()]


def shell(command: str, environment: dict[str, str]) -> str:
    """Run a command and return what it prints into a pipe."""
    done = subprocess.run(
        _bash(command),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def terminal(command: str, environment: dict[str, str]) -> list[str]:
    """Run a command and return the lines that it prints on a terminal."""
    ours, theirs = pty.openpty()
    with (
        os.fdopen(ours, "rb", buffering=0) as screen,
        subprocess.Popen(
            _bash(command),
            env=environment | {"TERM": "xterm", "COLUMNS": "100"},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        os.close(theirs)
        printed = b"".join(_until_closed(screen.fileno()))
        assert process.stderr is not None
        said = process.stderr.read().decode()
    assert process.returncode == 0, f"{command}\n{said}"
    plain = _SIGNS.sub("", printed.decode())
    return [line.strip() for line in plain.splitlines() if line.strip()]


def _until_closed(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(descriptor, 2**16)
        except OSError:  # Linux's way to say that nobody has the other end
            return
        if not data:
            return
        yield data


def _bash(command: str) -> list[str]:
    return ["bash", "-euo", "pipefail", "-c", command]
