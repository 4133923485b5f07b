"""Change files at a chosen moment of a run: before its n-th look at the file system.

This runs in the command's own process, which a server has forked. Whoever makes the change
is a process of its own, as in life, so that it may have to wait for the run.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

_LOOKS: tuple[tuple[ModuleType, tuple[str, ...]], ...] = (
    (os, ("open", "close", "stat", "lstat", "fstat", "listdir", "pread", "preadv")),
    (os, ("copy_file_range", "pwrite", "fsync", "fchmod", "link", "rename", "unlink", "mkdir")),
    (fcntl, ("flock", "ioctl", "fcntl")),
)

_PATIENCE = 0.15
"""The seconds that a run waits for a change, which may be waiting for the run."""


def change(what: str, *paths: str) -> None:
    """Change files in one step that others can see."""
    CHANGES[what](*map(Path, paths))


def _rewrite(path: Path, other: Path) -> None:
    """Write other bytes into a file, and set the time of the change back."""
    before = path.stat()
    with path.open("r+b", buffering=0) as file:
        file.write(other.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(path: Path, other: Path) -> None:
    """Give a new file the name and the time of an old one."""
    if not path.exists():
        return
    before = path.stat()
    made = other.with_name("made")
    made.write_bytes(other.read_bytes())
    made.chmod(before.st_mode)
    os.utime(made, ns=(before.st_atime_ns, before.st_mtime_ns))
    made.rename(path)


def _shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _lengthen(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        file.write(b" ")


def _restrict(path: Path) -> None:
    path.chmod(0o440)


def _create(path: Path) -> None:
    """Take a name, unless it is taken."""
    with suppress(FileExistsError):
        path.touch(exist_ok=False)


def _swap_folder(path: Path) -> None:
    """Put an empty folder in the place of another."""
    path.rename(path.with_name("gone"))
    path.mkdir()


CHANGES: dict[str, Callable[..., None]] = {
    "rewrite": _rewrite,
    "replace": _replace,
    "shorten": _shorten,
    "lengthen": _lengthen,
    "restrict": _restrict,
    "remove": lambda path: path.unlink(missing_ok=True),
    "create": _create,
    "swap folder": _swap_folder,
}
"""What happens to files; each is seen whole or not at all."""


class _Moments:
    """Counts looks at the file system, and changes files before one of them."""

    def __init__(self, at: int, asked: list[str]) -> None:
        self._at = at
        self._asked = asked
        self._lock = threading.Lock()
        self._is_on = True
        self._changing = 0
        self.count = 0

    def wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def look(*args: Any, **options: Any) -> Any:
            self._pass()
            return function(*args, **options)

        return look

    def _pass(self) -> None:
        if not self._is_on:  # also in the process that makes the change, where the lock is held
            return
        with self._lock:
            self.count += 1
            if self.count == self._at:
                self._change()

    def _change(self) -> None:
        self._is_on = False
        self._changing = os.fork()
        if not self._changing:
            _change_and_exit(self._asked)
        self._wait(_PATIENCE)
        self._is_on = True

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._changing and time.monotonic() < end:
            if os.waitpid(self._changing, os.WNOHANG) != (0, 0):
                self._changing = 0
            time.sleep(0.001)

    def end(self) -> None:
        """Let happen what was to happen after the last look, and wait for it."""
        if self.count < self._at:
            self._change()
        self._is_on = False
        self._wait(20)
        assert not self._changing, "a change waits for a run that has ended"


def _change_and_exit(asked: list[str]) -> None:
    os.closerange(3, 1024)  # a lease or a lock is the run's, and not that of this process
    try:
        change(*asked)
    finally:
        os._exit(0)


def run_changed(at: str, asked: str, counted: str, *argv: str) -> None:
    """Run a command, and change files before its look number `at`, or never for "0".

    Args:
        at: the number.
        asked: the change and its paths, as JSON.
        counted: a file that is told how many looks there were; "" for none.
        argv: the command.
    """
    from reinit_cli.cli import main

    moments = _Moments(int(at), json.loads(asked))
    for module, names in _LOOKS:
        for name in names:
            setattr(module, name, moments.wrapped(getattr(module, name)))
    try:
        code = main(argv)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    moments.end()
    if counted:
        Path(counted).write_text(str(moments.count))
    sys.stdout.flush()
    sys.exit(code)
