"""Fetch what an operation reads, and say beforehand what that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from reinit_cli.checkpoints.fetching import download_of, fetch, files_of
from reinit_cli.checkpoints.source import Source
from reinit_cli.storage.reader import Download
from reinit_cli.threads import Progress, unwatched

if TYPE_CHECKING:
    from reinit_cli.planning.job import Job


def fetch_tensors(source: Source, keys: Iterable[str], progress: Progress = unwatched) -> None:
    """Fetch the files in which tensors of a source lie; see `fetch`."""
    fetch(source, files_of(source, keys), progress)


def download_of_tensors(source: Source, keys: Iterable[str]) -> Download | None:
    """Return what `fetch_tensors` downloads."""
    return download_of(source, files_of(source, keys))


def fetch_for(job: Job, progress: Progress) -> None:
    """Fetch what a job reads of its sources, before anything is written; see `fetch`.

    Raises:
        SourceError: it cannot be fetched.
    """
    for source, files in _read_by(job):
        fetch(source, files, progress)


def downloads_for(job: Job) -> Iterator[Download | None]:
    """Yield what `fetch_for` downloads of each source; None of those that are here."""
    for source, files in _read_by(job):
        yield download_of(source, files)


def _read_by(job: Job) -> Iterator[tuple[Source, tuple[str, ...] | None]]:
    """Yield the sources that a job reads, and which of their files; None where it reads all."""
    yield job.source, _files_for(job)
    for name, keys in job.plan.taken.items():
        donor = job.references.donors[name]
        yield donor, files_of(donor, keys)


def _files_for(job: Job) -> tuple[str, ...] | None:
    """Return the files of a folder that a job reads; None where it reads all of them.

    A record has the digest of all.
    """
    located = job.source.located
    if located is None or job.request.record or not job.layout.is_created:
        return None
    origins = (step.origin for step in job.plan.steps)
    return tuple(dict.fromkeys((*files_of(job.source, origins), *located.others)))
