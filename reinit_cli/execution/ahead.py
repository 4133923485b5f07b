"""Hold what is drawn before its turn comes in a pipe, up to a bound."""

from __future__ import annotations

import threading
from collections import deque

from reinit_cli.threads import StoppedError, Work, wait_until

AHEAD_NBYTES = 64 * 2**20
"""What is drawn before its turn: it keeps several threads busy, however large a tensor is."""

_IN_TURN_NBYTES = 8 * 2**20
"""What is drawn and not yet written of the piece whose turn it is."""


class Ahead:
    """The bytes of pieces that are drawn side by side and written in order.

    The piece whose turn it is may always add to what is there when nothing of it is left, so
    nobody waits for ever.
    """

    def __init__(self, work: Work, nbytes: int = AHEAD_NBYTES) -> None:
        """Hold that many bytes at most, and a few of the piece whose turn it is.

        Args:
            work: the threads that draw.
            nbytes: the bound.
        """
        self._work = work
        self._most = nbytes
        self._changed = threading.Condition()
        self._turn: int | None = None
        self._waiting: dict[int, deque[bytes]] = {}
        self._kept = 0

    def put(self, at: int, data: memoryview) -> None:
        """Add bytes to those of a piece, when there is room.

        Args:
            at: the position of the piece in its file.
            data: its next bytes, which are copied.

        Raises:
            StoppedError: the work of this thread was stopped.
        """
        with self._changed:
            wait_until(self._changed, lambda: self._has_room(at, len(data)))
            self._waiting.setdefault(at, deque()).append(bytes(data))
            self._kept += len(data)
            self._changed.notify_all()

    def take(self, at: int) -> bytes:
        """Return the next bytes of a piece, whose turn it is.

        Raises:
            StoppedError: the threads that draw were stopped.
        """
        with self._changed:
            self._turn = at
            self._changed.notify_all()
            wait_until(self._changed, lambda: bool(self._waiting.get(at)) or self._work.is_stopped)
            if not self._waiting.get(at):
                raise StoppedError
            data = self._waiting[at].popleft()
            if not self._waiting[at]:
                del self._waiting[at]
            self._kept -= len(data)
            self._changed.notify_all()
        return data

    def _has_room(self, at: int, nbytes: int) -> bool:
        if at == self._turn:
            mine = sum(map(len, self._waiting.get(at, ())))
            return not mine or mine + nbytes <= min(_IN_TURN_NBYTES, self._most)
        return self._kept + nbytes <= self._most
