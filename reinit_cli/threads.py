"""Run work in other threads, so that Ctrl-C is safe while it goes on.

A signal raises in the main thread between any two instructions, and where that is just
behind the acquiring of a condition's lock, nobody ever releases it: a worker that needs it
would wait for ever. And what is imported just then may abort the process. So the main
thread touches no lock that others need: it only waits.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")


Result = TypeVar("Result")


Stopped = threading.Event
"""Set when the work is to end as soon as it can."""


class StoppedError(Exception):
    """The work was told to stop; nobody waits for its result."""


def aside(work: Callable[[Stopped], Result]) -> Result:
    """Do work in another thread, and return or raise what it does.

    Args:
        work: what to do; it looks now and then whether it was stopped.
    """
    stopped = Stopped()
    ended: SimpleQueue[tuple[Result, None] | tuple[None, BaseException]] = SimpleQueue()

    def finish() -> None:
        try:
            ended.put((work(stopped), None))
        except BaseException as error:  # noqa: BLE001 (it is raised where it belongs)
            ended.put((None, error))

    thread = threading.Thread(target=finish, name="reinit-aside")
    with signals_held():
        thread.start()
    try:
        result, error = ended.get()
    except BaseException:
        with signals_held():
            stopped.set()
            thread.join()
        raise
    thread.join()
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # without an error it is the result


@contextmanager
def signals_held() -> Iterator[None]:
    """Let signals wait that would raise in between in this thread."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def until(stopped: Stopped, items: Iterable[Item]) -> Iterator[Item]:
    """Yield items until the work is told to stop.

    Raises:
        StoppedError: it was.
    """
    for item in items:
        if stopped.is_set():
            raise StoppedError
        yield item


def side_by_side(
    work: Callable[[Item], Result], items: Iterable[Item], stopped: Stopped
) -> list[Result]:
    """Return what some work gives for each item, done by as many threads as there are cores.

    Args:
        work: what to do with each.
        items: in the order of the results.
        stopped: set when no other item is to be begun.

    Raises:
        StoppedError: it was set.
    """

    def one(item: Item) -> Result:
        if stopped.is_set():
            raise StoppedError
        return work(item)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            return list(pool.map(one, items))
        except BaseException:
            stopped.set()
            raise


Progress = Callable[[int], None]
"""Told the bytes that are done since the last time, from any thread."""


def unwatched(nbytes: int) -> None:
    """Tell nobody."""
    del nbytes
