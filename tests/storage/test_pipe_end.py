"""What is written to a pipe arrives in order, and a writer that waits can be stopped."""

from __future__ import annotations

import fcntl
import io
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reinit_cli.storage.pipe_end import PipeEnd
from reinit_cli.threads import Work

DATA = bytes(range(251)) * 4000


def _pipe() -> tuple[int, int]:
    return os.pipe()


def _pipe_that_cannot_be_opened_again() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


@pytest.mark.parametrize("make", [_pipe, _pipe_that_cannot_be_opened_again])
def test_a_slow_reader_gets_every_byte(make: Callable[[], tuple[int, int]]) -> None:
    read, write = make()
    found = bytearray()

    def take() -> None:
        while piece := os.read(read, 10_000):
            found.extend(piece)

    reader = threading.Thread(target=take)
    reader.start()
    with open(write, "wb") as stream:
        stream.write(b"before ")
        end = PipeEnd(stream)
        for at in range(0, len(DATA), 300_000):
            end.write(memoryview(DATA)[at : at + 300_000])
        end.close()
    reader.join()
    os.close(read)

    assert bytes(found) == b"before " + DATA


@pytest.mark.parametrize("make", [_pipe, _pipe_that_cannot_be_opened_again])
def test_a_writer_that_waits_for_a_reader_stops_with_its_work(
    make: Callable[[], tuple[int, int]],
) -> None:
    read, write = make()
    with open(write, "wb") as stream:
        end = PipeEnd(stream)
        with Work() as work:
            results = work.each(end.write, (DATA, DATA), 1)
            time.sleep(0.2)
            stopped = time.monotonic()
            work.stop()

            assert list(results) == []
        assert time.monotonic() - stopped < 2
    os.close(read)


def test_whoever_else_has_the_pipe_waits_for_it_as_before() -> None:
    read, write = os.pipe()
    with open(write, "wb") as stream:
        PipeEnd(stream).write(b"x")

        assert not fcntl.fcntl(write, fcntl.F_GETFL) & os.O_NONBLOCK
    os.close(read)


def test_a_reader_that_has_gone_is_an_error() -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as stream, pytest.raises(BrokenPipeError):
        PipeEnd(stream).write(b"x")


def test_a_file_and_memory_are_written_as_they_are() -> None:
    memory = io.BytesIO()
    PipeEnd(memory).write(DATA)
    with open("file", "wb") as stream:
        stream.write(b"before ")
        PipeEnd(stream).write(DATA)

    assert memory.getvalue() == DATA
    assert Path("file").read_bytes() == b"before " + DATA
