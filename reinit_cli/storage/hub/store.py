"""Have the files of a model on the Hub: from the Hub's cache, or by ranges until they are in it.

What only looks at names and shapes reads some kilobytes of each file. What reads tensors lets
the Hub's own library fetch whole files first: it resumes, checks digests, and keeps them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping

from reinit_cli.errors import SourceNotFoundError, UnreadableSourceError
from reinit_cli.storage.hub.downloads import cache_folder, cached_path, download
from reinit_cli.storage.hub.failures import uncached
from reinit_cli.storage.hub.repository import Repository, find_repository
from reinit_cli.storage.hub.requests import Ranges
from reinit_cli.storage.local import Descriptors, InputFile
from reinit_cli.storage.reader import (
    Download,
    Fetched,
    Fingerprint,
    Kind,
    Listing,
    Reader,
    Revision,
)
from reinit_cli.storage.remote.backend import Answer, Look, RequestFailedError
from reinit_cli.storage.remote.store import RemoteStore
from reinit_cli.storage.remote.windows import FIRST_NBYTES

_MOST_KEPT = 128
"""How many ranges are kept, of 64 KB at most."""


class HubBackend:
    """A model on the Hub as a server of files."""

    lists = True
    tells = True  # a commit never changes
    tries = 1  # requests are repeated where they are made

    def __init__(self, repository: Repository) -> None:
        """Use a model at one commit, whose files cannot change."""
        self._repository = repository
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._ranges = Ranges(repository.name, repository.commit)

    def look(self, url: str, nbytes: int) -> Look:
        """Return what is at a URL, which takes no request."""
        del nbytes
        path = path_in(self._repository, url)
        found = self._repository.files.get(path)
        if found is not None:
            return Look(Fingerprint.remote(found.nbytes, found.blob))
        if not any(name.startswith(f"{path}/" if path else "") for name in self._repository.files):
            raise RequestFailedError("missing")
        return Look(None)

    def fetch(self, url: str, start: int, end: int) -> Answer:
        """Return a range of a file."""
        if start == end:
            return Answer(b"")
        path = path_in(self._repository, url)
        with self._lock:
            kept = self._kept.get((path, start, end))
        if kept is not None:
            return Answer(kept)
        if self._repository.is_offline:
            raise uncached(url, self._repository.name)
        data = self._ranges.read(path, start, end, url)
        if len(data) <= FIRST_NBYTES:
            self._keep((path, start, end), data)
        return Answer(data)

    def _keep(self, place: tuple[str, int, int], data: bytes) -> None:
        """Keep what was fetched, as a command looks at a file more than once."""
        with self._lock:
            self._kept[place] = data
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)

    def names_in(self, url: str) -> list[str]:
        """Return the names in a folder."""
        return sorted({name.partition("/")[0] for name in self.files_of(url)})

    def files_of(self, url: str) -> Mapping[str, Fingerprint]:
        """Return the files below a folder, by their path in it."""
        path = path_in(self._repository, url)
        start = len(path) + 1 if path else 0
        return {
            name[start:]: Fingerprint.remote(each.nbytes, each.blob)
            for name, each in self._repository.files.items()
            if name.startswith(f"{path}/" if path else "")
        }


def path_in(repository: Repository, url: str) -> str:
    """Return the path of a file or folder in a model, "" for the model."""
    return url.rstrip("/")[len(repository.name.root) + 1 :]


class HubStore:
    """The files of a model on the Hub."""

    lists = True

    def __init__(self, repository: Repository) -> None:
        """Use a model at one commit."""
        name = repository.name
        self.revision = Revision(name.revision or "main", repository.commit)
        self._repository = repository
        self._descriptors = Descriptors()
        self._remote = RemoteStore(HubBackend(repository))

    def __reduce__(self) -> tuple[type[HubStore], tuple[Repository]]:
        """Pickle it without its connections: sources of outcomes go from process to process."""
        return HubStore, (self._repository,)

    @property
    def fetched(self) -> Fetched | None:
        """What has come by ranges; whole files are counted by the Hub's own library."""
        return self._remote.fetched

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a user should know of its list of files; see `FetchingStore`."""
        if self._repository.is_listed:
            return ()
        root = self._repository.name.root
        return (f"{root!r} is read without the Hub, from a cache that may lack files of it",)

    def kind_of(self, path: str) -> Kind | None:
        """Return what a path leads to; see `Store`."""
        return self._remote.kind_of(path)

    def open(self, path: str, expected: Fingerprint | None = None) -> Reader:
        """Return a reader of a file, of that in the cache where it has it; see `Store`."""
        file = path_in(self._repository, path)
        known = self._repository.files.get(file)
        if known is None:
            raise SourceNotFoundError(
                file, known=self._repository.files, kind="in model", of=self._repository.name.root
            )
        place = cached_path(self._repository, file)
        if place is None:
            return self._remote.open(path, expected)
        found = InputFile(place, None, self._descriptors, called=path)
        if found.nbytes != known.nbytes:
            found.close()
            problem = f"{place!r} has {found.nbytes:,} bytes, and should have {known.nbytes:,}"
            raise UnreadableSourceError(path, problem)
        return found

    def list(self, folder: str, called: str | None = None) -> Listing:
        """List the files of a folder; see `Store`."""
        return self._remote.list(folder, called)

    def fetch(self, paths: Collection[str], tell: Callable[[str], object]) -> None:
        """Fetch files into the cache of the Hub; see `Store`."""
        missing = self._missing(paths)
        root = self._repository.name.root
        if missing and self._repository.is_offline:
            raise uncached(f"{root}/{missing[0]}", self._repository.name)
        if missing:
            download(self._repository, missing, root, tell)

    def download_of(self, paths: Collection[str]) -> Download | None:
        """Return what `fetch` downloads; see `Store`."""
        missing = () if self._repository.is_offline else self._missing(paths)
        nbytes = sum(self._repository.files[file].nbytes for file in missing)
        return Download(self._repository.name.root, nbytes, cache_folder()) if missing else None

    def _missing(self, paths: Collection[str]) -> tuple[str, ...]:
        files = (path_in(self._repository, path) for path in paths)
        return tuple(file for file in files if cached_path(self._repository, file) is None)


def hub_store(url: str) -> HubStore:
    """Return the store of a name of the Hub.

    Raises:
        PackageError: the library of the Hub is not installed.
        SourceError: there is no such model, or the Hub does not give it out.
    """
    return HubStore(find_repository(url))
