"""The process's own entry: signals, streams, and a quick way out."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[[int, FrameType | None], NoReturn] | signal.Handlers

_SHOW_CURSOR = b"\x1b[?25h"


def entry() -> NoReturn:
    """Run the command line of this process and end it."""
    if sys.platform == "win32":
        sys.exit("error: reinit runs on Linux and macOS, not on Windows")
    try:
        code = _run()
    except SystemExit as stop:  # of a signal before or after the command itself
        code = stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        os.write(2, b"error: interrupted\n")
        code = 128 + signal.SIGINT
    # Tearing the interpreter down does nothing, and takes half a second after torch and a
    # fifth of one after a hundred thousand keys.
    os._exit(code)


def _run() -> int:
    """Run the command line, and return the exit code of the process."""
    # A short run makes 40,000 objects, nearly all of them modules, which stay: walking them takes
    # a tenth of its time.
    gc.set_threshold(100_000)
    _handle_signals(_interrupt)
    _end_on_second_signal()
    from reinit_cli.cli import main
    from reinit_cli.cli.imports import import_apart
    from reinit_cli.cli.streams import flush_streams, open_streams

    import_apart()
    open_streams()
    try:
        code = main(sys.argv[1:])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    return flush_streams(code)


def _handle_signals(handler: Handler) -> None:
    """Handle the signals that end a command, but not those that the parent ignores."""
    from reinit_cli.threads import ENDING_SIGNALS

    for number in ENDING_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Unwind, so that temporaries are removed; the next signal ends the process immediately.

    The exit code is the one that a shell gives the signal.
    """
    del frame
    _handle_signals(signal.SIG_DFL)
    _wait_for_no_reader()
    if os.isatty(2):  # where a bar is shown that the next signal leaves as it is
        os.write(2, _SHOW_CURSOR)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _end_on_second_signal() -> None:
    """End the process on its second signal, even where the first had no effect.

    While the main thread is in a long call of torch, no handler written in Python runs.
    """
    import threading
    from contextlib import suppress

    from reinit_cli.errors import ReinitError
    from reinit_cli.threads import start

    ours, theirs = map(_above_standard_streams, os.pipe())
    os.set_blocking(theirs, False)
    signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
    with suppress(ReinitError):  # the first signal ends it all the same
        start(threading.Thread(target=_watch, args=(ours,)), "reinit-signals")


def _above_standard_streams(fd: int) -> int:
    """Return a descriptor that is none of a standard stream, one of which may be closed."""
    import fcntl

    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return moved


def _watch(fd: int) -> NoReturn:
    from reinit_cli.threads import ENDING_SIGNALS

    count = 0
    while True:
        for number in os.read(fd, 64):
            count += number in ENDING_SIGNALS
            if count > 1:
                os._exit(128 + number)


def _wait_for_no_reader() -> None:
    """Let the streams of `cli.streams` drop what nobody reads, if they are open yet."""
    for stream in (sys.stdout, sys.stderr):
        raw = getattr(getattr(stream, "buffer", None), "raw", None)
        if raw is not None and hasattr(raw, "waits"):
            raw.waits = False


if __name__ == "__main__":
    entry()
