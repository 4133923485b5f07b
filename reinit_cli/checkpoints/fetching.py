"""Have files of a source on this machine before their tensors are read."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import Protocol, runtime_checkable

from reinit_cli.checkpoints.source import Source, files_of_weights
from reinit_cli.storage.local import LocalStore
from reinit_cli.storage.reader import Download, Fetched, FetchingStore, Revision, Store
from reinit_cli.threads import Follower, Progress, unwatched


def fetch(
    source: Source, files: Collection[str] | None = None, progress: Progress = unwatched
) -> None:
    """Fetch files of a source, where its store is one that fetches whole files.

    Args:
        source: any source, not open yet.
        files: those of a folder that are read, by their names in it; None where all are.
        progress: told in words how far it is, if it follows what is in work.

    Raises:
        SourceError: they cannot be fetched.
    """
    store = _store_of(source)
    if store is not None:
        tell = progress.follow if isinstance(progress, Follower) else _untold
        store.fetch(_paths(source, files), tell)


def _untold(text: str) -> None:
    del text


def download_of(source: Source, files: Collection[str] | None = None) -> Download | None:
    """Return what `fetch` downloads; None where nothing is."""
    store = _store_of(source)
    return store.download_of(_paths(source, files)) if store is not None else None


def revision_of(source: Source) -> Revision | None:
    """Return which version of a source is read, where its store keeps versions."""
    store = _store_of(source)
    return store.revision if store is not None else None


def files_of(source: Source, keys: Iterable[str]) -> tuple[str, ...]:
    """Return the files of a source in which some of its tensors lie, and those that tell where."""
    located = source.located
    if located is None:
        return ()
    found = (place.file for key in keys for place in located.places.get(key, ()))
    others = {*files_of_weights(located), *located.others}
    indices = (file for file in located.files if file not in others)
    return tuple(dict.fromkeys((*found, *indices)))


def doubts_about_files(source: Source) -> tuple[str, ...]:
    """Return what a user should know where all files of a source are copied."""
    store = _store_of(source)
    return store.doubts if store is not None and source.is_folder else ()


def fetched_of(sources: Iterable[Source]) -> Fetched | None:
    """Return what sources have fetched so far, together; None where all are on this machine."""
    found = [fetched for each in sources if (fetched := store_with(each).fetched) is not None]
    if not found:
        return None
    return Fetched(sum(each.requests for each in found), sum(each.nbytes for each in found))


def store_with(source: Source | None) -> Store:
    """Return the store that has the files of a source, and those next to them."""
    return source.store if isinstance(source, _Stored) else LocalStore()


@runtime_checkable
class _Stored(Protocol):
    """A source whose files a store has."""

    @property
    def store(self) -> Store:
        """The store."""


def _store_of(source: Source) -> FetchingStore | None:
    store = store_with(source)
    return store if isinstance(store, FetchingStore) else None


def _paths(source: Source, files: Collection[str] | None) -> tuple[str, ...]:
    if files is None or source.path is None or not source.is_folder:
        return source.reads
    return tuple(os.path.join(source.path, file) for file in files)
