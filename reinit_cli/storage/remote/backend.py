"""State what a store of remote files asks of the server behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

from reinit_cli.storage.reader import Fingerprint


class Look(NamedTuple):
    """What a server says of a path.

    Attributes:
        fingerprint: the file as it is; None of a folder.
        head: its first bytes, where they came along; b"" where they did not.
    """

    fingerprint: Fingerprint | None
    head: bytes = b""


class Answer(NamedTuple):
    """What came of a range.

    Attributes:
        data: the bytes, which may be fewer.
        fingerprint: the file as it was then; None where the server does not say.
    """

    data: bytes | bytearray
    fingerprint: Fingerprint | None = None


Reason = Literal["access", "missing", "folder", "whole", "changed", "again", ""]
"""Why a request failed: "again" may go away by itself, "" does not."""


class RequestFailedError(Exception):
    """A request that failed.

    Attributes:
        reason: why, as far as that decides what follows.
        problem: what is wrong, for people, without the URL.
    """

    def __init__(self, reason: Reason, problem: str = "") -> None:
        super().__init__(problem)
        self.reason: Reason = reason
        self.problem = problem


class Backend(Protocol):
    """A server, or a number of them, that has files by URL.

    Every method raises RequestFailedError.
    """

    @property
    def lists(self) -> bool:
        """Whether it can list a folder."""

    @property
    def tells(self) -> bool:
        """Whether each answer says of which version of a file it is."""

    @property
    def tries(self) -> int:
        """How often a request is made; 1 where it repeats requests itself."""

    def look(self, url: str, nbytes: int) -> Look:
        """Return what is at a URL.

        Args:
            url: the file or folder.
            nbytes: how many of its first bytes are welcome.
        """

    def fetch(self, url: str, start: int, end: int) -> Answer:
        """Return a range of a file."""

    def names_in(self, url: str) -> list[str]:
        """Return the names in a folder; none where it cannot be listed."""

    def files_of(self, url: str) -> Mapping[str, Fingerprint]:
        """Return the files below a folder, by their path in it."""
