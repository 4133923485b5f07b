"""A terminal of any size, on which a command line runs as on that of a user."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from dataclasses import dataclass
from pathlib import Path

SIGNS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What moves the cursor or changes the color."""

_VARIABLES = (
    *("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "PAGER", "LESS", "LV"),
    *("COLUMNS", "LINES"),
)


@dataclass(frozen=True)
class Shown:
    """What a terminal got, and how the command ended."""

    code: int
    text: str

    @property
    def lines(self) -> list[str]:
        """The lines without colors."""
        return SIGNS.sub("", self.text).splitlines()


def on_terminal(
    *args: str, columns: int = 80, rows: int = 24, keys: bytes = b"", **environment: str
) -> Shown:
    """Run `reinit` on a terminal of its own."""
    pid, fd = pty.fork()
    if pid == 0:
        _size(1, columns, rows)
        kept = {name: each for name, each in os.environ.items() if name not in _VARIABLES}
        path = {"PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm"}
        os.execve(
            sys.executable,
            [sys.executable, "-m", "reinit_cli", *args],
            kept | path | environment,
        )
    _size(fd, columns, rows)
    os.write(fd, keys)
    shown = b""
    while data := _read(fd):
        shown += data
    os.close(fd)
    _, status = os.waitpid(pid, 0)
    return Shown(os.waitstatus_to_exitcode(status), shown.decode().replace("\r\n", "\n"))


def _size(fd: int, columns: int, rows: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # the other end is closed
        return b""
