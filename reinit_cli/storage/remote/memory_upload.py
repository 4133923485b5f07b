"""Keep an object for fsspec's memory, which shows everything that is written to it immediately."""

from __future__ import annotations

from typing import Any


class MemoryUpload:
    """An object that is collected until it appears; see `Upload`."""

    def __init__(self, fs: Any, path: str, *, is_new: bool) -> None:
        """Prepare one.

        Args:
            fs: fsspec's memory.
            path: the object's path in it.
            is_new: whether another object there is to be kept.
        """
        self._fs = fs
        self._path = path
        self._is_new = is_new
        self._data = bytearray()

    def begin(self) -> None:
        """Do nothing."""

    def write(self, data: bytes | memoryview) -> None:
        """Keep the next bytes."""
        self._data += data

    def finish(self) -> None:
        """Do nothing."""

    def complete(self) -> None:
        """Put the object in its place."""
        if self._is_new and self._fs.exists(self._path):
            raise FileExistsError(self._path)
        self._fs.pipe_file(self._path, bytes(self._data))
        self._data = bytearray()

    def abort(self) -> bool:
        """Forget the bytes."""
        self._data = bytearray()
        return True

    def remove(self) -> bool:
        """Remove the object."""
        self._fs.rm_file(self._path)
        return True
