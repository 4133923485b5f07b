"""Keep what was fetched of a remote file for what is read next to it.

A header is read in many short reads that lie together, and each request takes as long as a
megabyte does. So a read fetches a window, a larger one where reads go on where it ended.
"""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable

FIRST_NBYTES = 64 * 2**10
"""What a first read fetches: the header of most safetensors files."""

_MOST_NBYTES = 8 * 2**20
"""What a read fetches that goes on where others ended."""

_KEPT_NBYTES = 32 * 2**20
"""The most that is kept of a file, but for what was read last."""

Fetch = Callable[[int, int], bytes | bytearray]
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
        self._starts: list[int] = []
        self._kept: OrderedDict[int, memoryview] = OrderedDict()  # by start, those read last last
        self._total = 0
        if head:
            self.keep(0, head)

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return exactly those bytes."""
        end = offset + nbytes
        parts: list[memoryview] = []
        while offset < end:
            known, start = self._found(offset)
            part = known[offset - start : end - start]
            if not part:
                ahead = 0 if parts else len(known)
                part = self._fetched(offset, end, ahead, is_jump=not parts and not known)
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def _fetched(self, first: int, end: int, before: int, *, is_jump: bool) -> memoryview:
        """Fetch a range, and what is read next with it.

        Args:
            first: where it starts.
            end: where it ends.
            before: how much is kept that ends where this read starts.
            is_jump: whether nothing is; then a short range at the end of the file is fetched
                with what lies before it.
        """
        last = end
        if end - first < FIRST_NBYTES or before:
            last = max(end, min(first + _after(before), self._nbytes))
        start = min(first, max(0, last - FIRST_NBYTES)) if is_jump else first
        data = memoryview(self._fetch(start, last))
        self.keep(start, data)
        return data[first - start : end - start]

    def has(self, start: int, end: int) -> bool:
        """Whether a range is kept."""
        known, first = self._found(start)
        return end <= first + len(known)

    def keep(self, start: int, data: bytes | bytearray | memoryview) -> None:
        """Keep a range."""
        with self._lock:
            if start not in self._kept:
                insort(self._starts, start)
            self._total += len(data) - len(self._kept.get(start, b""))
            self._kept[start] = memoryview(data)
            self._kept.move_to_end(start)
            while self._total > _KEPT_NBYTES and len(self._kept) > 1:
                gone, old = self._kept.popitem(last=False)
                self._total -= len(old)
                self._starts.remove(gone)

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._kept.clear()
            self._starts.clear()
            self._total = 0

    def _found(self, offset: int) -> tuple[memoryview, int]:
        """Return what is kept that has an offset, or ends there, and where it starts."""
        with self._lock:
            at = bisect_right(self._starts, offset)
            for start in self._starts[max(0, at - _OVERLAPPING) : at][::-1]:
                if offset <= start + len(self._kept[start]):
                    self._kept.move_to_end(start)
                    return self._kept[start], start
        return memoryview(b""), offset


_OVERLAPPING = 4
"""How many windows are looked at that start before an offset: others may lie within one."""


def _after(nbytes: int) -> int:
    """Return how much a read fetches that goes on after so much was kept."""
    return min(max(FIRST_NBYTES, 4 * nbytes), _MOST_NBYTES)
