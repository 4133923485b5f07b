"""Ask for a file at a URL, again where that helps, and check what comes."""

from __future__ import annotations

import posixpath

from reinit_cli.errors import SourceChangedError, SourceNotFoundError
from reinit_cli.lazy import dataclass
from reinit_cli.storage.reader import Fingerprint
from reinit_cli.storage.remote.attempts import PAUSES, attempted, refuse
from reinit_cli.storage.remote.backend import Backend, Look, RequestFailedError
from reinit_cli.storage.remote.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Place:
    """Where a remote file is.

    Attributes:
        backend: the server that has it.
        url: its URL, with all that the server asks for.
        called: what people call it, without what is secret in the URL.
        traffic: counts what is fetched.
    """

    backend: Backend
    url: str
    called: str
    traffic: Traffic

    def look(self, nbytes: int = 1) -> Look:
        """Return what is there, with some of its first bytes where these come along.

        Raises:
            SourceError: there is nothing, or the server does not say.
        """

        def ask() -> Look:
            found = self.backend.look(self.url, nbytes)
            self.traffic.add(len(found.head))
            return found

        return attempted(ask, self.called, self._pauses)

    def opened(self, nbytes: int) -> tuple[Fingerprint, bytes]:
        """Return the file as it is, and some of its first bytes where these come along.

        Raises:
            SourceError: there is none, or it cannot be read.
        """
        try:
            found = self.look(nbytes)
        except SourceNotFoundError as error:
            error.known = tuple(self.backend.names_in(posixpath.dirname(self.url)))
            raise
        if found.fingerprint is None:
            refuse(RequestFailedError("folder"), self.called)
        return found.fingerprint, found.head

    def fetched(self, start: int, end: int, expected: Fingerprint) -> bytes | bytearray:
        """Return a range of the file, all of it.

        Raises:
            SourceChangedError: it is another file than was expected.
            UnreadableSourceError: the server does not send the range.
        """

        def ask() -> bytes | bytearray:
            data, fingerprint = self.backend.fetch(self.url, start, end)
            self.traffic.add(len(data))
            if fingerprint not in (None, expected):
                raise RequestFailedError("changed")
            if len(data) > end - start:
                raise RequestFailedError("whole", "the server sends whole files only")
            if len(data) < end - start:
                problem = f"{len(data):,} of {end - start:,} bytes came"
                raise RequestFailedError("again", problem)
            return data

        try:
            return attempted(ask, self.called, self._pauses_of_ranges)
        except SourceNotFoundError as error:
            raise SourceChangedError(self.called) from error

    def check_unchanged(self, expected: Fingerprint) -> None:
        """Compare the file with how it was.

        Raises:
            SourceChangedError: they differ, or it is gone.
            UnreadableSourceError: the server does not say how it is.
        """
        try:
            found = self.look().fingerprint
        except SourceNotFoundError as error:
            raise SourceChangedError(self.called) from error
        if found != expected:
            raise SourceChangedError(self.called)

    @property
    def _pauses(self) -> tuple[float, ...]:
        return PAUSES[: self.backend.tries - 1]

    @property
    def _pauses_of_ranges(self) -> tuple[float, ...]:
        return PAUSES
