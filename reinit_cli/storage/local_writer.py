"""Write bytes through a descriptor."""

from __future__ import annotations

import os

from reinit_cli.storage.closing import close_quietly
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.system import (
    clone_file,
    copy_range,
    naming_output,
    pread_all,
    pwrite_all,
)


class LocalWriter:
    """Writes through a descriptor."""

    is_seekable = True

    def __init__(self, path: str, fd: int) -> None:
        """Take a descriptor over.

        Args:
            path: where the file is to appear, for errors.
            fd: the descriptor.
        """
        self._path = path
        self._fd = fd
        self._can_copy = True

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data` there."""
        with naming_output(self._path):
            pwrite_all(self._fd, offset, data)

    def copy_from(self, reader: Reader, start: int, offset: int, nbytes: int) -> int:
        """Let the kernel copy up to `nbytes`; return how many, 0 where it cannot."""
        if not self._can_copy:
            return 0
        with reader.descriptor() as source:
            if source is None:
                return 0
            with naming_output(self._path):
                count = copy_range(source, start, self._fd, offset, nbytes)
        self._can_copy = count > 0
        return count

    def clone(self, reader: Reader) -> bool:
        """Share all blocks with a file, where the file system can; say whether it could."""
        with reader.descriptor() as source, naming_output(self._path):
            return source is not None and clone_file(source, self._fd)

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return bytes that were written."""
        with naming_output(self._path):
            return pread_all(self._fd, offset, nbytes)

    def close(self) -> None:
        """Declare that all of it is written."""
        raise NotImplementedError

    def discard(self) -> list[str]:
        """Close its descriptor, and remove what has no name yet.

        Returns:
            The temporaries that cannot be removed.
        """
        raise NotImplementedError


class InsideWriter(LocalWriter):
    """Writes a file of a folder that gets its name as a whole."""

    def __init__(self, path: str, fd: int, *, syncs: bool) -> None:
        """Take a descriptor over.

        Args:
            path: where the file is to appear, for errors.
            fd: the descriptor.
            syncs: whether it is forced to the disk.
        """
        super().__init__(path, fd)
        self._syncs = syncs
        self._is_open = True

    def close(self) -> None:
        """Close it: the folder gives it its name."""
        if self._is_open:
            with naming_output(self._path):
                if self._syncs:
                    os.fsync(self._fd)
                self._is_open = False
                os.close(self._fd)

    def discard(self) -> list[str]:
        """Close its descriptor: the folder goes with all that it holds."""
        if self._is_open:
            self._is_open = False
            close_quietly(self._fd)
        return []
