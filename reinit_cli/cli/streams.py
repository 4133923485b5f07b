"""Open the standard streams so that a full, closed or ASCII one ends no command in a traceback."""

from __future__ import annotations

import codecs
import io
import os
import select
import signal
import sys
from typing import TYPE_CHECKING, TextIO

from reinit_cli.errors import OutputUnwritableError
from reinit_cli.text import why

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def open_streams() -> None:
    """Replace standard output and standard error by streams that fail and escape as documented."""
    _occupy()
    sys.stdout = _text(_Output(1, "wb", closefd=False), sys.stdout)
    sys.stderr = _text(_Errors(2, "wb", closefd=False), sys.stderr)


def flush_output() -> None:
    """Write what is buffered of standard output, and hear what the system says of its close.

    A quota, or a server far away, may refuse only then what was written before.

    Raises:
        OutputUnwritableError: it could not be written.
        BrokenPipeError: its reader has gone.
    """
    from reinit_cli.storage.closing import check_close

    sys.stdout.flush()
    try:
        fd = sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):
        return  # it is not a stream of the system
    try:
        check_close(fd)
    except OSError as error:
        raise OutputUnwritableError("-", why(error), kind="stream") from error


def flush_streams(code: int) -> int:
    """Write what is still buffered, and return the exit code of the process."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        return code or discard()
    except OutputUnwritableError:
        pass  # where the code is 0, all of it was written before
    return code


def discard() -> int:
    """Discard further output, since its reader has gone; return the exit code for that."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 128 + signal.SIGPIPE


def _occupy() -> None:
    """Open the descriptors that the parent closed, so that no checkpoint becomes one of them.

    What is read from them or written to them fails as if they were still closed.
    """
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # the lowest that is free


class _Raw(io.FileIO):
    """A descriptor that waits while a non-blocking other end is full.

    Attributes:
        waits: whether it waits for its reader; a signal ends that, and what the reader does
            not take by then is dropped.
    """

    waits = True

    def write(self, data: ReadableBuffer, /) -> int:
        if not self.waits:
            if not select.select([], [self], [], 0)[1]:
                return memoryview(data).nbytes
            data = memoryview(data)[: select.PIPE_BUF]  # which one that is ready takes
        written = super().write(data)
        while written is None:
            select.select([], [self], [])
            written = super().write(data)
        return written


class _Output(_Raw):
    """Standard output: a full disk or a closed descriptor raises an error of our own."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputUnwritableError("-", why(error), kind="stream") from error


class _Errors(_Raw):
    """Standard error, which drops what cannot be written: there is no place to report that."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


_ASCII = "ascii_escaped"
"""ASCII by another name: click replaces a stream that says it is ASCII by one that is not."""


def _codec(name: str) -> codecs.CodecInfo | None:
    if name != _ASCII:
        return None
    known = codecs.lookup("ascii")
    return codecs.CodecInfo(*known, known.incrementalencoder, known.incrementaldecoder, name)


def _text(raw: _Raw, was: TextIO | None) -> TextIO:
    """Return a text stream that escapes what the encoding of another lacks."""
    encoding = getattr(was, "encoding", None) or "utf-8"
    if codecs.lookup(encoding).name == "ascii":
        codecs.register(_codec)
        encoding = _ASCII
    buffered = io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffered, encoding, "backslashreplace", "\n", line_buffering=raw.isatty()
    )
