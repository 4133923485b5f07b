"""Send an object to a remote place, where nobody sees it before it is completed."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

from reinit_cli.errors import OutputUnwritableError, SourceError
from reinit_cli.storage.location import scheme_of
from reinit_cli.storage.remote.store import file_system_of

PART_NBYTES = 8 * 2**20
"""What one request sends: 8 MB keep a connection busy at 50 ms latency."""

_MOST_PARTS = 10_000
"""S3 takes no more for an object, and GCS has no such limit."""


class Upload(Protocol):
    """An object on its way to a remote place.

    Nothing is visible before `complete`. The methods are called one after the other, and not
    in the main thread, which a signal could interrupt between a request and its answer.
    """

    def begin(self) -> None:
        """Ask the place to take an object."""

    def write(self, data: bytes | memoryview) -> None:
        """Take its next bytes; they may still be on their way when this returns."""

    def finish(self) -> None:
        """Wait until all of its bytes have arrived."""

    def complete(self) -> None:
        """Let the object appear.

        Raises:
            FileExistsError: it is to be new, and there is another.
        """

    def abort(self) -> bool:
        """Take back what has not appeared; return whether nothing of it is left."""

    def remove(self) -> bool:
        """Remove the object that has appeared; return whether it is gone."""


def upload_to(url: str, nbytes: int, *, is_new: bool) -> Upload:
    """Return an upload of an object, which has not begun.

    Args:
        url: where it goes.
        nbytes: its size.
        is_new: whether another object there is to be kept.

    Raises:
        OutputUnwritableError: the place takes no uploads, or its package is missing.
    """
    fs, path = reached(url)
    scheme = scheme_of(url)
    if scheme in ("s3", "s3a"):
        from reinit_cli.storage.remote.s3_upload import S3Upload

        return S3Upload(url, fs, path, part_nbytes(nbytes), is_new=is_new)
    if scheme in ("gs", "gcs"):
        from reinit_cli.storage.remote.gs_upload import GSUpload

        return GSUpload(url, fs, path, is_new=is_new)
    if scheme == "memory":
        from reinit_cli.storage.remote.memory_upload import MemoryUpload

        return MemoryUpload(fs, path, is_new=is_new)
    raise OutputUnwritableError(url, "only s3://, gs:// and memory:// are written")


def part_nbytes(nbytes: int) -> int:
    """Return how many bytes a part of an object has, so that there are not too many."""
    least = -(-nbytes // _MOST_PARTS)
    return max(PART_NBYTES, -(-least // 2**20) * 2**20)


def reached(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it.

    Raises:
        PackageError: the package that has files at such URLs is not installed.
        OutputUnwritableError: it cannot be reached.
    """
    try:
        fs = file_system_of(url)
    except SourceError as error:
        raise OutputUnwritableError(url, error.problem or str(error)) from error
    return fs, fs._strip_protocol(scheme_of(url) + url[len(scheme_of(url)) :])


def abort_stale_uploads(url: str) -> None:
    """Abort what killed runs have left at a URL or below it, where that can be known.

    It is a courtesy: where the place does not let this run look, it stays.
    """
    fs, path = reached(url)
    if scheme_of(url) in ("s3", "s3a"):
        from reinit_cli.storage.remote.s3_upload import abort_stale

        with suppress(Exception):
            abort_stale(fs, path)
