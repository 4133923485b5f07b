"""Files that are read: opened read-only, read with `pread`, never mapped."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from reinit_cli.errors import (
    SourceChangedError,
    SourceNotFoundError,
    UnreadableSourceError,
)
from reinit_cli.text import near, why


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What changes when a file does."""

    device: int
    inode: int
    nbytes: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        """Read it off a status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class InputFile:
    """A regular file, open for reading.

    A map would be shorter, but a file that is truncated under a map kills the process.
    """

    def __init__(self, path: str) -> None:
        """Open the file.

        Raises:
            SourceNotFoundError: nothing is there.
            UnreadableSourceError: it is no regular file or may not be read.
        """
        self.path = path
        try:
            # A pipe with no writer would block an open for ever.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise SourceNotFoundError(path, _neighbours(path)) from error
        except (OSError, ValueError) as error:
            raise UnreadableSourceError(path, why(error)) from error
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            kind = "it is a folder" if stat.S_ISDIR(status.st_mode) else "it is no regular file"
            raise UnreadableSourceError(path, kind)
        self.fingerprint = Fingerprint.of(status)

    def __enter__(self) -> Self:
        """Keep it open."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    @property
    def nbytes(self) -> int:
        """Its size."""
        return self.fingerprint.nbytes

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._fd

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return exactly those bytes.

        Raises:
            SourceChangedError: the file has become shorter.
            UnreadableSourceError: the system fails to read them.
        """
        pieces = []
        while nbytes:
            try:
                piece = os.pread(self._fd, nbytes, offset)
            except OSError as error:
                raise UnreadableSourceError(self.path, why(error)) from error
            if not piece:
                raise SourceChangedError(self.path)
            pieces.append(piece)
            offset += len(piece)
            nbytes -= len(piece)
        return b"".join(pieces)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill a buffer as far as one call does it; return how many bytes came.

        Raises:
            SourceChangedError: the file has become shorter.
            UnreadableSourceError: the system fails to read them.
        """
        try:
            count = os.preadv(self._fd, [buffer], offset)
        except OSError as error:
            raise UnreadableSourceError(self.path, why(error)) from error
        if not count and buffer:
            raise SourceChangedError(self.path)
        return count

    def check_unchanged(self, expected: Fingerprint | None = None) -> None:
        """Compare the file, and what its path now names, with how it was.

        Args:
            expected: how it was; None means when it was opened.

        Raises:
            SourceChangedError: they differ.
        """
        expected = expected or self.fingerprint
        try:
            now = {Fingerprint.of(os.fstat(self._fd)), Fingerprint.of(os.stat(self.path))}
        except OSError as error:
            raise SourceChangedError(self.path) from error
        if now != {expected}:
            raise SourceChangedError(self.path)


def _neighbours(path: str) -> list[str]:
    folder, name = os.path.split(path)
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return []
    return [os.path.join(folder, found) for found in near(name, names)]
