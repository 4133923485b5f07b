"""What is drawn ahead of its turn in a pipe is bounded, and comes out in order."""

from __future__ import annotations

import threading
import time

import pytest

from reinit_cli.execution.ahead import Ahead
from reinit_cli.threads import StoppedError, Work

BLOCK = bytes(range(100))


def _fed(pieces: int, blocks: int, threads: int) -> tuple[list[bytes], int]:
    """Return what comes out of pieces that are drawn as fast as may be, and the most kept."""
    most = kept = 0
    lock = threading.Lock()

    def count(nbytes: int) -> None:
        nonlocal most, kept
        with lock:
            kept += nbytes
            most = max(most, kept)

    def draw(at: int) -> None:
        for number in range(blocks):
            ahead.put(at, memoryview(bytes([at, number]) + BLOCK[2:]))
            count(100)

    found = []
    with Work() as work:
        ahead = Ahead(work, 400)
        drawing = work.each(draw, range(pieces), threads)
        for at in range(pieces):
            for _ in range(blocks):
                found.append(ahead.take(at))
                count(-100)
                time.sleep(0.0005)
        assert len(list(drawing)) == pieces
    return found, most


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_blocks_come_in_order_and_few_of_them_wait(threads: int) -> None:
    found, most = _fed(6, 20, threads)

    assert [each[:2] for each in found] == [
        bytes([at, number]) for at in range(6) for number in range(20)
    ]
    # Ahead of their turn 400 bytes, in turn as many; a block of each thread and one more is
    # counted here before or after it moves.
    assert most <= 800 + 100 * (threads + 1)


def test_a_block_that_is_larger_than_the_bound_passes_when_its_turn_comes() -> None:
    with Work() as work:
        ahead = Ahead(work, 10)
        drawing = work.each(lambda at: ahead.put(at, memoryview(BLOCK)), range(3), 2)

        assert [ahead.take(at) for at in range(3)] == [BLOCK] * 3
        assert len(list(drawing)) == 3


def test_a_draw_that_fails_ends_the_wait_for_its_bytes() -> None:
    def fail(_: int) -> None:
        raise ValueError("drawn")

    with pytest.raises(ValueError, match="drawn"), Work() as work:
        ahead = Ahead(work)
        work.each(fail, range(1), 1)
        ahead.take(0)


def test_a_reader_that_goes_ends_the_draws() -> None:
    stopped = []

    def draw(at: int) -> None:
        try:
            for _ in range(1000):
                ahead.put(at, memoryview(BLOCK))
        except StoppedError:
            stopped.append(at)
            raise

    with pytest.raises(BrokenPipeError), Work() as work:
        ahead = Ahead(work, 400)
        work.each(draw, range(2), 2)
        ahead.take(0)
        raise BrokenPipeError

    assert sorted(stopped) == [0, 1]
