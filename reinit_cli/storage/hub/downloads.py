"""Have files of the Hub in its own cache, fetched by its own library."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib import import_module

from reinit_cli.errors import SourceChangedError
from reinit_cli.storage.hub.failures import explained
from reinit_cli.storage.hub.repository import Repository


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


def download(repository: Repository, files: Collection[str], about: str) -> None:
    """Fetch files of a model into the cache.

    Args:
        repository: the model.
        files: their paths in it.
        about: the model as people call it.

    Raises:
        SourceError: they cannot be fetched, or the revision has moved on.
    """
    with explained(repository.name, about), _quietly():
        # By the name of the revision, so that the cache knows it by this name when offline.
        folder = import_module("huggingface_hub").snapshot_download(
            repository.name.repo,
            revision=repository.name.revision,
            allow_patterns=[glob.escape(file) for file in files],
        )
    if os.path.basename(folder) != repository.commit:
        raise SourceChangedError(about)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the library from writing to stderr, but for its bars on a terminal."""
    utils = import_module("huggingface_hub.utils")
    verbosity = utils.logging.get_verbosity()
    had_bars = not utils.are_progress_bars_disabled()
    hides_bars = had_bars and not sys.stderr.isatty()
    utils.logging.set_verbosity_error()
    if hides_bars:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.logging.set_verbosity(verbosity)
        if hides_bars:
            utils.enable_progress_bars()
