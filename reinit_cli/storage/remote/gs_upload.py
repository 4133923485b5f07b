"""Send an object to Google Cloud Storage: one request after the other, the last completes it.

A session that is never completed is not visible, costs nothing and ends after a week.
"""

from __future__ import annotations

from typing import Any

from reinit_cli.errors import OutputUnwritableError
from reinit_cli.storage.remote.failures import naming_upload

_BLOCK_NBYTES = 32 * 2**20
"""What one request sends; they follow each other, so that small ones would wait for most of the
time."""


class GSUpload:
    """A resumable upload; see `Upload`."""

    def __init__(self, url: str, fs: Any, path: str, *, is_new: bool) -> None:
        """Prepare one, without a request.

        Args:
            url: what people call the object.
            fs: a file system of gcsfs.
            path: the object's path in it.
            is_new: whether another object there is to be kept.
        """
        self._url = url
        self._fs = fs
        self._path = path
        self._mode = "xb" if is_new else "wb"
        self._file: Any = None

    def begin(self) -> None:
        """Prepare to ask for a session, which comes with the first bytes.

        Raises:
            OutputUnwritableError: an object of this bucket would be visible from the start.
        """
        with naming_upload(self._url):
            self._file = self._fs.open(
                self._path, self._mode, block_size=_BLOCK_NBYTES, autocommit=False
            )
        if type(self._file).__module__ == "gcsfs.zonal_file":
            self._file.closed = True
            self._file = None
            problem = "what is written to a zonal bucket is visible before it is whole"
            raise OutputUnwritableError(self._url, problem)

    def write(self, data: bytes | memoryview) -> None:
        """Send the next bytes, once there are enough of them."""
        with naming_upload(self._url):
            self._file.write(data)

    def finish(self) -> None:
        """Send what can be sent without completing the object: all but less than 256 KB."""
        with naming_upload(self._url):
            self._file.flush(force=True)

    def complete(self) -> None:
        """Send the rest, and let the object appear."""
        with naming_upload(self._url):
            self._file.commit()
        self._file = None

    def abort(self) -> bool:
        """End the session."""
        file, self._file = self._file, None
        if file is None:
            return True
        try:
            file.discard()
        except Exception:  # noqa: BLE001 (the caller says what is left)
            return False
        finally:
            file.closed = True  # or its end, whenever it is collected, would send the rest
        return True

    def remove(self) -> bool:
        """Remove the object."""
        try:
            self._fs.rm_file(self._path)
        except Exception:  # noqa: BLE001 (the caller says what is left)
            return False
        return True
