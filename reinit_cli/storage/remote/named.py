"""Have files of a folder that cannot be listed, by names that another file tells."""

from __future__ import annotations

from collections.abc import Sequence

from reinit_cli.storage.reader import Fetched, Fingerprint, Kind, Listing, Reader
from reinit_cli.storage.remote.store import RemoteStore


class NamedFiles:
    """The files of a folder that have certain names, as if nothing else were in it."""

    lists = True

    def __init__(self, store: RemoteStore, names: Sequence[str]) -> None:
        """Use a store.

        Args:
            store: where they are.
            names: their paths in the folder.
        """
        self._store = store
        self._names = names

    @property
    def fetched(self) -> Fetched:
        """What has come so far."""
        return self._store.fetched

    def kind_of(self, path: str) -> Kind | None:
        """Return what a path leads to; see `Store`."""
        return self._store.kind_of(path)

    def open(self, path: str, expected: Fingerprint | None = None) -> Reader:
        """Return a reader of a file; see `Store`."""
        return self._store.open(path, expected)

    def list(self, folder: str, called: str | None = None) -> Listing:
        """Look at each of them; see `Store`."""
        del called
        return self._store.listed_by_name(folder, self._names)
