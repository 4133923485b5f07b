"""Have files of the Hub in its own cache, fetched by its own library."""

from __future__ import annotations

import glob
import os
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module

from reinit_cli.errors import SourceChangedError
from reinit_cli.storage.hub.failures import explained
from reinit_cli.storage.hub.quiet import quietly
from reinit_cli.storage.hub.repository import Repository
from reinit_cli.threads import start


def cached_path(repository: Repository, file: str) -> str | None:
    """Return where the cache has a file of a model, or None.

    Args:
        repository: the model.
        file: its path in the model.
    """
    found = import_module("huggingface_hub").try_to_load_from_cache(
        repository.name.repo, file, revision=repository.commit
    )
    return found if isinstance(found, str) else None


def cache_folder() -> str:
    """Return the folder of the cache."""
    return str(import_module("huggingface_hub.constants").HF_HUB_CACHE)


def download(
    repository: Repository, files: Collection[str], about: str, tell: Callable[[str], object]
) -> None:
    """Fetch files of a model into the cache.

    Args:
        repository: the model.
        files: their paths in it.
        about: the model as people call it.
        tell: called with how far it is, now and then; with "" at the end.

    Raises:
        SourceError: they cannot be fetched, or the revision has moved on.
    """
    with explained(repository.name, about), quietly(), _told(repository, files, tell):
        # By the name of the revision, so that the cache knows it by this name when offline.
        folder = import_module("huggingface_hub").snapshot_download(
            repository.name.repo,
            revision=repository.name.revision,
            allow_patterns=[glob.escape(file) for file in files],
        )
    if os.path.basename(folder) != repository.commit:
        raise SourceChangedError(about)


@contextmanager
def _told(
    repository: Repository, files: Collection[str], tell: Callable[[str], object]
) -> Iterator[None]:
    """Tell how far a download is, by what is in the cache: versions of the library differ."""
    total = sum(repository.files[file].nbytes for file in files)
    blobs = {repository.files[file].blob for file in files}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_SECONDS):
            tell(f"downloading, {min(1.0, _fetched(repository, blobs) / max(1, total)):.0%}")
        tell("")

    watcher = threading.Thread(target=watch)
    start(watcher, "reinit-download")
    try:
        yield
    finally:
        done.set()
        watcher.join()


_SECONDS = 0.5


def _fetched(repository: Repository, blobs: Collection[str]) -> int:
    """Return how much of some files is in the cache, whole or not."""
    repo_folder_name = import_module("huggingface_hub.file_download").repo_folder_name
    name = repo_folder_name(repo_id=repository.name.repo, repo_type="model")
    nbytes = 0
    with suppress(OSError), os.scandir(os.path.join(cache_folder(), name, "blobs")) as entries:
        for entry in entries:
            if entry.name.partition(".")[0] in blobs:
                nbytes += entry.stat().st_size
    return nbytes
