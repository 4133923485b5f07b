"""Threads that work together end together, and soon."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli.errors import ReinitError
from reinit_cli.execution import budget
from reinit_cli.threads import (
    StoppedError,
    Work,
    aside,
    cores,
    made_once,
    side_by_side,
    signals_held,
    stop_here,
    wait_for,
)


def _forever() -> None:
    while True:
        time.sleep(0.01)
        stop_here()


def test_the_first_failure_stops_all_and_is_the_one_that_is_raised() -> None:
    begun: list[int] = []

    def work(at: int) -> None:
        begun.append(at)
        if at == 0:
            time.sleep(0.1)
            raise ZeroDivisionError
        _forever()

    with pytest.raises(ZeroDivisionError), Work() as scope:
        list(scope.each(work, range(100), 3))

    assert sorted(begun) == [0, 1, 2]
    assert not [each for each in threading.enumerate() if each.name.startswith("reinit")]


def test_a_failure_in_the_thread_that_waits_stops_the_others() -> None:
    with pytest.raises(ZeroDivisionError), Work() as scope:
        scope.each(lambda _: _forever(), (None,), 1)
        raise ZeroDivisionError

    assert not [each for each in threading.enumerate() if each.name.startswith("reinit")]


def test_where_a_thread_only_stops_the_failure_of_another_is_raised() -> None:
    """As where one copies while the draw of another fails."""

    def fail() -> None:
        time.sleep(0.1)
        raise ZeroDivisionError

    def work() -> None:
        with Work() as scope:
            scope.each(lambda _: fail(), (None,), 1)
            while True:
                time.sleep(0.01)
                if scope.is_stopped:
                    raise StoppedError

    with pytest.raises(ZeroDivisionError):
        aside(work)


def test_work_within_work_is_stopped_with_it() -> None:
    started = threading.Event()

    def inner(_: int) -> None:
        started.set()
        _forever()

    with Work() as scope:
        results = scope.each(lambda _: side_by_side(inner, range(3)), (None,), 1)
        assert started.wait(10)
        scope.stop()

        assert list(results) == []


def test_what_was_done_before_a_stop_is_still_yielded() -> None:
    def work(at: int) -> int:
        if at:
            _forever()
        return at

    with Work() as scope:
        found = []
        for each in scope.each(work, range(9), 2):
            found.append(each)
            scope.stop()

    assert found == [(0, 0)]


def _start_at_most(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python refuse all further threads, as it does where the system starts none."""
    start = threading.Thread.start
    left = [None] * count

    def start_if_left(thread: threading.Thread) -> None:
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_if_left)


def test_where_the_system_starts_few_threads_these_do_all_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _start_at_most(2, monkeypatch)
    with Work() as scope:
        found = dict(scope.each(lambda each: each * each, range(20), 8))

    assert found == {number: number**2 for number in range(20)}


def test_where_the_system_starts_no_thread_work_fails_and_others_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _start_at_most(1, monkeypatch)
    with pytest.raises(ReinitError, match="cannot start a thread"), Work() as scope:
        scope.each(lambda _: _forever(), (None,), 1)
        scope.each(lambda _: None, (None,), 1)

    assert not [each for each in threading.enumerate() if each.name.startswith("reinit")]


STARTS = """
import sys, threading
start, left = threading.Thread.start, list(range(int(sys.argv.pop(1))))

def start_if_left(thread):
    if not left:
        raise RuntimeError("can't start new thread")
    left.pop()
    start(thread)

threading.Thread.start = start_if_left
from reinit_cli.__main__ import entry
entry()
"""


@pytest.mark.slow
@pytest.mark.parametrize("count", range(7))
def test_a_command_ends_in_one_line_or_does_its_work_whatever_threads_there_are(count: int) -> None:
    save_file({key: torch.zeros(40, 40) for key in "abcd"}, "m.safetensors")
    command = [sys.executable, "-c", STARTS, str(count)]
    command += ["m.safetensors", "-r", "*=normal", "-r", "a=keep", "-o", "o.safetensors"]
    done = subprocess.run(
        [*command, "--progress"], capture_output=True, text=True, check=False, timeout=60
    )

    if done.returncode:
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("error: cannot start a thread: ")
        assert "Traceback" not in done.stderr
        assert os.listdir() == ["m.safetensors"]
    else:
        assert load_file("o.safetensors")["b"].std() > 0.9
    assert bool(done.returncode) == (count < 6)


def test_results_have_the_order_of_the_items() -> None:
    def work(at: int) -> int:
        time.sleep(0.01 * (5 - at))
        return at * at

    assert side_by_side(work, range(5)) == [0, 1, 4, 9, 16]


def test_items_are_taken_when_their_turn_comes() -> None:
    """A list of the pieces of a large file would grow with it."""
    taken = done = 0
    ahead = []

    def items() -> Iterator[None]:
        nonlocal taken
        for _ in range(500):
            taken += 1
            ahead.append(taken - done)
            yield None

    def work(_: None) -> None:
        nonlocal done
        done += 1

    side_by_side(work, items())

    assert max(ahead) <= cores() + 1


def test_a_wait_for_a_pipe_stops_with_its_work() -> None:
    read, write = os.pipe()
    with Work() as scope:
        results = scope.each(lambda fd: wait_for(fd, select.POLLIN), (read,), 1)
        time.sleep(0.1)
        scope.stop()

        assert list(results) == []
    os.close(read)
    os.close(write)


def test_a_wait_for_memory_stops_with_its_work() -> None:
    shared = budget._Budget(1000)
    other = budget.Share(shared)
    other.take(1000)
    with Work() as scope:
        results = scope.each(budget.Share(shared).take, (1,), 1)
        time.sleep(0.1)
        scope.stop()

        assert list(results) == []
    assert shared.taken == 1000


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_there_are_as_many_threads_as_cores_that_the_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})

        assert cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert cores() == len(allowed)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_signal_waits_though_another_thread_blocks_none(depth: int) -> None:
    """As the threads of a BLAS do, which the system then gives the signal to."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    noticed, note = socket.socketpair()
    note.settimeout(0)
    woken = signal.set_wakeup_fd(note.fileno())
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    assert other.ident is not None
    finished = False
    try:
        with pytest.raises(KeyboardInterrupt), ExitStack() as stack:
            for _ in range(depth):
                stack.enter_context(signals_held())
            signal.pthread_kill(other.ident, signal.SIGINT)
            assert noticed.recv(1) == bytes([signal.SIGINT])
            finished = True
        assert finished
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        done.set()
        other.join()
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGINT, before)
        noticed.close()
        note.close()


def test_what_several_threads_need_is_made_once() -> None:
    made: list[int] = []
    together = threading.Barrier(4)

    @made_once
    def number() -> int:
        time.sleep(0.05)
        made.append(1)
        return len(made)

    def ask(_: int) -> int:
        together.wait(10)
        return number()

    with Work() as work:
        found = dict(work.each(ask, range(4), 4))

    assert found == dict.fromkeys(range(4), 1)
    assert number() == 1
    assert made == [1]


def test_what_could_not_be_made_is_tried_again() -> None:
    answers = iter([0, 5])

    @made_once
    def quotient() -> float:
        return 10 / next(answers)

    with pytest.raises(ZeroDivisionError):
        quotient()
    assert quotient() == 2
