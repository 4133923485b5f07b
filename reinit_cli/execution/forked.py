"""Draw in forked processes, since the threads of one interpreter hold each other up.

Each of numpy's operations ends with a wait for the interpreter's lock: two threads draw half as
much again as one, two processes twice as much. A forked process has what was open when it was
made. It gets the numbers of draws, writes these into the open files, and answers with what
it found: all of it in lines of JSON, through two pipes.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Self

from reinit_cli.execution.fill import Form
from reinit_cli.lazy import dataclass
from reinit_cli.storage.system import end_with_parent
from reinit_cli.threads import (
    ENDING_SIGNALS,
    QUIET,
    Progress,
    in_main_thread,
    signals_held,
    wait_for,
)

Draw = Callable[[int, Progress], Form]
"""Writes the draw of a number, and returns what the process that asked is to know of it."""


def can_fork() -> bool:
    """Whether a fork of this process can draw.

    It has none of the other threads, but the locks that they held, and of torch's pools neither.
    """
    others = [each for each in threading.enumerate() if each is not threading.main_thread()]
    is_alone = in_main_thread() and all(each.name in QUIET for each in others)
    return is_alone and sys.platform == "linux" and "torch" not in sys.modules


@dataclass(frozen=True, slots=True)
class _Process:
    """A forked process.

    Attributes:
        pid: its number.
        orders: the descriptor of the pipe to it.
        answers: the descriptor of the pipe from it.
    """

    pid: int
    orders: int
    answers: int

    def draw(self, number: int, progress: Progress) -> Form | None:
        """Have it draw; None where it ended."""
        with _broken_pipes_ignored():
            os.write(self.orders, b"%d\n" % number)
        done = 0
        for line in _lines(self.answers):
            found = json.loads(line)
            if not isinstance(found, int):
                return dict(found)
            done += found
            progress(found)
        progress(-done)
        return None

    def close(self) -> None:
        """Give it no more orders, and hear no more of its answers."""
        os.close(self.orders)
        os.close(self.answers)

    def end(self) -> None:
        """End it: it waits for orders, or what it draws is of no use."""
        # This process may be one that ignores its children: once they end, their numbers are free.
        with suppress(ChildProcessError, ProcessLookupError):
            if os.waitpid(self.pid, os.WNOHANG) == (0, 0):
                os.kill(self.pid, signal.SIGKILL)  # which ends even one that was stopped
                os.waitpid(self.pid, 0)


@contextmanager
def _broken_pipes_ignored() -> Iterator[None]:
    """Ignore that nobody reads a pipe, also in a program that lets SIGPIPE end it."""
    broken = (signal.SIGPIPE,)
    held = signal.pthread_sigmask(signal.SIG_BLOCK, broken)
    try:
        yield
    except BrokenPipeError:
        signal.sigtimedwait(broken, 0)  # the signal comes to this thread, and is dropped
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _lines(fd: int) -> Iterator[bytes]:
    """Yield lines until there are no more.

    Raises:
        StoppedError: the work of this thread was stopped.
    """
    begun = b""
    while True:
        wait_for(fd, select.POLLIN)
        data = os.read(fd, 2**16)
        if not data:
            return
        *lines, begun = (begun + data).split(b"\n")
        yield from lines


def _pipe(closing: ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        closing.callback(os.close, end)
    return ends


def _fork() -> int:
    with warnings.catch_warnings():
        # From Python 3.12 on, of each fork of a process that has threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


class Forked:
    """Processes that draw, from when they are entered on; fewer where the system gives no more."""

    def __init__(self, count: int, draw: Draw) -> None:
        """Make none yet.

        Args:
            count: how many there are to be.
            draw: what they do.
        """
        self._count = count
        self._draw = draw
        self._all: list[_Process] = []
        self._idle: SimpleQueue[_Process] = SimpleQueue()

    def __enter__(self) -> Self:
        """Make them."""
        try:
            with signals_held(), suppress(OSError):
                for _ in range(self._count):
                    self._all.append(self._forked())
                    self._idle.put(self._all[-1])
        except BaseException:  # a signal came meanwhile
            self.__exit__()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        """End them."""
        with signals_held():
            for process in self._all:
                process.close()
            for process in self._all:
                process.end()
            self._all.clear()

    def draw(self, number: int, progress: Progress) -> Form | None:
        """Let one of them draw; None where none can, or it ended: the draw is to be done here.

        Args:
            number: which draw.
            progress: called with the bytes that are written.

        Raises:
            StoppedError: the work of this thread was stopped.
        """
        try:
            process = self._idle.get_nowait()
        except Empty:
            return None
        found = process.draw(number, progress)
        if found is not None:
            self._idle.put(process)
        return found

    def _forked(self) -> _Process:
        with ExitStack() as unless_forked:
            ordered, orders = _pipe(unless_forked)
            answers, answered = _pipe(unless_forked)
            pid = _fork()
            unless_forked.pop_all()
        process = _Process(pid, orders, answers)
        if pid:
            os.close(ordered)
            os.close(answered)
            return process
        try:
            for other in (*self._all, process):
                other.close()
            self._serve(ordered, answered)
        finally:
            os._exit(0)  # whatever happened, the other one draws what it has no answer for

    def _serve(self, ordered: int, answered: int) -> None:
        """Draw what is asked for, in the forked process."""
        end_with_parent()
        gc.freeze()  # what others left is theirs to finish
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal it comes to all processes
        for ending in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(ending) is not signal.SIG_IGN:  # as under nohup
                signal.signal(ending, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
        with os.fdopen(ordered, "rb") as orders, os.fdopen(answered, "w") as answers:

            def answer(found: int | Form) -> None:
                print(json.dumps(found), file=answers, flush=True)

            for number in orders:
                answer(self._draw(int(number), answer))
