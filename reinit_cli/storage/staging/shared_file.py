"""Open a file of a staging, of which this rank writes a part."""

from __future__ import annotations

import os
import threading

from reinit_cli.storage.closing import close_quietly
from reinit_cli.storage.local_writer import InsideWriter
from reinit_cli.storage.system import naming_output, pread_all


class SharedFile(InsideWriter):
    """A file of a staging, of which this rank writes a part.

    It is opened to write alone. Some clients of network file systems write whole pages where
    they may read them, and would so put back what others wrote next to it meanwhile.
    """

    def __init__(self, path: str, place: str, *, syncs: bool) -> None:
        """Open a file that is there.

        Args:
            path: where it is to appear.
            place: where it is.
            syncs: whether it is forced to the disk.
        """
        self._place = place
        self._reading: int | None = None
        self._lock = threading.Lock()
        with naming_output(path):
            fd = os.open(place, os.O_WRONLY | os.O_CLOEXEC)
        super().__init__(path, fd, syncs=syncs)

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return bytes of the file."""
        with naming_output(self._path):
            with self._lock:
                if self._reading is None:
                    self._reading = os.open(self._place, os.O_RDONLY | os.O_CLOEXEC)
            return pread_all(self._reading, offset, nbytes)

    def close(self) -> None:
        """Close it, so that others see what was written."""
        super().close()
        self._stop_reading()

    def discard(self) -> list[str]:
        """Close its descriptors: it belongs to the staging."""
        left = super().discard()
        self._stop_reading()
        return left

    def _stop_reading(self) -> None:
        if self._reading is not None:
            close_quietly(self._reading)
            self._reading = None
