"""Ask the Hub, or its cache, which files a model has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from reinit_cli.errors import SourceError
from reinit_cli.lazy import dataclass
from reinit_cli.storage.hub.failures import explained, library, uncached
from reinit_cli.storage.hub.name import HubName, names_on_hub
from reinit_cli.storage.hub.quiet import quietly
from reinit_cli.storage.hub.requests import tried
from reinit_cli.version import __version__

_MANY_FILES = 50_000
"""From here on the Hub may leave files out of what it says of a model, and lists them by pages."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """What is known of a file before it is read.

    Attributes:
        nbytes: its size.
        blob: the digest of its bytes that the Hub knows it by.
    """

    nbytes: int
    blob: str


@dataclass(frozen=True, slots=True)
class Repository:
    """A model on the Hub at one commit.

    Attributes:
        name: how it is named, and what in it.
        commit: the commit, 40 hexadecimal digits.
        files: its files by their paths.
        is_offline: whether it is as the cache has it, without the Hub.
        is_listed: whether these are all its files.
    """

    name: HubName
    commit: str
    files: Mapping[str, HubFile]
    is_offline: bool = False
    is_listed: bool = True


def find_repository(text: str) -> Repository:
    """Return the model that a name stands for.

    Raises:
        SourceError: there is none, or the Hub does not give it out.
        PackageError: the library of the Hub is not installed.
    """
    names = names_on_hub(text)
    library(text)
    failures = []
    for name in names:
        try:
            return _cached(name, text) if _is_offline() else _online(name, text)
        except SourceError as error:
            if error.kind not in {"model", "uncached"}:
                raise
            failures.append(error)
    raise failures[0]


def _is_offline() -> bool:
    return bool(import_module("huggingface_hub.constants").HF_HUB_OFFLINE)


def _online(name: HubName, text: str) -> Repository:
    api = import_module("huggingface_hub").HfApi(library_name="reinit", library_version=__version__)
    with explained(name, text), quietly():
        info = tried(lambda: api.model_info(name.repo, revision=name.revision, files_metadata=True))
        files = _files_of(info.siblings or ())
        if files is None:
            entries = tried(
                lambda: list(api.list_repo_tree(name.repo, revision=info.sha, recursive=True))
            )
            files = {each.path: _file_of(each) for each in entries if hasattr(each, "blob_id")}
    return Repository(name, info.sha, files)


def _files_of(siblings: Iterable[Any]) -> Mapping[str, HubFile] | None:
    """Return the files that are listed with a model; None where not all may be, or without sizes."""
    found = list(siblings)
    if not found or len(found) > _MANY_FILES or any(each.size is None for each in found):
        return None
    return {each.rfilename: _file_of(each) for each in found}


def _file_of(entry: Any) -> HubFile:
    lfs = entry.lfs
    # Before 1.0 the library had a mapping here.
    digest = lfs and (lfs["sha256"] if isinstance(lfs, dict) else lfs.sha256)
    return HubFile(entry.size, digest or entry.blob_id or "")


def _cached(name: HubName, text: str) -> Repository:
    """Return a model as the cache knows it, some of whose files may not be there."""
    hub = import_module("huggingface_hub")
    with explained(name, text), quietly():
        # A pattern that matches nothing: which files are missing is told when they are read.
        folder = hub.snapshot_download(
            name.repo, revision=name.revision, local_files_only=True, allow_patterns=[]
        )
    commit = os.path.basename(folder)
    listed = dict(_files_listed(hub, name.repo, commit))
    files = listed | dict(_files_in(folder))
    if not files:
        raise uncached(text, name)
    return Repository(name, commit, files, is_offline=True, is_listed=bool(listed))


def _files_listed(hub: Any, repo: str, commit: str) -> Iterable[tuple[str, HubFile]]:
    """Yield the files of a model as the cache has listed them, which only newer libraries do."""
    if hasattr(hub, "get_cached_repo_tree"):
        with suppress(hub.errors.CachedRepoTreeNotFoundError):
            for each in hub.get_cached_repo_tree(repo, revision=commit):
                yield each.path, _file_of(each)


def _files_in(folder: str) -> Iterable[tuple[str, HubFile]]:
    for parent, _, names in os.walk(folder):
        for each in names:
            path = os.path.join(parent, each)
            if os.path.isfile(path):
                blob = os.path.basename(os.path.realpath(path))
                yield os.path.relpath(path, folder), HubFile(os.path.getsize(path), blob)
