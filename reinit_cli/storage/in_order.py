"""Write to what takes bytes in order only: directly, or through a file in TMPDIR."""

from __future__ import annotations

from typing import Protocol

from reinit_cli.storage.closing import close_quietly
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.scratch import naming_scratch, open_scratch
from reinit_cli.storage.system import pread_all, pwrite_all

_SENT_NBYTES = 2**20
"""How much of a file in TMPDIR is sent off in one call."""


class InOrder(Protocol):
    """What takes bytes in order, such as a pipe or an upload."""

    def write(self, data: bytes | memoryview) -> None:
        """Write all of `data`."""


class InOrderWriter:
    """Writes bytes as they come: they go out in order and cannot be taken back."""

    is_seekable = False

    def __init__(self, end: InOrder) -> None:
        self._end = end

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data`; the offset is where the stream is."""
        del offset
        self._end.write(data)

    def copy_from(self, reader: Reader, start: int, offset: int, nbytes: int) -> int:
        """Copy nothing: a stream is written by `write_at`."""
        del reader, start, offset, nbytes
        return 0

    def clone(self, reader: Reader) -> bool:
        """Share nothing."""
        del reader
        return False

    def read(self, offset: int, nbytes: int) -> bytes:
        """Refuse to: what went out is gone."""
        raise NotImplementedError

    def close(self) -> None:
        """Do nothing: it has all gone out."""

    def send(self) -> None:
        """Do nothing: it has all gone out."""

    def discard(self) -> None:
        """Leave the stream to who opened it."""


class SpooledWriter:
    """Writes bytes in any order: into a file in TMPDIR, which is sent off at the end."""

    is_seekable = True

    def __init__(self, end: InOrder) -> None:
        self._end = end
        self._fd = open_scratch()

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data` there."""
        with naming_scratch():
            pwrite_all(self._fd, offset, data)

    def copy_from(self, reader: Reader, start: int, offset: int, nbytes: int) -> int:
        """Copy nothing: it is short work, and seldom."""
        del reader, start, offset, nbytes
        return 0

    def clone(self, reader: Reader) -> bool:
        """Share nothing."""
        del reader
        return False

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return bytes that were written."""
        with naming_scratch():
            return pread_all(self._fd, offset, nbytes)

    def close(self) -> None:
        """Keep it until it is sent off."""

    def send(self) -> None:
        """Send its bytes off."""
        offset = 0
        while data := self.read(offset, _SENT_NBYTES):
            self._end.write(data)
            offset += len(data)

    def discard(self) -> None:
        """Remove the file."""
        close_quietly(self._fd)
