"""Run commands in forked children of a process that has imported what they need.

Starting Python and importing torch takes a hundred times as long as a command on a tiny
file. A server imports once; each command runs in a child of its own, as a process would:
with its own signals, streams, limits and exit code.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Self

ROOT = Path(__file__).parents[2]
_COMMANDS = ("reinit_cli.cli", "reinit_cli.cli.group", "tests.campaign.child")


@dataclass(frozen=True, slots=True)
class Run:
    """How a command ended.

    Attributes:
        code: its exit code, minus the signal that ended it, or None where it had to be
            killed because its time was over.
        out: what it wrote to standard output.
        err: what it wrote to standard error.
        seconds: the CPU time that it took.
        nbytes: its peak memory above that of a command that does nothing.
    """

    code: int | None
    out: bytes
    err: bytes
    seconds: float
    nbytes: int


class Server:
    """A process that has imported modules and runs commands in its children."""

    def __init__(self, *modules: str) -> None:
        """Start it.

        Args:
            modules: what it imports, besides the command line: ("torch",), say.
        """
        self._streams = tempfile.TemporaryDirectory(prefix="campaign-")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaign.server", *modules],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        # A child has few of its parent's pages of libraries; what a child that does nothing
        # has is what a command's memory starts from.
        self._least_nbytes = 0
        self._least_nbytes = self.run([], ROOT, function="time:tzset").nbytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._streams.cleanup()

    def run(
        self,
        argv: Sequence[str | bytes],
        place: Path,
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        function: str = "",
        limit: float = 60,
        out: str | None = None,
    ) -> Run:
        """Run a command to its end.

        Args:
            argv: its arguments, without the program's name.
            place: the folder that it works in.
            stdin: what it reads from standard input.
            environment: variables that it has besides those of the tests.
            function: a "module:function" to call with `argv` instead of the command line.
            limit: the seconds after which it is killed.
            out: a path for standard output, where it is not to be a file that is returned.
        """
        self.start(argv, place, stdin, environment, function=function, out=out)
        return self.wait(limit)

    def start(
        self,
        argv: Sequence[str | bytes],
        place: Path,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        *,
        function: str = "",
        stops: bool = False,
        out: str | None = None,
    ) -> int:
        """Start a command and return its process; one runs at a time.

        Args:
            argv: its arguments.
            place: the folder that it works in.
            stdin: what it reads from standard input.
            environment: variables that it has besides those of the tests.
            function: a "module:function" to call instead of the command line.
            stops: whether it stops itself before it begins, until SIGCONT, so that a tracer
                can attach.
            out: a path for standard output.
        """
        streams = Path(self._streams.name)
        (streams / "in").write_bytes(stdin)
        asked = {
            "argv": [os.fsdecode(each) for each in argv],
            "place": str(place),
            "streams": str(streams),
            "out": out or str(streams / "out"),
            "environment": dict(environment or {}),
            "function": function,
            "stops": stops,
        }
        pid = self._ask(asked)["pid"]
        assert isinstance(pid, int)
        return pid

    def wait(self, limit: float = 60) -> Run:
        """Wait for the command that was started, at most so many seconds."""
        ended = self._ask({"limit": limit})
        streams = Path(self._streams.name)
        out, err = streams / "out", streams / "err"
        return Run(
            ended["code"],
            out.read_bytes() if out.exists() else b"",
            err.read_bytes(),
            ended["seconds"],
            max(0, ended["nbytes"] - self._least_nbytes),
        )

    def _ask(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # JSON's escapes keep halves of surrogate pairs, which stand for bytes, in one piece.
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@dataclass(frozen=True, slots=True)
class Servers:
    """A server without torch, and one with it."""

    light: Server
    torch: Server

    def close(self) -> None:
        """End both."""
        self.light.close()
        self.torch.close()


def start_servers() -> Servers:
    """Start both."""
    return Servers(Server(), Server("torch", "torchvision", "reinit_cli.operations.rewrite"))


# --- in the server --------------------------------------------------------------------------


def _serve() -> None:
    for name in (*_COMMANDS, *sys.argv[1:]):
        importlib.import_module(name)
    child = 0
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        if "limit" in asked:
            answer = _wait(child, asked["limit"])
        else:
            child = os.fork()
            if not child:
                _become(asked)
            answer = {"pid": child}
        os.write(1, json.dumps(answer).encode() + b"\n")


def _wait(child: int, limit: float) -> dict[str, Any]:
    def stop(number: int, frame: FrameType | None) -> None:
        os.killpg(child, signal.SIGKILL)
        hung.append(number)

    hung: list[int] = []
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    _, status, used = os.wait4(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    code = os.waitstatus_to_exitcode(status)
    return {
        "code": None if hung else code,
        "seconds": used.ru_utime + used.ru_stime,
        "nbytes": used.ru_maxrss * 1024,
    }


def _become(asked: dict[str, Any]) -> NoReturn:
    """Be the command: in its place, with its streams, from its first line to its exit."""
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(f"{asked['streams']}/in", os.O_RDONLY), 0)
        os.dup2(os.open(asked["out"], flags), 1)
        os.dup2(os.open(f"{asked['streams']}/err", flags), 2)
        os.closerange(3, 64)
        os.chdir(asked["place"])
        os.environ.update(asked["environment"])
        if asked["stops"]:
            os.kill(os.getpid(), signal.SIGSTOP)
        code = _run(asked["function"], asked["argv"])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:  # before the command handles it
        os.write(2, b"error: interrupted\n")
        code = 130
    except BaseException:  # noqa: BLE001 - an exception is an outcome here
        import traceback

        with contextlib.suppress(OSError):
            os.write(2, traceback.format_exc().encode(errors="backslashreplace"))
    os._exit(code)


def _run(function: str, argv: list[str]) -> int:
    if not function:
        from reinit_cli.__main__ import entry

        sys.argv = ["reinit", *argv]
        entry()
    module, _, name = function.partition(":")
    answer = getattr(importlib.import_module(module), name)(*argv)
    os.write(1, b"" if answer is None else answer)
    return 0


if __name__ == "__main__":
    _serve()
