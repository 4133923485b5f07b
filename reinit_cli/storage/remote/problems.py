"""Tell from what a file system raises what is wrong, and whether to ask again."""

from __future__ import annotations

import errno
import os
import re

from reinit_cli.storage.remote.backend import Reason, RequestFailedError
from reinit_cli.text import why

_AGAIN = {
    errno.EBUSY, errno.EAGAIN, errno.EIO, errno.EPIPE, errno.ECONNABORTED, errno.ECONNREFUSED,
    errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN,
}  # fmt: skip

_WITHOUT_CREDENTIALS = ("NoCredentialsError", "DefaultCredentialsError")
"""What botocore and google.auth raise before they ask."""

_UNAVAILABLE = re.compile(
    "service unavailable|internal (server )?error|bad gateway|gateway timeout|slow ?down"
    "|too many requests",
    re.IGNORECASE,
)
"""What servers say that are busy, of which some file systems keep no more than the text."""


_BUCKET_PATTERN = re.compile(r": Bucket name must match the regex .*")
"""What botocore says of a bucket's name: 300 characters of regular expressions."""


def failure_of(error: Exception) -> RequestFailedError:
    """Return what an exception of a file system means."""
    if isinstance(error, FileNotFoundError):
        return RequestFailedError("missing")
    if isinstance(error, PermissionError) or type(error).__name__ in _WITHOUT_CREDENTIALS:
        return RequestFailedError("access", _first_line(error))
    if isinstance(error, IsADirectoryError):
        return RequestFailedError("folder")
    return RequestFailedError(_reason(error), _first_line(error))


def _reason(error: Exception) -> Reason:
    if isinstance(error, (TimeoutError, ConnectionError)):
        return "again"
    if isinstance(error, OSError) and error.errno in _AGAIN:
        return "again"
    return "again" if _UNAVAILABLE.search(str(error)) else ""


def _first_line(error: Exception) -> str:
    """Return what an exception says, in one line."""
    if isinstance(error, OSError) and error.errno and error.strerror == os.strerror(error.errno):
        return why(error)
    said = error.strerror if isinstance(error, OSError) and error.strerror else error
    text = str(said).strip()
    lines = text.split("\n")
    first = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    first = _BUCKET_PATTERN.sub("", first)
    return first.strip() or type(error).__name__
