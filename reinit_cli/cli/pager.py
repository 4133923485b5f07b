"""Show output that is longer than the screen through a pager, as git does."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from reinit_cli.cli.screen import Screen, screen_of

if TYPE_CHECKING:
    from subprocess import Popen

_SHELL = frozenset("|&;<>()$`\\\"' \t\n*?[#~=%")
"""A pager with one of these is a command line for a shell, as for git."""

_NOT_STARTED = (126, 127)
"""Exit codes of a shell that could not start a command."""

_MOST_KEPT = 2**20
"""Characters that are kept in case the pager does not start; one that has read more has."""


@contextmanager
def paged() -> Iterator[None]:
    """Send what is written to standard output to $PAGER, if it is longer than the screen."""
    terminal = sys.stdout
    screen = screen_of(terminal)
    command = _command() if screen.has_pager else None
    if command is None:
        yield
        return
    pages = _Pages(terminal, screen, command)
    sys.stdout = pages
    try:
        yield
    finally:
        sys.stdout = terminal
        pages.end()


def _command() -> str | None:
    """Return the pager, or None where the user has chosen none."""
    command = os.environ.get("PAGER", "less").strip()
    return None if command in ("", "cat") else command


class _Pages(io.TextIOBase):
    """A terminal whose text goes to a pager from the moment that it is longer than the screen.

    Args:
        terminal: standard output.
        screen: its size.
        command: the pager, a command line.
    """

    def __init__(self, terminal: TextIO, screen: Screen, command: str) -> None:
        self._terminal = terminal
        self._screen = screen
        self._command = command
        self._kept: list[str] = []  # until it is certain that the pager shows it
        self._nkept = 0
        self._rows = 0
        self._process: Popen[bytes] | None = None
        self._write: Callable[[str], None] = self._gather

    @property
    def encoding(self) -> str:  # type: ignore[override]  # of TextIOBase it is an attribute
        return self._terminal.encoding

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._terminal.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError("a text stream takes no bytes")
        self._write(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: what is gathered may still fit the screen."""

    def end(self) -> None:
        """Show the rest, and wait until the user has left the pager."""
        if self._process is not None:
            self._finish(self._process)
        elif self._write == self._gather:
            self._terminal.writelines(self._kept)

    def _gather(self, text: str) -> None:
        """Keep a text as long as all fits the screen; the prompt takes a row of it."""
        self._kept.append(text)
        self._rows += text.count("\n")
        if self._rows < self._screen.height:
            return
        kept, self._kept = self._kept, []
        self._process = self._started()
        self._write = self._terminal_only if self._process is None else self._pass_on
        for each in kept:
            self._write(each)

    def _terminal_only(self, text: str) -> None:
        self._terminal.write(text)

    def _nowhere(self, text: str) -> None:
        """Drop a text that the user does not want to see anymore."""

    def _pass_on(self, text: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        if self._nkept < _MOST_KEPT:
            self._kept.append(text)
            self._nkept += len(text)
        try:
            self._process.stdin.write(text.encode(self.encoding, "backslashreplace"))
        except BrokenPipeError:
            self._finish(self._process)

    def _started(self) -> Popen[bytes] | None:
        from subprocess import PIPE, Popen

        self._terminal.flush()
        is_for_shell = bool(_SHELL & set(self._command))
        words = ["sh", "-c", self._command] if is_for_shell else [self._command]
        try:
            # The user's own choice, as everywhere.
            return Popen(words, stdin=PIPE, env=self._environment())  # noqa: S603
        except OSError:
            return None

    def _environment(self) -> dict[str, str]:
        """Return the variables of the pager: of less, to pass colors on, and those of git."""
        # A wide table is not folded, but can be scrolled.
        less = "FRSX" if self._screen.is_wide else "FRX"
        return {"LESS": less, "LV": "-c"} | dict(os.environ)

    def _finish(self, process: Popen[bytes]) -> None:
        """Wait for the pager; show the text without it if it could not be started."""
        self._process, self._write = None, self._nowhere
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the pager's own
        try:
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
            code = process.wait()
        finally:
            signal.signal(signal.SIGINT, before)
        if code in _NOT_STARTED and self._nkept < _MOST_KEPT:
            self._write = self._terminal_only
            self._terminal.writelines(self._kept)
        self._kept = []
