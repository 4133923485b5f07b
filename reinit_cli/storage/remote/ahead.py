"""Fetch what is to be copied out of a remote file before it is asked for.

One request after the other would wait for each: at 50 ms, blocks of 8 MB come at 148 MB/s one
by one, and at 791 MB/s eight at a time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from reinit_cli.storage.remote.windows import Fetch

BLOCK_NBYTES = 8 * 2**20
"""What one request fetches."""

BLOCKS = 8
"""How many are fetched, or wait to be read, at a time."""

GAP_NBYTES = 64 * 2**10
"""What is fetched too where it lies between two ranges: less than a request costs."""


class Ahead:
    """The blocks of some ranges, in order."""

    def __init__(self, fetch: Fetch, ranges: Iterable[tuple[int, int]]) -> None:
        """Plan them; the first are fetched when the first is read.

        Args:
            fetch: fetches a range.
            ranges: what is to be read, in order.
        """
        self._fetch = fetch
        self._blocks = blocks_of(joined(ranges))
        self._coming: deque[tuple[int, int, Future[bytes | bytearray]]] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._next = next(self._blocks, None)
        self._lock = threading.Lock()

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill as much of a buffer as the block has that an offset lies in; 0 where none has.

        A read never goes back: what lies before an offset is gone.
        """
        found = self._block_with(offset)
        if found is None:
            return 0
        start, end, coming = found
        data = memoryview(coming.result())[offset - start :][: len(buffer)]
        buffer[: len(data)] = data
        if offset + len(data) == end:
            self._drop(start)
        return len(data)

    def close(self) -> None:
        """Ask for nothing more, and forget what came."""
        with self._lock:
            self._next = None
            self._coming.clear()
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = None

    def _block_with(self, offset: int) -> tuple[int, int, Future[bytes | bytearray]] | None:
        with self._lock:
            while True:
                for each in self._coming:
                    if each[0] <= offset < each[1]:
                        while self._coming[0] is not each:
                            self._coming.popleft()
                        self._ask()
                        return each
                # A jump ahead leaves out what nobody will read.
                if self._next is None or not self._skip_to(offset):
                    return None

    def _skip_to(self, offset: int) -> bool:
        """Ask for the block with an offset if it is still to come; say whether it is."""
        if self._next is None or offset < self._next[0]:
            return False
        while self._next is not None and self._next[1] <= offset:
            self._next = next(self._blocks, None)
        if self._next is None or offset < self._next[0]:
            return False
        self._coming.clear()
        self._ask()
        return True

    def _drop(self, start: int) -> None:
        with self._lock:
            if self._coming and self._coming[0][0] == start:
                self._coming.popleft()
            self._ask()

    def _ask(self) -> None:
        """Ask for blocks until there are enough; the lock is held."""
        while self._next is not None and len(self._coming) < BLOCKS:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(BLOCKS, "fetch")
            start, end = self._next
            self._coming.append((start, end, self._pool.submit(self._fetch, start, end)))
            self._next = next(self._blocks, None)
        if self._next is None and self._pool is not None:
            self._pool.shutdown(wait=False)  # its threads end with the last of what was asked for


def joined(ranges: Iterable[tuple[int, int]], gap: int = GAP_NBYTES) -> Iterator[tuple[int, int]]:
    """Yield ranges, those as one that lie one behind the other with little between them."""
    last: tuple[int, int] | None = None
    for start, end in ranges:
        if start == end:
            continue
        if last is not None and last[1] <= start <= last[1] + gap:
            last = last[0], end
            continue
        if last is not None:
            yield last
        last = start, end
    if last is not None:
        yield last


def blocks_of(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield ranges in blocks."""
    for start, end in ranges:
        for at in range(start, end, BLOCK_NBYTES):
            yield at, min(at + BLOCK_NBYTES, end)
