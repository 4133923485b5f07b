"""Count what is fetched."""

from __future__ import annotations

import threading


class Traffic:
    """How many requests were answered, and how many bytes came."""

    def __init__(self) -> None:
        """Begin with none."""
        self.requests = 0
        self.nbytes = 0
        self._lock = threading.Lock()

    def add(self, nbytes: int) -> None:
        """Count an answer."""
        with self._lock:
            self.requests += 1
            self.nbytes += nbytes
