"""Run many commands in one child, and judge how each of them ended."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from time import process_time
from types import FrameType
from typing import TypeVar

from tests.campaign.server import Run, Server
from tests.campaign.tally import Tally, complaint
from tests.said import said

MOST_SECONDS = 2.0
MOST_NBYTES = 200 * 10**6
LONGEST_LINE = 2_100
_BATCH = 40

TEXTS = (
    *("", " ", "a", "a.weight", "*", "zeros", "normal", "-", "--", ".", "..", "/", "=", ":", ","),
    *("\x1b[31mred", "\x1b]0;title\x07", "\u202eabc\u202c", "\u200b", "\ufeff", "\u2028", "\x7f"),
    *("a\nb", "a\rb", "a\tb", "a\0b", "\udc80", "\ud800", "[bold]a[/bold]", "[/]", ":smile:"),
    *(
        "\u00e9",
        "\U0001f600",
        "\u0663",
        "\u00b2",
        "{stem}",
        "{",
        "}",
        "${HOME}",
        "`id`",
        "%s",
        "\\",
    ),
    *("../../x", "/etc/passwd", "~", "http://localhost:1/x", "a" * 300, "a" * 5000, "\x1b" * 5000),
)
"""Texts that act on terminals, shells, paths, markup or templates."""

NUMBERS = (
    *("0", "-0", "1", "-1", "3", "1.0", "1e2", "1e999", "-1e999", "1e-999", "inf", "-inf", "nan"),
    *("2147483648", "9223372036854775807", "9223372036854775808", "18446744073709551616"),
    *(
        "1" * 30,
        "1" * 31,
        "9" * 400,
        "9" * 5000,
        "1_000",
        "0x10",
        "+1",
        " 1",
        "\u0663",
        "\u00b2",
        "",
    ),
    *("1e308", "1e200", "1e-200", "4e38", "0.1", ".5", "5.", "1000000000000", "00", "1,2", "true"),
)
"""Numbers that are written in odd ways, or are too large for something."""


@dataclass(frozen=True, slots=True)
class Input:
    """A command to try.

    Attributes:
        what: what repeats it.
        argv: the command.
        judge: returns what is wrong with how it ended, where that is not wrong of any command.
        kind: what it is counted as, before its exit code.
    """

    what: str
    argv: tuple[str, ...]
    judge: Callable[[Run], str | None] = lambda _: None
    kind: str = "exit"


_Each = TypeVar("_Each")


def batches(items: Iterable[_Each], count: int) -> Iterator[list[_Each]]:
    """Yield lists of so many items, the last of the rest."""
    left = iter(items)
    while batch := list(islice(left, count)):
        yield batch


def text_of(random: Random) -> str:
    """Return a text, most often a short one of letters that mean something."""
    if random.randrange(3) == 0:
        return random.choice(TEXTS)
    if random.randrange(4) == 0:
        return random.choice(NUMBERS)
    return "".join(
        random.choices("ab.*?[]{}!,=:;()|+-0123\\ \t\x1b\u202e\u00e9\ud83d", k=random.randrange(12))
    )


def try_all(inputs: Iterable[Input], place: Path, server: Server, tally: Tally) -> None:
    """Run commands, and count and judge them.

    Args:
        inputs: the commands.
        place: the folder that they work in.
        server: whose children run them.
        tally: where they are counted.
    """
    for batch in batches(inputs, _BATCH):
        for each, run in zip(batch, _runs(batch, place, server), strict=True):
            tally.add(run, kind=f"{each.kind} {run.code}")
            why = wrong_with(run) or each.judge(run)
            if why is not None:
                tally.find(each.what, why)


def wrong_with(run: Run) -> str | None:
    """Return what is wrong with how any command ended."""
    why = complaint(run, seconds=MOST_SECONDS, nbytes=MOST_NBYTES)
    if why is not None:
        return why
    for line in said(run.err.decode(errors="replace")).split("\n"):
        if not line.isprintable():
            return f"a line that acts on a terminal: {line[:300]!r}"
        if len(line) > LONGEST_LINE:
            return f"a line of {len(line):,} characters: {line[:300]!r}"
    return None


def _runs(batch: Sequence[Input], place: Path, server: Server) -> list[Run]:
    asked = json.dumps([each.argv for each in batch]).encode()
    function = "tests.campaign.parsers.commands:run_batch"
    whole = server.run([], place, stdin=asked, function=function, limit=10 * len(batch))
    if whole.code == 0:
        runs = [_run_of(*each) for each in json.loads(whole.out)]
    else:
        runs = [Run(None, b"", b"", 0, 0)] * len(batch)
    # What looks wrong is run alone: a busy machine, or others before it, may be to blame.
    return [
        server.run(each.argv, place) if wrong_with(run) is not None else run
        for each, run in zip(batch, runs, strict=True)
    ]


def _run_of(code: int | None, out: str, err: str, seconds: float, nbytes: int) -> Run:
    return Run(code, out.encode("latin-1"), err.encode(errors="backslashreplace"), seconds, nbytes)


# --- in the server --------------------------------------------------------------------------


def run_batch() -> bytes:
    """Run the commands that standard input lists, and return how each ended."""
    argvs = json.loads(sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    return json.dumps([_ended(argv) for argv in argvs]).encode()


def _ended(argv: list[str]) -> tuple[int | None, str, str, float, int]:
    from reinit_cli.cli import main

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    out = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, 10)
    before, started = _peak_nbytes(), process_time()
    code: int | None = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(argv)
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    except BaseException:  # noqa: BLE001 - an exception is an outcome here
        err.write(traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    seconds, nbytes = process_time() - started, _peak_nbytes() - before
    return code, _written(out).decode("latin-1"), _written(err).decode(), seconds, nbytes


def _written(stream: io.TextIOWrapper) -> bytes:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue()


def _peak_nbytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
