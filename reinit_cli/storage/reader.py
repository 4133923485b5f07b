"""State the contract of everything that bytes are read from."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What changes when a file does.

    The time of the last change of its entry is left out: a hard link that a backup makes
    changes that time, and not a byte.
    """

    device: int
    inode: int
    nbytes: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        """Take it from a status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Reader(Protocol):
    """A file that is read from any place, or a pipe that is read in order."""

    @property
    def path(self) -> str:
        """Its path as the user wrote it; "-" for standard input."""

    @property
    def nbytes(self) -> int:
        """Its size; of a pipe, as far as is known."""

    @property
    def fingerprint(self) -> Fingerprint:
        """The file as it was when it was first opened."""

    @property
    def is_seekable(self) -> bool:
        """Whether its bytes can be read in any order, and more than once."""

    def head(self, nbytes: int) -> bytes:
        """Return the first bytes, fewer where it has no more."""

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return exactly those bytes.

        Raises:
            SourceChangedError: the file has become shorter.
            UnreadableSourceError: the system fails to read them.
        """

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer with the bytes from an offset on; raises as `read`."""

    def make_seekable(self) -> None:
        """Let its bytes be read in any order, if need be through a copy."""

    def ends_at(self, nbytes: int) -> None:
        """Learn where a pipe has to end."""

    def check_unchanged(self, expected: Fingerprint | None = None) -> None:
        """Compare the file, and what its path now names, with how it was.

        Args:
            expected: how it was; None means when it was first opened.

        Raises:
            SourceChangedError: they differ.
        """

    def descriptor(self) -> AbstractContextManager[int | None]:
        """Lend a descriptor that the kernel can copy from; None where there is none."""

    def close(self) -> None:
        """Give back what it holds open."""


class Store(Protocol):
    """Where files have names."""

    def open(self, path: str, expected: Fingerprint | None = None) -> Reader:
        """Return a reader of a file.

        Args:
            path: the file.
            expected: the file as it was when it was located; then it is opened, and
                compared, when its first byte is read.

        Raises:
            SourceNotFoundError: there is no such file.
            UnreadableSourceError: it is not a regular file or may not be read.
            SourceChangedError: it is not as expected.
        """
