"""Read local files.

Files are opened read-only and read with `pread`, never mapped: a file that is truncated
under a map kills the process. A folder may have more files than a process may open, so
files share a bounded number of descriptors; one that is opened again is compared with how
it was.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from reinit_cli.errors import SourceChangedError, SourceNotFoundError, UnreadableSourceError
from reinit_cli.storage.closing import close_quietly
from reinit_cli.storage.listing import list_folder
from reinit_cli.storage.location import DASH
from reinit_cli.storage.reader import Fingerprint, Kind, Listing
from reinit_cli.storage.segments import Range
from reinit_cli.storage.system import pread_all, pread_into, settled
from reinit_cli.text import why

MAX_OPEN_FILES = 48
"""How many files of a folder are open together: with all others of a run, a quarter of the lowest
limit in use, 256."""


_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
"""How a URL starts."""


class RegularFile:
    """A file whose bytes are read from any place, through a descriptor that is lent."""

    path: str
    is_distant = False

    def __enter__(self) -> Self:
        """Hand it out."""
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

    @property
    def fingerprint(self) -> Fingerprint:
        """The file as it was when it was first opened."""
        raise NotImplementedError

    def descriptor(self) -> AbstractContextManager[int]:
        """Lend its descriptor."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what it holds open."""
        raise NotImplementedError

    def head(self, nbytes: int) -> bytes:
        """Return the first bytes, fewer where it has no more."""
        return self.read(0, min(nbytes, self.nbytes))

    def will_read(self, ranges: Iterable[Range]) -> None:
        """Learn what is to be copied, which the system reads ahead itself."""

    def gather(self, ranges: Iterable[Range]) -> None:
        """Have ranges at hand, as those of a file on this machine are."""

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return exactly those bytes.

        Raises:
            SourceChangedError: the file has become shorter.
            UnreadableSourceError: the system fails to read them.
        """
        with self.descriptor() as fd:
            try:
                data = pread_all(fd, offset, nbytes)
            except OSError as error:
                raise UnreadableSourceError(self.path, why(error)) from error
        if len(data) < nbytes:
            raise SourceChangedError(self.path)
        return data

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer with the bytes from an offset on; raises as `read`."""
        with self.descriptor() as fd:
            try:
                count = pread_into(fd, offset, buffer)
            except OSError as error:
                raise UnreadableSourceError(self.path, why(error)) from error
        if count < len(buffer):
            raise SourceChangedError(self.path)


class InputFile(RegularFile):
    """A file with a name."""

    is_seekable = True

    def __init__(
        self,
        path: str,
        expected: Fingerprint | None = None,
        descriptors: Descriptors | None = None,
        called: str | None = None,
    ) -> None:
        """Open the file, unless it is known already.

        Args:
            path: the file.
            expected: the file as it was when it was located; then it is opened, and
                compared, when its first byte is read.
            descriptors: shared with other files; None for one of its own.
            called: what people call it, where that is not its path.

        Raises:
            SourceNotFoundError: there is no such file.
            UnreadableSourceError: it is not a regular file or may not be read.
        """
        self.path = called or path
        self._place = path
        self._fingerprint = expected
        self._descriptors = descriptors or Descriptors(1)
        if expected is None:
            with self.descriptor():
                pass  # what cannot be opened is refused here

    @property
    def fingerprint(self) -> Fingerprint:
        """The file as it was when it was first opened."""
        assert self._fingerprint is not None
        return self._fingerprint

    def descriptor(self) -> AbstractContextManager[int]:
        """Lend its descriptor; open the file where it is closed."""
        return self._descriptors.lend(self)

    def close(self) -> None:
        """Close it; to read on opens it again."""
        self._descriptors.close(self)

    def make_seekable(self) -> None:
        """Let its bytes be read in any order, as those of a file always can be."""

    def ends_at(self, nbytes: int) -> None:
        """Learn where it has to end, which a file knows itself."""

    def check_unchanged(self, expected: Fingerprint | None = None) -> None:
        """Compare what was opened, and what its path now names, with how it was.

        Args:
            expected: how it was; None means when it was first opened.

        Raises:
            SourceChangedError: they differ.
            UnreadableSourceError: the system does not say how it is.
        """
        try:
            now = Fingerprint.of(os.stat(self._place))
        except FileNotFoundError as error:
            raise SourceChangedError(self.path) from error
        except OSError as error:
            raise UnreadableSourceError(self.path, why(error)) from error
        if {now, self.fingerprint} != {expected or self.fingerprint}:
            raise SourceChangedError(self.path)

    def open_again(self) -> int:
        """Return a new descriptor of the file, which is as it was.

        Raises:
            SourceNotFoundError: there is no such file.
            UnreadableSourceError: it is not a regular file or may not be read.
            SourceChangedError: it is not as it was.
        """
        try:
            fd = _open_regular(self._place)
        except SourceNotFoundError as error:
            if self._fingerprint is None:
                raise
            raise SourceChangedError(self.path) from error
        try:
            found = Fingerprint.of(settled(fd) if self._fingerprint is None else os.fstat(fd))
        except OSError as error:
            close_quietly(fd)
            raise UnreadableSourceError(self.path, why(error)) from error
        if self._fingerprint not in (None, found):
            close_quietly(fd)
            raise SourceChangedError(self.path)
        self._fingerprint = found
        return fd


def _open_regular(path: str) -> int:
    try:
        # A pipe with no writer would block an open for ever.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise _not_found(path) from error
    except (OSError, ValueError) as error:
        raise UnreadableSourceError(path, why(error)) from error
    try:
        mode = os.fstat(fd).st_mode
    except OSError as error:
        close_quietly(fd)
        raise UnreadableSourceError(path, why(error)) from error
    if not stat.S_ISREG(mode):
        close_quietly(fd)
        kind = "it is a folder" if stat.S_ISDIR(mode) else "it is not a regular file"
        raise UnreadableSourceError(path, kind)
    return fd


def _not_found(path: str) -> SourceNotFoundError:
    if os.path.islink(path):
        return SourceNotFoundError(path, kind="link", of=os.readlink(path))
    if _ELSEWHERE.match(path):
        is_here = path.lower().startswith("file:")
        return SourceNotFoundError(path, kind="url" if is_here else "elsewhere")
    return SourceNotFoundError(path, known=names_next_to(path))


class _Open:
    """A descriptor that is lent, and how many threads read from it.

    A generator as context manager would take as long as a small read itself.
    """

    __slots__ = ("_lock", "fd", "readers")

    def __init__(self, fd: int, lock: threading.Lock) -> None:
        self.fd = fd
        self.readers = 0
        self._lock = lock

    def __enter__(self) -> int:
        """Hand the descriptor out."""
        return self.fd

    def __exit__(self, *failure: object) -> None:
        """Take it back."""
        with self._lock:
            self.readers -= 1


class Descriptors:
    """Keep a bounded number of files open, those that were read last."""

    def __init__(self, limit: int = MAX_OPEN_FILES) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._open: OrderedDict[InputFile, _Open] = OrderedDict()

    def __reduce__(self) -> tuple[type[Descriptors], tuple[int]]:
        """Pickle it without open files: sources of outcomes go from process to process."""
        return Descriptors, (self._limit,)

    def lend(self, file: InputFile) -> AbstractContextManager[int]:
        """Lend the descriptor of a file, which stays open until it is given back."""
        with self._lock:
            lent = self._open.get(file)
            if lent is None:
                self._close_idle(self._limit - 1)
                lent = self._open[file] = _Open(file.open_again(), self._lock)
            else:
                self._open.move_to_end(file)
            lent.readers += 1
        return lent

    def close(self, file: InputFile) -> None:
        """Close a file where it is open."""
        with self._lock:
            if file in self._open:
                close_quietly(self._open.pop(file).fd)

    def _close_idle(self, limit: int) -> None:
        """Close files that nobody reads from until there are few enough."""
        idle = [file for file, each in self._open.items() if not each.readers]
        for file in idle[: max(0, len(self._open) - limit)]:
            close_quietly(self._open.pop(file).fd)


class LocalStore:
    """The local files, of which a bounded number is open together."""

    lists = True
    fetched = None

    def __init__(self, limit: int = MAX_OPEN_FILES) -> None:
        self._descriptors = Descriptors(limit)

    def kind_of(self, path: str) -> Kind | None:
        """Return what a path leads to; see `Store`."""
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError):
            return "other" if os.path.lexists(path) else None
        if stat.S_ISREG(mode):
            return "file"
        return "folder" if stat.S_ISDIR(mode) else "other"

    def open(self, path: str, expected: Fingerprint | None = None) -> InputFile:
        """Return a reader of a file; see `Store`."""
        return InputFile(path, expected, self._descriptors)

    def list(self, folder: str, called: str | None = None) -> Listing:
        """List the files of a folder; see `Store`."""
        return list_folder(folder, called)


def first_bytes(path: str, limit: int) -> bytes:
    """Return how a file of any kind starts, or standard input for "-".

    Args:
        path: the file.
        limit: the most bytes that are read.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    with open(0 if path == DASH else path, "rb", closefd=path != DASH) as file:
        return file.read(limit)


def names_next_to(path: str) -> list[str]:
    """Return the names in the folder of a path; none where it cannot be listed."""
    try:
        return os.listdir(os.path.dirname(path) or ".")
    except (OSError, ValueError):
        return []
