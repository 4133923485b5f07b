"""The process's own entry: signals, streams, and a quick way out."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def entry() -> NoReturn:
    """Run the command line of this process and end it."""
    if sys.platform == "win32":
        sys.exit("error: reinit runs on Linux and macOS, not on Windows")
    signal.signal(signal.SIGTERM, _terminate)
    from reinit_cli.cli import main

    try:
        code = main(sys.argv[1:])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    code = _flush(code)
    # Tearing the interpreter down does nothing, and takes half a second after torch and a
    # fifth of one after a hundred thousand keys.
    os._exit(code)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Unwind, so that temporaries are removed; the exit code is the shell's for SIGTERM."""
    del frame
    raise SystemExit(128 + number)


def _flush(code: int) -> int:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        # Whoever read our output has gone; the interpreter must not try again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code or 128 + signal.SIGPIPE
    return code


if __name__ == "__main__":
    entry()
