"""Give a sign of life, and see whether another rank gives one.

A sign has no time in it, since the clocks of hosts differ: whoever reads it waits for it to
change.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from reinit_cli.storage.staging.staging import Staging

_NBYTES = 64


class Sign:
    """The sign of this rank."""

    def __init__(self, staging: Staging) -> None:
        """Give none yet."""
        self._path = staging.text("beat", staging.ranks.rank)
        self._beats = 0

    def give(self, done: int, *, is_first: bool = False) -> None:
        """Let it change; do nothing where the staging was removed.

        Args:
            done: the bytes that this rank has written.
            is_first: whether there is none yet.
        """
        self._beats += 1
        flags = os.O_WRONLY | os.O_CLOEXEC | (os.O_CREAT if is_first else 0)
        with suppress(OSError):
            fd = os.open(self._path, flags, 0o666)
            try:
                os.pwrite(fd, b"%20d %20d\n" % (self._beats, done), 0)
            finally:
                os.close(fd)

    def take_back(self) -> None:
        """Let the others know that this rank waits for nothing more."""
        with suppress(OSError):
            os.unlink(self._path)


class Pulse:
    """What is known of the life of another rank.

    Attributes:
        changes: how often its sign was seen to change.
        done: the bytes that it has written.
    """

    def __init__(self, staging: Staging, rank: int) -> None:
        """Begin to count the seconds of its silence."""
        self._path = staging.text("beat", rank)
        self._last = b""
        self._heard = time.monotonic()
        self.changes = 0
        self.done = 0

    def feel(self) -> None:
        """Look at its sign."""
        try:
            with open(self._path, "rb", buffering=0) as file:
                sign = file.read(_NBYTES)
        except OSError:
            return
        if not sign or sign == self._last:
            return
        self.changes += bool(self._last)
        self._last, self._heard = sign, time.monotonic()
        with suppress(ValueError, IndexError):  # it may be read while it is written
            self.done = max(self.done, int(sign.split()[1]))

    @property
    def has_come(self) -> bool:
        """Whether there was any sign of it."""
        return bool(self._last)

    @property
    def silence(self) -> float:
        """The seconds since its sign changed, or since it was looked for first."""
        return time.monotonic() - self._heard

    @property
    def is_there(self) -> bool:
        """Whether it waits for something."""
        return os.path.lexists(self._path)
