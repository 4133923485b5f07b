"""Count what sources have fetched from servers."""

from __future__ import annotations

from collections.abc import Iterable

from reinit_cli.checkpoints.array import ArraySource
from reinit_cli.checkpoints.file import FileSource
from reinit_cli.checkpoints.folder import FolderSource
from reinit_cli.checkpoints.source import Source
from reinit_cli.storage.reader import Fetched


def fetched_of(sources: Iterable[Source]) -> Fetched | None:
    """Return what sources have fetched so far, together; None where all are on this machine."""
    stores = [
        source.store
        for source in sources
        if isinstance(source, FileSource | FolderSource | ArraySource)
    ]
    found = [fetched for store in stores if (fetched := store.fetched) is not None]
    if not found:
        return None
    return Fetched(sum(each.requests for each in found), sum(each.nbytes for each in found))
