"""Run work in threads that end together, and that Ctrl-C ends safely.

A signal raises in the main thread between any two instructions, and where that is just
after a condition's lock was acquired, nobody ever releases it: a worker that needs it
would wait for ever. And what is imported just then may abort the process. So the main
thread touches no lock that others need: it only waits.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from queue import SimpleQueue
from types import TracebackType
from typing import Protocol, Self, TypeVar, runtime_checkable

from reinit_cli.errors import ReinitError

Item = TypeVar("Item")

Result = TypeVar("Result")


QUIET = frozenset({"reinit-meter", "reinit-signals", "reinit-watch"})
"""The names of threads that neither draw nor read: those that show, and wait for, what others do."""


ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that end a command."""


_STOP_SECONDS = 0.05
"""How often a thread that waits looks whether its work was stopped."""


class StoppedError(Exception):
    """The work of a thread was stopped; nobody waits for its result."""


class _Here(threading.local):
    """The work that a thread belongs to: whoever reads or waits deep down asks for it."""

    work: Work | None = None


_HERE = _Here()


class Work:
    """Threads that end together: the first failure stops all of them.

    As a context manager it waits until they have ended. Work that begins in a thread of
    other work is stopped with it.
    """

    def __init__(self) -> None:
        """Begin without a thread."""
        self._outer = _HERE.work
        self._is_stopped = False
        self._failure: BaseException | None = None
        self._running = 0
        self._ended: SimpleQueue[None] = SimpleQueue()

    def __enter__(self) -> Self:
        """Hand it out."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the threads; where one failed first, raise its failure.

        A signal interrupts the wait, since a second one is obeyed immediately.
        """
        if error is not None:
            self.fail(error)
        while self._running:
            self._ended.get()
            self._running -= 1
        if isinstance(error, StoppedError) and self._failure is not None:
            raise self._failure from None

    @property
    def is_stopped(self) -> bool:
        """Whether its threads are to end."""
        return self._is_stopped or (self._outer is not None and self._outer.is_stopped)

    def stop(self) -> None:
        """Let its threads end as soon as they look."""
        self._is_stopped = True

    def fail(self, error: BaseException) -> None:
        """Stop, and keep the first failure."""
        if self._failure is None and not isinstance(error, StoppedError):
            self._failure = error
        self.stop()

    def each(
        self,
        work: Callable[[Item], Result],
        items: Iterable[Item],
        threads: int,
        begin: Callable[[], None] | None = None,
    ) -> Iterator[tuple[int, Result]]:
        """Begin some work with each item; yield its results, and the items' positions.

        They come as they are done. After `stop` those come that were done meanwhile.

        Args:
            work: what to do with each.
            items: taken in turns, one thread at a time.
            threads: how many of them.
            begin: what each thread does before its first item.

        Raises:
            StoppedError: other work was stopped that this belongs to.
            ReinitError: the system starts no thread; where it starts some, these do the work.
        """
        done: SimpleQueue[tuple[int, Result] | None] = SimpleQueue()
        args = (work, enumerate(items), threading.Lock(), done, begin)
        begun = 0
        with signals_held():
            try:
                while begun < threads:
                    start(threading.Thread(target=self._take_turns, args=args), f"reinit-{begun}")
                    begun += 1
                    self._running += 1
            except ReinitError:
                if not begun:
                    raise
        return self._results(done, begun)

    def _results(
        self, done: SimpleQueue[tuple[int, Result] | None], threads: int
    ) -> Iterator[tuple[int, Result]]:
        while threads:
            found = done.get()
            if found is None:
                threads -= 1
            else:
                yield found
        if self._failure is not None:
            raise self._failure
        if self._outer is not None and self._outer.is_stopped:
            raise StoppedError

    def _take_turns(
        self,
        work: Callable[[Item], Result],
        left: Iterator[tuple[int, Item]],
        turn: threading.Lock,
        done: SimpleQueue[tuple[int, Result] | None],
        begin: Callable[[], None] | None,
    ) -> None:
        """Do one item after the other, in a thread of its own."""
        _HERE.work = self
        try:
            if begin is not None:
                begin()
            while not self.is_stopped:
                with turn:
                    found = next(left, None)
                if found is None:
                    break
                done.put((found[0], work(found[1])))
        except BaseException as error:  # noqa: BLE001 (it is raised where it belongs)
            self.fail(error)
        done.put(None)
        self._ended.put(None)


def start(thread: threading.Thread, name: str) -> None:
    """Start a thread that nobody waits for when the process ends.

    Raises:
        ReinitError: the system starts none.
    """
    thread.name, thread.daemon = name, True
    try:
        thread.start()
    except RuntimeError as error:
        limits = "this process may use no more memory, or there are too many processes"
        raise ReinitError(problem=f"cannot start a thread: {limits}") from error


def aside(work: Callable[[], Result]) -> Result:
    """Do work in another thread, and return or raise what it does."""
    with Work() as scope:
        ((_, result),) = scope.each(lambda _: work(), (None,), 1)
    return result


def in_main_thread() -> bool:
    """Whether this is the thread in which signals raise."""
    return threading.current_thread() is threading.main_thread()


def side_by_side(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    begin: Callable[[], None] | None = None,
) -> list[Result]:
    """Return what some work gives for each item, done by as many threads as there are cores.

    Args:
        work: what to do with each.
        items: in the order of the results.
        begin: what each thread does before its first item.
    """
    with Work() as scope:
        found = dict(scope.each(work, items, cores(), begin))
    return [found[at] for at in range(len(found))]


def made_once(make: Callable[[], Result]) -> Callable[[], Result]:
    """Keep what a function returns; threads that ask for it meanwhile wait, and make no second."""
    made: list[Result] = []
    lock = threading.Lock()

    @wraps(make)
    def kept() -> Result:
        if made:
            return made[0]
        # A signal may keep the main thread from releasing it.
        is_ours = lock.acquire(timeout=_MOST_SECONDS)
        try:
            made[:] = made or [make()]
        finally:
            if is_ours:
                lock.release()
        return made[0]

    return kept


_MOST_SECONDS = 1.0
"""How long a thread waits for what another makes before it makes its own."""


def cores() -> int:
    """Return how many threads this process can run side by side."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def stop_here() -> None:
    """End the work of this thread here, if it was stopped.

    Raises:
        StoppedError: it was.
    """
    if _HERE.work is not None and _HERE.work.is_stopped:
        raise StoppedError


def wait_for(fd: int, event: int) -> None:
    """Wait until a pipe is ready.

    Args:
        fd: its descriptor.
        event: `select.POLLIN` or `select.POLLOUT`.

    Raises:
        StoppedError: the work of this thread was stopped.
    """
    poll = select.poll()
    poll.register(fd, event)
    while not poll.poll(_STOP_SECONDS * 1000):
        stop_here()


def wait_until(changed: threading.Condition, is_ready: Callable[[], bool]) -> None:
    """Wait until what a condition's lock guards is ready.

    Raises:
        StoppedError: the work of this thread was stopped.
    """
    while not changed.wait_for(is_ready, _STOP_SECONDS):
        stop_here()


@contextmanager
def signals_held() -> Iterator[None]:
    """Let signals wait that would raise in between in this thread."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        # A signal that comes just before is raised here, when they are blocked.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        with handlers_held():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


@contextmanager
def handlers_held() -> Iterator[None]:
    """Let handlers wait, which raise in the main thread whichever thread a signal comes to.

    Threads that a library started before, such as those of a BLAS, block no signal.
    """
    if not in_main_thread():
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    held = {number: handler for number, handler in handlers.items() if callable(handler)}
    try:
        for number in held:
            signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        for number, handler in held.items():
            if number in came:  # called, since a signal that is raised again counts as a second
                handler(number, None)


Progress = Callable[[int], object]
"""Told the bytes that are done since the last time, from any thread."""


@runtime_checkable
class Follower(Protocol):
    """A `Progress` that also wants to know which tensors are in work."""

    def __call__(self, nbytes: int, /) -> object:
        """Count bytes that are done."""

    def follow(self, key: str) -> object:
        """Note the tensor that this thread works on now; "" for none."""


@contextmanager
def followed(progress: Progress, key: str) -> Iterator[None]:
    """Let a follower know that this thread works on a tensor."""
    follow = progress.follow if isinstance(progress, Follower) else None
    if follow is not None:
        follow(key)
    yield
    if follow is not None:
        follow("")


def unwatched(nbytes: int) -> None:
    """Tell nobody."""
    del nbytes
