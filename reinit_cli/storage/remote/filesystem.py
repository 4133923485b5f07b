"""Ask a file system of fsspec for ranges, never for its file objects and their caches."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from reinit_cli.storage.reader import Fingerprint
from reinit_cli.storage.remote.backend import Answer, Look, RequestFailedError
from reinit_cli.storage.remote.problems import failure_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_VERSIONS = (
    "ETag", "etag", "generation", "md5Hash", "content_md5", "blob_id", "LastModified",
    "last_modified", "mtime", "created",
)  # fmt: skip
"""What file systems call what changes with a file, the surest first."""

Result = TypeVar("Result")


class FileSystem:
    """A file system of fsspec."""

    lists = True
    tells = False
    tries = 4

    def __init__(self, fs: AbstractFileSystem) -> None:
        """Use a file system."""
        self._fs = fs
        # What is not asynchronous opens a file for each range, and reads 5 MB ahead in it.
        self._options = {} if fs.async_impl or not _opens_files(fs) else {"cache_type": "none"}

    def look(self, url: str, nbytes: int) -> Look:
        """Return what is at a URL; its first bytes would take another request."""
        del nbytes
        path = self._path(url)
        info = said(lambda: self._info(path))
        return Look(None if info["type"] == "directory" else _fingerprint(info))

    def fetch(self, url: str, start: int, end: int) -> Answer:
        """Return a range of a file."""
        path = self._path(url)
        return Answer(
            bytes(said(lambda: self._fs.cat_file(path, start=start, end=end, **self._options)))
        )

    def names_in(self, url: str) -> list[str]:
        """Return the names in a folder; none where it cannot be listed."""
        try:
            found = said(lambda: self._fs.ls(self._path(url), detail=False))
        except RequestFailedError:
            return []
        return [posixpath.basename(name.rstrip("/")) for name in found]

    def files_of(self, url: str) -> Mapping[str, Fingerprint]:
        """Return the files below a folder, by their path in it."""
        folder = self._path(url).rstrip("/")
        self._fs.invalidate_cache(folder)
        found = said(lambda: self._fs.find(folder, detail=True))
        return {
            name[len(folder) + 1 :]: _fingerprint(info)
            for name, info in found.items()
            # Consoles make an empty object with a slash at its end for each folder.
            if info["type"] == "file" and name.startswith(f"{folder}/") and name[-1] != "/"
        }

    def _path(self, url: str) -> str:
        path = said(lambda: self._fs._strip_protocol(url))
        assert isinstance(path, str)
        return path

    def _info(self, path: str) -> Mapping[str, Any]:
        self._fs.invalidate_cache(path)
        info: Mapping[str, Any] = self._fs.info(path)
        return info


def _opens_files(fs: AbstractFileSystem) -> bool:
    from fsspec import AbstractFileSystem

    return type(fs).cat_file is AbstractFileSystem.cat_file


def _fingerprint(info: Mapping[str, Any]) -> Fingerprint:
    nbytes = info.get("size")
    if not isinstance(nbytes, int):
        raise RequestFailedError("", "the server does not say how long it is")
    version = next((info[name] for name in _VERSIONS if info.get(name)), "")
    if isinstance(version, datetime):  # a listing may have it as a number
        version = version.timestamp()
    return Fingerprint.remote(nbytes, str(version))


def said(ask: Callable[[], Result]) -> Result:
    """Return what a file system says.

    What it raises is not known: each has exceptions of its own, and of the libraries below it.

    Raises:
        RequestFailedError: whatever it raises.
    """
    try:
        return ask()
    except Exception as error:
        raise failure_of(error) from error
