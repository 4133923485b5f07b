"""Read a remote file by ranges."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

from reinit_cli.errors import SourceChangedError
from reinit_cli.storage.reader import Fingerprint
from reinit_cli.storage.remote.ahead import GAP_NBYTES, Ahead, joined
from reinit_cli.storage.remote.place import Place
from reinit_cli.storage.remote.windows import FIRST_NBYTES, Windows

GATHERED_NBYTES = 24 * 2**20
"""The most that is fetched together and kept; larger ranges are read as they come."""

_TOGETHER = 32
"""How many short ranges are asked for at a time."""


class RemoteFile:
    """A file at a URL."""

    is_seekable = True
    is_distant = True

    def __init__(
        self, place: Place, expected: Fingerprint | None = None, head: bytes = b""
    ) -> None:
        """Open it, unless it is known already.

        Args:
            place: where it is.
            expected: the file as it was when it was located.
            head: its first bytes, where they are known.

        Raises:
            SourceError: there is no such file, or it cannot be read.
        """
        self.path = place.called
        self._place = place
        self._is_compared = expected is None or bool(head)
        if expected is None:
            expected, head = place.opened(FIRST_NBYTES)
        self._fingerprint = expected
        self._windows = Windows(self._fetched, expected.nbytes, head)
        self._ahead: Ahead | None = None

    @property
    def nbytes(self) -> int:
        """Its size."""
        return self._fingerprint.nbytes

    @property
    def fingerprint(self) -> Fingerprint:
        """The file as it was when it was first opened."""
        return self._fingerprint

    def head(self, nbytes: int) -> bytes:
        """Return the first bytes, fewer where it has no more."""
        return self.read(0, min(nbytes, self.nbytes))

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return exactly those bytes.

        Raises:
            SourceChangedError: the file has become shorter, or is another.
            UnreadableSourceError: the server does not send them.
        """
        if offset + nbytes > self.nbytes:
            raise SourceChangedError(self.path)
        return self._windows.read(offset, nbytes)

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer with the bytes from an offset on; raises as `read`."""
        while buffer:
            count = self._ahead.read_into(buffer, offset) if self._ahead is not None else 0
            if not count:
                buffer[:] = self.read(offset, len(buffer))
                return
            buffer, offset = buffer[count:], offset + count

    def will_read(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Learn, in order, what is to be copied out of it; see `Ahead`."""
        if self._ahead is not None:
            self._ahead.close()
        self._ahead = Ahead(self._fetched, ranges)

    def gather(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Have some short ranges at hand, which are fetched together."""
        wanted = sorted(ranges)
        for gap in (GAP_NBYTES, 0):
            asked = [each for each in joined(wanted, gap) if not self._windows.has(*each)]
            if sum(end - start for start, end in asked) <= GATHERED_NBYTES:
                break
        else:
            return
        with ThreadPoolExecutor(min(_TOGETHER, len(asked) or 1), "fetch") as pool:
            fetched = pool.map(lambda each: self._fetched(*each), asked)
            for (start, _), data in zip(asked, fetched, strict=True):
                self._windows.keep(start, data)

    def make_seekable(self) -> None:
        """Let its bytes be read in any order, as they can be."""

    def ends_at(self, nbytes: int) -> None:
        """Learn where it has to end, which it knows itself."""

    def check_unchanged(self, expected: Fingerprint | None = None) -> None:
        """Compare the file with how it was.

        Raises:
            SourceChangedError: they differ.
            UnreadableSourceError: the server does not say how it is.
        """
        self._place.check_unchanged(expected or self._fingerprint)

    def descriptor(self) -> AbstractContextManager[int | None]:
        """Lend none: no file of this machine has these bytes."""
        return nullcontext()

    def close(self) -> None:
        """Forget what was fetched; to read on fetches it again."""
        self._windows.clear()
        if self._ahead is not None:
            self._ahead.close()
        self._ahead = None
        self._is_compared = False

    def _fetched(self, start: int, end: int) -> bytes | bytearray:
        if not self._is_compared and not self._place.backend.tells:
            self.check_unchanged()
        self._is_compared = True
        return self._place.fetched(start, end, self._fingerprint)
