"""Bound what reading one file may cost: the work, the memory, and the texts that are made."""

from __future__ import annotations

from typing import Any, TypeAlias

from reinit_cli.errors import MalformedFileError

MAX_WORK = 2_800_000
"""In opcodes of the pickle machine; 0.3 microseconds each, and about a second together."""

MAX_NBYTES = 180 * 10**6
"""The memory that records, tensors and texts may take together, as their costs estimate it."""

MAX_RECORD_NBYTES = 120 * 2**20
"""The memory that the records of one pickle may take together, as their costs estimate it."""

MAX_DEPTH = 100
"""Of what a pickle nests."""

TOO_MUCH = "its pickle takes more time or memory than any checkpoint needs"

Path: TypeAlias = "tuple[Path, Any] | None"
"""The way to a part: the way to what holds it, and its key there. Texts are made of few."""


class Budget:
    """What is left of the work and the memory that reading a file may take.

    A pickle of kilobytes can hold one part in two places of one part in two places, 60 times.
    Whoever walks over records spends from here first, so that what is shared costs no more
    than what is not.
    """

    __slots__ = ("nbytes", "path", "record_nbytes", "work")

    def __init__(
        self,
        path: str,
        work: int = MAX_WORK,
        nbytes: int = MAX_NBYTES,
        record_nbytes: int = MAX_RECORD_NBYTES,
    ) -> None:
        self.path = path
        self.work = work
        self.nbytes = nbytes
        self.record_nbytes = record_nbytes

    def spend(self, work: int, nbytes: int = 0) -> None:
        """Take from what is left.

        Raises:
            MalformedFileError: that is not enough.
        """
        self.work -= work
        self.nbytes -= nbytes
        if self.work < 0 or self.nbytes < 0:
            raise MalformedFileError(self.path, TOO_MUCH)

    def made(self, text: str) -> str:
        """Return a text that was made, paid for."""
        self.spend(len(text) >> 8, len(text) if text.isascii() else 4 * len(text))
        return text

    def text_of(self, key: Any) -> str:
        """Return the key of a dictionary as it is shown: one that is nested by its type alone."""
        if type(key) is str:
            return key
        if type(key) is int:
            self.spend(key.bit_length() >> 8)  # digits take time with their square
            return self.made(str(key))
        if isinstance(key, tuple) and has_text(key):
            return self.made(f"({', '.join(map(repr, key))}{',' * (len(key) == 1)})")
        return self.made(str(key)) if _is_plain(key) else type(key).__name__

    def path_of(self, path: Path) -> str:
        """Return a path, its keys joined by dots."""
        keys: list[str] = []
        while path is not None:
            path, key = path
            keys.append(key if type(key) is str else self.text_of(key))
        while keys and not keys[-1]:
            keys.pop()
        self.spend(1 + sum(map(len, keys)) // 256)
        return self.made(".".join(keys[::-1]))


def has_text(key: Any) -> bool:
    """Whether a key has a text of its own, by which it can be named."""
    if type(key) is str or type(key) is int:
        return True
    if isinstance(key, tuple):
        return len(key) <= _MOST_PARTS and all(map(_is_plain, key))
    return _is_plain(key)


_MOST_PARTS = 100

_MOST_CHARS = 1_000


def _is_plain(key: Any) -> bool:
    """Whether a key is a short text, a number of the usual size, or another constant."""
    if isinstance(key, (str, bytes)):
        return len(key) <= _MOST_CHARS
    if isinstance(key, int):
        return key.bit_length() <= _MOST_CHARS
    return key is None or isinstance(key, float)
