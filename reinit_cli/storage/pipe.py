"""Read standard input and write standard output, which know one direction only."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from types import TracebackType
from typing import BinaryIO, NoReturn, Self

from reinit_cli.errors import SourceChangedError, UnreadableSourceError
from reinit_cli.storage.local import Fingerprint, InputFile
from reinit_cli.storage.system import naming_output, pwrite_all
from reinit_cli.text import why

_SPOOLED_NBYTES = 2**20
"""What is taken out of a pipe at once."""


class StandardInput(InputFile):
    """Standard input: a file that was redirected, or a pipe, which can be read only once.

    Of a pipe everything is kept until it is told where it ends; from then on it is read
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
        status = os.fstat(self._fd)
        if os.isatty(self._fd) or stat.S_ISDIR(status.st_mode):
            self.close()
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a terminal"
            raise UnreadableSourceError(self.path, f"standard input is {kind}")
        self.fingerprint = Fingerprint.of(status)
        self.is_seekable = stat.S_ISREG(status.st_mode) and not os.lseek(self._fd, 0, os.SEEK_CUR)
        self._end: int | None = None
        self._kept = bytearray()  # the first bytes of a pipe
        self._passed = 0  # how many have come out of it

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
        """Hear where it has to end: nothing is kept any more."""
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
            with tempfile.TemporaryFile() as copy, open(self._fd, "rb", closefd=False) as pipe:
                copy.write(self._kept)
                shutil.copyfileobj(pipe, copy, _SPOOLED_NBYTES)
                copy.flush()
                os.dup2(copy.fileno(), self._fd, inheritable=False)
        except OSError as error:
            problem = f"it cannot be copied into {tempfile.gettempdir()}: {why(error)}"
            raise UnreadableSourceError(self.path, problem) from error
        self.fingerprint = Fingerprint.of(os.fstat(self._fd))
        self.is_seekable = True

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
        view = memoryview(data)
        while view:
            count = self.read_into(view, offset)
            view = view[count:]
            offset += count
        return bytes(data)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill a buffer as far as one call does it; return how many bytes came.

        Raises:
            UnreadableSourceError: it ends before them, or the system fails to read them.
        """
        if self.is_seekable:
            return super().read_into(buffer, offset)
        if offset < len(self._kept):
            part = self._kept[offset : offset + len(buffer)]
            buffer[: len(part)] = part
            return len(part)
        self._skip_to(offset)
        count = self._readv(buffer)
        if not count:
            self._refuse_end(offset + len(buffer))
        return count

    def check_unchanged(self, expected: Fingerprint | None = None) -> None:
        """Compare a file with how it was; check that a pipe ends where it has to.

        Raises:
            SourceChangedError, UnreadableSourceError: it is not so.
        """
        if self.is_seekable:
            if Fingerprint.of(os.fstat(self._fd)) != (expected or self.fingerprint):
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
            count = os.readv(self._fd, [buffer])
        except OSError as error:
            raise UnreadableSourceError(self.path, why(error)) from error
        self._passed += count
        return count

    def _refuse_end(self, wanted: int) -> NoReturn:
        problem = f"it ends after {self._passed:,} bytes, and {wanted:,} were needed"
        raise UnreadableSourceError(self.path, problem)


class StreamSink:
    """Standard output or a pipe: bytes go out in order and cannot be taken back."""

    is_seekable = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        """Hand it out."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Send off what waits in it."""
        if kind is None:
            self._stream.flush()

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write them; the offset is where the stream is."""
        del offset
        self._stream.write(data)

    def copy_from(self, file: InputFile, start: int, offset: int, nbytes: int) -> int:
        """Never: a stream is written by `write_at`."""
        del file, start, offset, nbytes
        return 0

    def read(self, offset: int, nbytes: int) -> bytes:
        """Never: what went out is gone."""
        raise NotImplementedError


class SpooledStream:
    """A stream whose bytes are written in any order: into a file in TMPDIR, and out at the end.

    As a context manager it sends them off unless something failed.
    """

    is_seekable = True

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        with naming_output(tempfile.gettempdir()):
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> Self:
        """Hand it out."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Send its bytes off where all went well."""
        with self._file as file:
            if kind is None:
                file.seek(0)
                shutil.copyfileobj(file, self._stream)
                self._stream.flush()

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of it there.

        Raises:
            OutputUnwritableError: the disk is full or fails.
        """
        with naming_output(tempfile.gettempdir()):
            pwrite_all(self._file.fileno(), offset, data)

    def copy_from(self, file: InputFile, start: int, offset: int, nbytes: int) -> int:
        """Never: it is short work, and seldom."""
        del file, start, offset, nbytes
        return 0

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return bytes that were written."""
        return os.pread(self._file.fileno(), nbytes, offset)
