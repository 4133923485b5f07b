"""Keep what was fetched of a remote file for what is read next to it.

A header is read in many short reads that lie together, and each request takes as long as a
megabyte does. So a read fetches a window, a larger one where reads go on where it ended.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

FIRST_NBYTES = 64 * 2**10
"""What a first read fetches: the header of most safetensors files."""

_MOST_NBYTES = 8 * 2**20
"""What a read fetches that goes on where others ended."""

_KEPT_NBYTES = 32 * 2**20
"""The most that is kept of a file, but for what was read last."""

Fetch = Callable[[int, int], bytes]
"""Returns the bytes of a file from an offset up to another."""


class Windows:
    """What was fetched of a file."""

    def __init__(self, fetch: Fetch, nbytes: int, head: bytes = b"") -> None:
        """Begin with its first bytes.

        Args:
            fetch: fetches a range.
            nbytes: the size of the file.
            head: its first bytes, where they are known.
        """
        self._fetch = fetch
        self._nbytes = nbytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, bytes] = OrderedDict()  # by offset, those read last at the end
        if head:
            self._kept[0] = head

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return exactly those bytes."""
        end = offset + nbytes
        start, known = self._found(offset)
        have = known[offset - start :][:nbytes]
        if len(have) == nbytes:
            return have
        first = offset + len(have)
        last = max(end, min(first + self._ahead(start, len(known)), self._nbytes))
        # What is read at the end of a file lies before its end.
        first = first if have else max(0, min(first, self._nbytes - FIRST_NBYTES))
        data = self._fetch(first, last)
        self._keep(first, data)
        return have + data[max(0, offset - first) :][: nbytes - len(have)]

    def add(self, offset: int, data: bytes) -> None:
        """Keep what was fetched for it."""
        self._keep(offset, data)

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._kept.clear()

    def _found(self, offset: int) -> tuple[int, bytes]:
        """Return what is kept that has an offset, or ends there, and where it starts."""
        with self._lock:
            for start, data in reversed(self._kept.items()):
                if start <= offset <= start + len(data):
                    self._kept.move_to_end(start)
                    return start, data
        return offset, b""

    def _ahead(self, start: int, length: int) -> int:
        """Return how much a read fetches that goes on after what is kept."""
        del start
        return min(max(FIRST_NBYTES, 4 * length), _MOST_NBYTES)

    def _keep(self, offset: int, data: bytes) -> None:
        with self._lock:
            self._kept[offset] = data
            self._kept.move_to_end(offset)
            total = sum(map(len, self._kept.values()))
            while total > _KEPT_NBYTES and len(self._kept) > 1:
                total -= len(self._kept.popitem(last=False)[1])
