"""Open and list remote files."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from reinit_cli.errors import PackageError, SourceNotFoundError, UnreadableSourceError
from reinit_cli.storage.location import Secrets, scheme_of, without_secrets
from reinit_cli.storage.reader import Fetched, Fingerprint, Kind, Listed, Listing
from reinit_cli.storage.remote.attempts import attempted
from reinit_cli.storage.remote.backend import Backend, Look
from reinit_cli.storage.remote.place import Place
from reinit_cli.storage.remote.reader import RemoteFile
from reinit_cli.storage.remote.traffic import Traffic
from reinit_cli.storage.remote.windows import FIRST_NBYTES
from reinit_cli.storage.temporary import is_temporary

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

MAX_FILES = 100_000
"""The most files that are listed."""

_TOGETHER = 32
"""How many files are looked at together."""

_FILE_MODE, _FOLDER_MODE = 0o666, 0o777
"""The permissions of new files and folders, which remote ones have none to replace."""

_PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp",
    "https": "aiohttp", "hf": "huggingface_hub",
}  # fmt: skip
"""The package that has the files of a scheme."""


_TALKING = ("fsspec", "s3fs", "gcsfs", "aiobotocore", "botocore", "asyncio", "huggingface_hub")
"""The packages that log what they also raise."""


class RemoteStore:
    """The files of a server."""

    def __init__(self, backend: Backend, url: str = "") -> None:
        """Use a server.

        Args:
            backend: the server.
            url: a URL on it, whose password and query go with every request.
        """
        self.traffic = Traffic()
        self._backend = backend
        self._url = url
        self._secrets = Secrets.of(url)
        self._looks: dict[str, Look] = {}  # what was seen and not opened yet

    @property
    def fetched(self) -> Fetched:
        """What has come so far."""
        return Fetched(self.traffic.requests, self.traffic.nbytes)

    @property
    def lists(self) -> bool:
        """Whether its server lists folders."""
        return self._backend.lists

    def __reduce__(self) -> tuple[Callable[[str], RemoteStore], tuple[str]]:
        """Pickle it without its connections: sources of outcomes go from process to process."""
        return remote_store, (self._url,)

    def kind_of(self, path: str) -> Kind | None:
        """Return what a path leads to; see `Store`."""
        if not self.lists and path.endswith("/"):
            return "folder"
        if "\0" in path:
            return None
        try:
            found = self._place(path).look(FIRST_NBYTES)
        except SourceNotFoundError:
            return None
        self._looks[path] = found
        return "folder" if found.fingerprint is None else "file"

    def open(self, path: str, expected: Fingerprint | None = None) -> RemoteFile:
        """Return a reader of a file; see `Store`."""
        seen = self._looks.pop(path, None)
        if seen and seen.fingerprint and expected in (None, seen.fingerprint):
            return RemoteFile(self._place(path), seen.fingerprint, seen.head)
        return RemoteFile(self._place(path), expected)

    def list(self, folder: str, called: str | None = None) -> Listing:
        """List the files of a folder; see `Store`."""
        called = called or without_secrets(folder)
        place = self._place(folder)
        found = attempted(lambda: self._backend.files_of(place.url), called)
        self.traffic.add(0)
        if len(found) > MAX_FILES:
            raise UnreadableSourceError(called, f"it has more than {MAX_FILES:,} files")
        files: dict[str, Listed] = {}
        left_out: dict[str, None] = {}
        for name, fingerprint in found.items():
            hidden = _hidden(name)
            if hidden:
                left_out[hidden] = None
            elif not is_temporary(posixpath.basename(name)):
                files[name] = Listed(fingerprint, _FILE_MODE)
        return Listing(files, _folders_of(files), tuple(left_out))

    def listed_by_name(self, folder: str, names: Sequence[str]) -> Listing:
        """Look at files of a folder that are known by their paths in it; some may be gone."""
        own = [name for name in names if not _hidden(name)]
        paths = [f"{folder.rstrip('/')}/{name}" for name in own]
        with ThreadPoolExecutor(_TOGETHER, "look") as pool:
            kinds = pool.map(self.kind_of, paths)
            there = [path for path, kind in zip(paths, kinds, strict=True) if kind == "file"]
        files = {
            name: Listed(found.fingerprint, _FILE_MODE)
            for name, path in zip(own, paths, strict=True)
            if path in there and (found := self._looks[path]).fingerprint is not None
        }
        return Listing(files, _folders_of(files), ())

    def _place(self, path: str) -> Place:
        called = without_secrets(path)
        url = self._secrets.into(called)
        # File systems know their own scheme in small letters only.
        url = scheme_of(url) + url[len(scheme_of(url)) :]
        return Place(self._backend, url, called, self.traffic)


def _folders_of(files: Iterable[str]) -> dict[str, int]:
    """Return the permissions of all folders that files lie in."""
    folders = {above for name in files for above in _above(name)}
    return dict.fromkeys(("", *sorted(folders)), _FOLDER_MODE)


def _above(name: str) -> list[str]:
    """Return the folders that a file lies in."""
    parts = name.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _hidden(name: str) -> str:
    """Return what of a path is not read: a hidden folder, or a name that no folder has."""
    parts = name.split("/")
    for at, part in enumerate(parts):
        is_last = at == len(parts) - 1
        if part in ("", ".", "..") or "\0" in part or (part.startswith(".") and not is_last):
            return "/".join(parts[: at + 1])
    return ""


def remote_store(url: str) -> RemoteStore:
    """Return the store of a URL.

    Raises:
        PackageError: the package that has such files is not installed.
        SourceNotFoundError: there is no such scheme.
        UnreadableSourceError: it cannot be made, as where credentials are wrong.
    """
    fs = file_system_of(url)
    return RemoteStore(_backend(fs, scheme_of(url)), url)


def _backend(fs: AbstractFileSystem, scheme: str) -> Backend:
    if scheme in ("http", "https"):
        from reinit_cli.storage.remote.web import Web

        return Web(fs)
    if scheme in ("s3", "s3a"):
        from reinit_cli.storage.remote.s3 import S3

        return S3(fs)
    from reinit_cli.storage.remote.filesystem import FileSystem

    return FileSystem(fs)


def file_system_of(url: str) -> AbstractFileSystem:
    """Return the file system that fsspec has for a URL.

    Raises:
        PackageError: the package that has files at such URLs is not installed.
        SourceNotFoundError: there is no such scheme.
        UnreadableSourceError: it cannot be made, as where credentials are wrong.
    """
    for name in _TALKING:  # what nobody listens to goes to stderr otherwise, tracebacks too
        logging.getLogger(name).addHandler(logging.NullHandler())
    scheme, called = scheme_of(url), without_secrets(url)
    try:
        from fsspec import get_filesystem_class
    except ImportError as error:
        raise PackageError(_PACKAGES.get(scheme, "fsspec"), of=f"{scheme}://") from error
    try:
        # Not `url_to_fs`, which takes "::" for a chain of URLs, also in "http://[::1]".
        kind = get_filesystem_class(scheme)
        found = kind._get_kwargs_from_urls(f"{scheme}://{called.partition('://')[2]}")
        fs: AbstractFileSystem = kind(**{**found, **_options(scheme)})
    except ImportError as error:
        if scheme in _PACKAGES:
            raise PackageError(_PACKAGES[scheme], of=f"{scheme}://") from error
        raise UnreadableSourceError(called, str(error).partition("\n")[0]) from error
    except ValueError as error:
        if "rotocol not known" in str(error):
            raise SourceNotFoundError(called, kind="scheme", of=scheme) from error
        raise UnreadableSourceError(called, str(error).partition("\n")[0]) from error
    except TypeError as error:  # it takes more than a URL
        raise SourceNotFoundError(called, kind="scheme", of=scheme) from error
    except Exception as error:  # whatever a file system raises where it is made
        raise UnreadableSourceError(called, str(error).partition("\n")[0]) from error
    return fs


def _options(scheme: str) -> dict[str, object]:
    """Return what a file system is made with, besides what fsspec is configured with."""
    if scheme not in ("http", "https"):
        return {}
    from fsspec.config import conf

    # Proxies are those of the environment, as for any other program.
    return {"client_kwargs": {"trust_env": True, **conf.get(scheme, {}).get("client_kwargs", {})}}
