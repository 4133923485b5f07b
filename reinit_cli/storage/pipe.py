"""Read standard input and write standard output, which know one direction only."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import BinaryIO, NoReturn, Self

from reinit_cli.errors import (
    OutputUnwritableError,
    ReinitError,
    SourceChangedError,
    UnreadableSourceError,
)
from reinit_cli.storage.closing import close_quietly
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.elsewhere import file_elsewhere
from reinit_cli.storage.in_order import InOrderWriter, SpooledWriter
from reinit_cli.storage.local import RegularFile
from reinit_cli.storage.pipe_end import PipeEnd
from reinit_cli.storage.reader import Fingerprint
from reinit_cli.storage.scratch import open_scratch, scratch_place
from reinit_cli.storage.system import pwrite_all
from reinit_cli.storage.whole_file import (
    appearing,
    discarded,
    note_left,
    sync_folders_of,
)
from reinit_cli.storage.writer import Whole, Writer, nothing
from reinit_cli.text import why
from reinit_cli.threads import signals_held, wait_for

_SPOOLED_NBYTES = 2**20
"""The most that is taken out of a pipe in one call."""


class StandardInput(RegularFile):
    """Standard input: a file that was redirected, or a pipe, which can be read only once.

    Of a pipe everything is kept until its end is known; from then on it is read
    from there to its end, unless it is made seekable by a copy in TMPDIR.
    """

    def __init__(self) -> None:
        """Take it over.

        Raises:
            UnreadableSourceError: it is closed, a terminal or a folder.
        """
        self.path = "-"
        try:
            self._fd = os.dup(sys.__stdin__.fileno() if sys.__stdin__ else 0)
        except OSError as error:
            raise UnreadableSourceError(self.path, why(error)) from error
        status = self._status()
        if os.isatty(self._fd) or stat.S_ISDIR(status.st_mode):
            close_quietly(self._fd)
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a terminal"
            raise UnreadableSourceError(self.path, f"standard input is {kind}")
        self._fingerprint = Fingerprint.of(status)
        self.is_seekable = stat.S_ISREG(status.st_mode) and _is_at_start(self._fd)
        self._end: int | None = None
        self._kept = bytearray()  # the first bytes of a pipe
        self._passed = 0  # how many have come out of it

    @property
    def fingerprint(self) -> Fingerprint:
        """The file as it was when it was taken over."""
        return self._fingerprint

    def descriptor(self) -> AbstractContextManager[int]:
        """Lend its descriptor."""
        return nullcontext(self._fd)

    def close(self) -> None:
        """Close it."""
        close_quietly(self._fd)

    def _status(self) -> os.stat_result:
        try:
            return os.fstat(self._fd)
        except OSError as error:
            raise UnreadableSourceError(self.path, why(error)) from error

    @property
    def nbytes(self) -> int:
        """Its size; of a pipe, as far as is known."""
        if self.is_seekable:
            return self.fingerprint.nbytes
        return sys.maxsize if self._end is None else self._end

    def head(self, nbytes: int) -> bytes:
        """Return the first bytes, fewer where it has no more."""
        if self.is_seekable:
            return super().head(nbytes)
        while len(self._kept) < nbytes and self._keep(nbytes - len(self._kept)):
            pass
        return bytes(self._kept[:nbytes])

    def ends_at(self, nbytes: int) -> None:
        """Learn where it has to end: nothing is kept any more."""
        self._end = nbytes

    def make_seekable(self) -> None:
        """Copy a pipe that is still at its beginning into TMPDIR.

        Raises:
            UnreadableSourceError: there is no room, or it cannot be read.
        """
        if self.is_seekable:
            return
        assert self._passed == len(self._kept)
        try:
            copy = open_scratch()
            try:
                self._copy_rest(copy)
                os.dup2(copy, self._fd, inheritable=False)
            finally:
                close_quietly(copy)
        except UnreadableSourceError:
            raise
        except OSError as error:
            cause = error.problem if isinstance(error, OutputUnwritableError) else why(error)
            problem = f"it cannot be copied into {scratch_place()}: {cause}"
            raise UnreadableSourceError(self.path, problem, kind="scratch") from error
        self._fingerprint = Fingerprint.of(self._status())
        self.is_seekable = True

    def _copy_rest(self, copy: int) -> None:
        pwrite_all(copy, 0, bytes(self._kept))
        buffer = memoryview(bytearray(_SPOOLED_NBYTES))
        offset = len(self._kept)
        while count := self._readv(buffer):
            pwrite_all(copy, offset, buffer[:count])
            offset += count

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return exactly those bytes; of a pipe, none that have gone by.

        Raises:
            UnreadableSourceError: it ends before them, or the system fails to read them.
        """
        if self.is_seekable:
            return super().read(offset, nbytes)
        if self._end is None:
            found = self.head(offset + nbytes)[offset:]
            if len(found) < nbytes:
                self._refuse_end(offset + nbytes)
            return found
        data = bytearray(nbytes)
        self.read_into(memoryview(data), offset)
        return bytes(data)

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer with the bytes from an offset on; raises as `read`."""
        if self.is_seekable:
            super().read_into(buffer, offset)
            return
        kept = self._kept[offset : offset + len(buffer)]
        buffer[: len(kept)] = kept
        buffer, offset = buffer[len(kept) :], offset + len(kept)
        if buffer:
            self._skip_to(offset)
        while buffer:
            count = self._readv(buffer)
            if not count:
                self._refuse_end(offset + len(buffer))
            buffer, offset = buffer[count:], offset + count

    def check_unchanged(self, expected: Fingerprint | None = None) -> None:
        """Compare a file with how it was; check that a pipe ends where it has to.

        Raises:
            SourceChangedError, UnreadableSourceError: it is not so.
        """
        if self.is_seekable:
            if Fingerprint.of(self._status()) != (expected or self.fingerprint):
                raise SourceChangedError(self.path)
            return
        self._skip_to(self.nbytes)
        if self._readv(memoryview(bytearray(1))):
            raise UnreadableSourceError(self.path, f"it goes on after {self.nbytes:,} bytes")

    def _skip_to(self, offset: int) -> None:
        assert offset >= self._passed, "a pipe is read in order"
        buffer = memoryview(bytearray(min(offset - self._passed, _SPOOLED_NBYTES)))
        while self._passed < offset:
            if not self._readv(buffer[: offset - self._passed]):
                self._refuse_end(offset)

    def _keep(self, nbytes: int) -> int:
        buffer = memoryview(bytearray(min(nbytes, _SPOOLED_NBYTES)))
        count = self._readv(buffer)
        self._kept += buffer[:count]
        return count

    def _readv(self, buffer: memoryview) -> int:
        try:
            wait_for(self._fd, select.POLLIN)
            count = os.readv(self._fd, [buffer])
        except OSError as error:
            raise UnreadableSourceError(self.path, why(error)) from error
        self._passed += count
        return count

    def _refuse_end(self, wanted: int) -> NoReturn:
        problem = f"it ends after {self._passed:,} bytes, and {wanted:,} were needed"
        raise UnreadableSourceError(self.path, problem)


def _is_at_start(fd: int) -> bool:
    with suppress(OSError):
        return os.lseek(fd, 0, os.SEEK_CUR) == 0
    return False


def standard_output() -> BinaryIO:
    """Return standard output as a stream of bytes.

    Raises:
        OutputUnwritableError: it takes text alone, as in a notebook.
    """
    stream: BinaryIO | None = getattr(sys.stdout, "buffer", None)
    if stream is None:
        raise OutputUnwritableError("-", "it takes no bytes", kind="stream")
    return stream


class PipeOutput:
    """A stream that one file is written to; see `Output`."""

    def __init__(self, stream: BinaryIO, *, waits: bool) -> None:
        """Write to a stream.

        Args:
            stream: a pipe, or standard output.
            waits: whether the bytes are written in any order and sent off at the end.
        """
        self._end = PipeEnd(stream)
        self._waits = waits
        self._sent: list[InOrderWriter | SpooledWriter] = []
        self._extras: list[Whole] = []
        self.written: list[str] = []
        self._is_closed = False

    def __enter__(self) -> Self:
        """Hand it out."""
        return self

    def __exit__(self, *failure: object) -> None:
        """Forget, once, what was not committed; what a pipe was given is gone."""
        with signals_held():
            if self._is_closed:
                return
            self._is_closed = True
            left = discarded(self._extras)
            for each in self._sent:
                each.discard()
            self._end.close()
        if isinstance(failure[1], SourceChangedError) and self._end.has_sent:
            failure[1].kind = "sent"
        note_left(left, failure[1], self.written)

    def file(self, name: str, nbytes: int) -> Writer:
        """Return the writer of the stream."""
        del name, nbytes
        writer = SpooledWriter(self._end) if self._waits else InOrderWriter(self._end)
        self._sent.append(writer)
        return writer

    def file_at(self, destination: Destination, nbytes: int) -> Writer:
        """Return the writer of a file elsewhere."""
        with signals_held():
            self._extras.append(file_elsewhere(destination, nbytes))
        return self._extras[-1]

    def commit(self, check: Callable[[], object] = nothing) -> None:
        """Send off what waits, and then name the files elsewhere."""
        for file in self._extras:
            file.stage()
        check()
        for each in self._sent:
            each.send()
        self._end.finish()
        try:
            with appearing(self._extras, is_all=True):
                pass
        except ReinitError as error:
            error.notes += ("standard output has everything",)
            raise
        self.written = [str(file.destination.path) for file in self._extras]
        synced = [str(file.destination.path) for file in self._extras if file.syncs]
        sync_folders_of(synced, self.written)
