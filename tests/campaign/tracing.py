"""Trace a command's system calls, and let one of them fail."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.tools import missing, tool

_CALLS = [
    "openat",
    "pread64",
    "preadv",
    "preadv2",
    "readv",
    "read",
    "pwrite64",
    "pwritev",
    "write",
    "copy_file_range",
    "ioctl",
    "fallocate",
    "ftruncate",
    "fsync",
    "close",
    "link",
    "linkat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "rmdir",
    "fchmod",
    "fchown",
    "flock",
    "newfstatat",
    "getdents64",
    "fcntl",
    "dup",
    "dup2",
    "dup3",
]
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)")
_FOLDER_OF_PATHS = re.compile(r"AT_FDCWD<[^>]*>")
_STREAM = re.compile(r"^[012]<")
_ANY_SECONDS = 30.0


@dataclass(frozen=True, slots=True, order=True)
class Call:
    """A system call of a command: the nth of its name in one of its threads."""

    name: str
    nth: int


class Tracer:
    """strace, attached to a process that has stopped itself."""

    def __init__(self, process: int, log: Path, *how: str) -> None:
        """Attach it, and let the process go on.

        Args:
            process: the process.
            log: where the calls are listed.
            how: more arguments of strace.
        """
        self._log = log
        wait_until_stopped(process)
        arguments = ["-f", "-qq", "-y", "-s", "64", "-o", str(log), *how, "-p", str(process)]
        self._strace = subprocess.Popen([tool("strace"), *arguments])
        until = time.monotonic() + _ANY_SECONDS
        while "\nTracerPid:\t0\n" in Path(f"/proc/{process}/status").read_text():
            assert time.monotonic() < until, "strace does not attach"
            if self._strace.poll() is not None:
                missing("strace may not trace here")
            time.sleep(0.001)
        os.kill(process, signal.SIGCONT)

    def lines(self) -> list[str]:
        """Return what it listed, once the process has ended."""
        self._strace.wait(_ANY_SECONDS)
        return self._log.read_text(errors="replace").splitlines()


def wait_until_stopped(process: int) -> None:
    """Wait until a process has stopped itself."""
    until = time.monotonic() + _ANY_SECONDS
    while Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < until, "the command does not stop"
        time.sleep(0.001)


def tracing() -> tuple[str, ...]:
    """Return the arguments that list all calls that a fault may come to."""
    return ("-e", f"trace={','.join(_CALLS)}")


def failing(call: Call, how: str, *, lasts: bool = False) -> tuple[str, ...]:
    """Return the arguments that let a call fail.

    Args:
        call: the call.
        how: "error=EIO" or "signal=TERM".
        lasts: whether all later calls of its name fail too.
    """
    fault = f"inject={call.name}:{how}:when={call.nth}{'+' if lasts else ''}"
    return ("-e", f"trace={call.name}", "-e", fault)


def calls_of(lines: list[str], work: Path) -> list[Call]:
    """Return the calls that are about the files of a command, or its streams.

    Args:
        lines: of a trace.
        work: the folder that the command works in.
    """
    return sorted(set(_found(lines, str(work))))


def came_to(lines: list[str], work: Path, call: Call) -> bool:
    """Return whether a fault came, and only to calls that are about the files of a command.

    It comes to the nth call of each thread, of which some may be about something else.

    Args:
        lines: of a trace of the call.
        work: the folder that the command works in.
        call: which it was to come to.
    """
    counts: Counter[str] = Counter()
    hit = []
    for line in lines:
        if (found := _LINE.match(line)) and found[2] == call.name:
            counts[found[1]] += 1
            if counts[found[1]] == call.nth:
                hit.append(_is_ours(call.name, found[3], str(work)))
    return bool(hit) and all(hit)


def _found(lines: list[str], work: str) -> Iterator[Call]:
    counts: Counter[tuple[str, str]] = Counter()
    for line in lines:
        if found := _LINE.match(line):
            thread, name, rest = found.groups()
            counts[thread, name] += 1
            if name in _CALLS and _is_ours(name, rest, work):
                yield Call(name, counts[thread, name])


def _is_ours(name: str, rest: str, work: str) -> bool:
    """Whether a call is about what a command reads and writes."""
    if _STREAM.match(rest):
        return (name, rest[0]) in {("read", "0"), ("readv", "0"), ("write", "1")}
    if name == "ioctl":
        return "FICLONE" in rest
    rest = _FOLDER_OF_PATHS.sub("", rest).partition("\0")[0]
    has_path = re.search(r'"([^"]+)"', rest) if name not in ("write", "pwrite64", "read") else None
    is_relative = has_path is not None and not has_path[1].startswith("/")
    is_output = name == "close" and "/campaign-" in rest  # a copy of standard output's
    return work in rest or is_relative or is_output or "/proc/self/fd" in rest
