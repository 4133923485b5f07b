"""State the contract of everything that bytes are written to."""

from __future__ import annotations

from typing import Protocol

from reinit_cli.storage.local import InputFile


class Sink(Protocol):
    """What the engine writes to."""

    @property
    def is_seekable(self) -> bool:
        """Whether bytes may be written in any order."""

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data` there; a stream is given its bytes in order."""

    def copy_from(self, file: InputFile, start: int, offset: int, nbytes: int) -> int:
        """Copy up to `nbytes` without touching them; return how many, 0 if impossible."""

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return bytes that were written, where the sink is seekable."""
