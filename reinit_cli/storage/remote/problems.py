"""Tell from what a file system raises what is wrong, and whether to ask again."""

from __future__ import annotations

import errno
import os

from reinit_cli.storage.remote.backend import Reason, RequestFailedError
from reinit_cli.text import why

_AGAIN = {
    errno.EBUSY, errno.EAGAIN, errno.EIO, errno.EPIPE, errno.ECONNABORTED, errno.ECONNREFUSED,
    errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN,
}  # fmt: skip


def failure_of(error: Exception) -> RequestFailedError:
    """Return what an exception of a file system means."""
    if isinstance(error, FileNotFoundError):
        return RequestFailedError("missing")
    if isinstance(error, PermissionError):
        return RequestFailedError("access", _first_line(error))
    if isinstance(error, IsADirectoryError):
        return RequestFailedError("folder")
    return RequestFailedError(_reason(error), _first_line(error))


def _reason(error: Exception) -> Reason:
    if isinstance(error, (TimeoutError, ConnectionError)):
        return "again"
    return "again" if isinstance(error, OSError) and error.errno in _AGAIN else ""


def _first_line(error: Exception) -> str:
    """Return what an exception says, in one line."""
    if isinstance(error, OSError) and error.errno and error.strerror == os.strerror(error.errno):
        return why(error)
    text = str(error.strerror if isinstance(error, OSError) and error.strerror else error)
    return text.strip().partition("\n")[0] or type(error).__name__
