"""Write to the end of a pipe, and stop where nobody reads at the other end."""

from __future__ import annotations

import os
import select
import stat
from contextlib import suppress
from typing import BinaryIO

from reinit_cli.errors import OutputUnwritableError
from reinit_cli.storage.closing import check_close, close_quietly
from reinit_cli.text import why
from reinit_cli.threads import wait_for


class PipeEnd:
    """Where bytes leave the process in order.

    A write to a pipe would wait in the system for its reader, and no signal reaches the
    thread that waits there. So it writes what the pipe has room for, and waits where its
    work can be stopped.

    Attributes:
        has_sent: whether bytes went out, which nobody takes back.
    """

    def __init__(self, stream: BinaryIO) -> None:
        """Take what is written to a stream; one without a descriptor is written as it is."""
        self._stream = stream
        self._fd: int | None = None
        self._owned: int | None = None
        self._nbytes = 0  # the most that one call writes; 0 means everything
        self.has_sent = False
        with suppress(OSError, AttributeError):
            self._fd = stream.fileno()
        if self._fd is not None:
            self._open(self._fd)

    def _open(self, fd: int) -> None:
        try:
            kind = os.fstat(fd).st_mode
        except OSError:
            return  # the first write says what is wrong with it
        if not stat.S_ISFIFO(kind) and not stat.S_ISSOCK(kind):
            return
        self._nbytes = select.PIPE_BUF  # which one that is ready takes without a wait
        # Opened again, since whoever else has this pipe expects to wait in the system.
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
            self._owned = os.open(f"/proc/self/fd/{fd}", flags)
            self._nbytes = 0

    def write(self, data: bytes | memoryview) -> None:
        """Write all of `data`.

        Raises:
            BrokenPipeError: the reader has gone.
            OutputUnwritableError: the disk is full, or the stream is closed.
            StoppedError: the work of this thread was stopped while it waited.
        """
        self.has_sent |= len(data) > 0
        try:
            self._write_all(memoryview(data))
        except (BrokenPipeError, OutputUnwritableError):
            raise
        except OSError as error:
            raise OutputUnwritableError("-", why(error), kind="stream") from error

    def _write_all(self, view: memoryview) -> None:
        if self._fd is None:
            while view:
                view = view[self._stream.write(view) :]
            self._stream.flush()
            return
        self._stream.flush()
        while view:
            view = view[self._written(view) :]

    def _written(self, view: memoryview) -> int:
        """Write what there is room for; return how many bytes."""
        fd = self._owned if self._owned is not None else self._fd
        assert fd is not None
        if self._nbytes or self._owned is not None:
            wait_for(fd, select.POLLOUT)
        try:
            return os.write(fd, view[: self._nbytes] if self._nbytes else view)
        except BlockingIOError:
            return 0

    def finish(self) -> None:
        """Hear what the system says when the stream is closed, as a quota or a server does.

        Raises:
            OutputUnwritableError: what was written is not all there.
        """
        if self._fd is None:
            return
        try:
            check_close(self._fd)
        except OSError as error:
            raise OutputUnwritableError("-", why(error), kind="stream") from error

    def close(self) -> None:
        """Leave the stream to who opened it."""
        if self._owned is not None:
            close_quietly(self._owned)
            self._owned = None
