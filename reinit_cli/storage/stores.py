"""Choose the store that has a path."""

from __future__ import annotations

from reinit_cli.storage.local import LocalStore
from reinit_cli.storage.location import is_fetched, is_on_hub
from reinit_cli.storage.reader import Store


def store_of(path: str) -> Store:
    """Return the store of a path or URL.

    Raises:
        PackageError: the package that has files at such URLs is not installed.
        SourceError: there is no such scheme, or its files cannot be had.
    """
    if not is_fetched(path):
        return LocalStore()
    if is_on_hub(path):
        from reinit_cli.storage.hub.store import hub_store

        return hub_store(path)
    # fsspec takes longer to import than a header takes to read.
    from reinit_cli.storage.remote.store import remote_store

    return remote_store(path)
