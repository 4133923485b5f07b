"""Share the SHA-256s of a record between ranks: each digests files that it wrote alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reinit_cli.checkpoints.source import Contents
from reinit_cli.execution.engine import total_nbytes
from reinit_cli.execution.fill import filled_ranges
from reinit_cli.execution.part import Files
from reinit_cli.planning.job import Job
from reinit_cli.provenance.digests import FileDigests, digests_of, ranges_of
from reinit_cli.provenance.recorder import FixedRecorder, Recorder
from reinit_cli.provenance.sha256 import sha256_of_pieces
from reinit_cli.storage.staging.output import SharedOutput

Form = Mapping[str, Any]


def hashes_form(job: Job, contents: Contents, files: Files, output: SharedOutput) -> Form:
    """Return what a rank digests for the record: files that are its own, and some of the source.

    Args:
        job: what is done.
        contents: the source.
        files: the segments of each file that this rank has written alone.
        output: where they are.
    """
    if not job.request.record:
        return {"files": {}, "source": {}}
    rank, count = output.ranks.rank, output.ranks.count
    return {
        "files": {name: _form(_digests(name, files, output)) for name in files},
        "source": {
            name: sha256_of_pieces(file.read, file.nbytes)
            for at, (name, file) in enumerate(contents.files().items())
            if at % count == rank
        },
    }


def learn_hashes(note: Form, recorder: Recorder | FixedRecorder) -> None:
    """Let a recorder know what a rank has digested."""
    files = {
        name: FileDigests(nbytes, {key: tuple(each) for key, each in filled.items()}, rest)
        for name, (nbytes, filled, rest) in note["files"].items()
    }
    recorder.learn(files, note["source"])


def _digests(name: str, files: Files, output: SharedOutput) -> FileDigests:
    segments = files[name]
    writer = output.file(name, total_nbytes(segments))
    found = digests_of(writer.read, ranges_of(segments, filled_ranges(segments)))
    writer.close()
    return found


def _form(digests: FileDigests) -> list[object]:
    return [digests.nbytes, digests.filled, digests.rest]
