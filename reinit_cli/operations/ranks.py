"""Write one output with several processes: each writes its part, and rank 0 commits the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reinit_cli.checkpoints.source import Contents
from reinit_cli.errors import CheckFailedError, ReinitError
from reinit_cli.execution.checks import failures_of
from reinit_cli.execution.divide import divided
from reinit_cli.execution.engine import total_nbytes
from reinit_cli.execution.fill import filled_ranges
from reinit_cli.execution.observations import Observations
from reinit_cli.execution.part import Files, is_written, without_last, write_last, write_part
from reinit_cli.execution.share import Owned, shares_of
from reinit_cli.operations.output_place import path_by_name
from reinit_cli.operations.rank_hashes import hashes_form, learn_hashes
from reinit_cli.operations.rank_plan import identity_of, plan_form
from reinit_cli.planning.job import Job
from reinit_cli.provenance.recorder import FixedRecorder, Recorder
from reinit_cli.request.request import Request
from reinit_cli.storage.segments import Late
from reinit_cli.storage.staging.output import FirstOutput, SharedOutput, shared_output
from reinit_cli.storage.staging.ranks import Ranks
from reinit_cli.storage.staging.refusal import tell
from reinit_cli.storage.staging.staging import KINDS
from reinit_cli.storage.writer import Output
from reinit_cli.threads import Progress

Note = Mapping[str, Any]
"""What a rank says of its part: CRC-32s, and what was seen of its draws."""


def output_of(job: Job, contents: Contents) -> SharedOutput:
    """Return the output of a job that several processes write.

    Args:
        job: the job of this one.
        contents: its source, open.
    """
    return shared_output(job.destination, contents.modes, _ranks_of(job.request))


def _ranks_of(asked: Request) -> Ranks:
    assert asked.rank is not None
    assert asked.world_size is not None
    assert asked.run_id is not None
    return Ranks(asked.rank, asked.world_size, asked.run_id, asked.timeout, asked.resume)


def tell_others(request: Request, error: ReinitError) -> None:
    """Let the other ranks know that this one fails before it has met them."""
    if error.kind in KINDS or request.rank is None or request.run_id is None:
        return  # all find it
    path = path_by_name(request)
    if path is not None:
        tell(path, _ranks_of(request), error)


def run_part(
    job: Job,
    sources: Sequence[Contents],
    files: Files,
    output: Output,
    seen: Observations,
    progress: Progress,
    recorder: Recorder | FixedRecorder,
) -> None:
    """Write the part of this rank; as rank 0, wait for those of the others and finish the files.

    Args:
        job: what to do.
        sources: everything that is read.
        files: the segments of each file.
        output: where they go, see `output_of`.
        seen: what looks at draws.
        progress: called with the bytes that any rank has written.
        recorder: what writes the record.

    Raises:
        ReinitError: this rank fails, or another does.
    """
    assert isinstance(output, SharedOutput)
    pieces = divided(files, output.ranks.count)
    shares = shares_of(pieces, output.ranks.count)
    sizes = {name: total_nbytes(segments) for name, segments in files.items()}
    output.begin(sizes, plan_form(job, sources, pieces, shares), progress)
    owned = without_last(shares[output.ranks.rank], pieces)
    counted = output.counted(progress)
    identity = identity_of(job, sources)
    note = _note_of_before(identity, pieces, owned, output, counted)
    if note is None:
        digests = write_part(pieces, owned, output, job.request.device, counted, seen)
        alone = [name for name, ats in owned.items() if len(ats) == len(pieces[name])]
        hashes = hashes_form(job, sources[0], {name: files[name] for name in alone}, output)
        note = {"identity": identity, "digests": digests, **hashes, **seen.form()}
    for source in sources:
        source.check_unchanged()
    output.leave(note)
    if isinstance(output, FirstOutput):
        _finish(job, files, pieces, output, seen, progress, recorder)


def _note_of_before(
    identity: str, files: Files, owned: Owned, output: SharedOutput, progress: Progress
) -> Note | None:
    """Return the note of a run that was interrupted, if it and what it is about are whole."""
    note = output.note_of_before()
    if note is None or note.get("identity") != identity:
        return None
    digests = digests_in(note)
    return note if is_written(files, owned, output, digests, progress) else None


def _finish(
    job: Job,
    files: Files,
    pieces: Files,
    output: FirstOutput,
    seen: Observations,
    progress: Progress,
    recorder: Recorder | FixedRecorder,
) -> None:
    """Write what depends on the parts of all ranks."""
    digests: dict[str, dict[int, int]] = {name: {} for name in files}
    for note in output.notes():
        seen.learn(note)
        learn_hashes(note, recorder)
        for name, of_file in digests_in(note).items():
            digests[name].update(of_file)
    if seen.have_failed:
        failures = failures_of(job.plan, seen.findings)
        output.refuse(CheckFailedError([str(each) for each in failures]))
        return
    for name, segments in files.items():
        if not recorder.needs(name) and not any(isinstance(each, Late) for each in segments):
            continue
        writer = output.file(name, total_nbytes(segments))
        write_last(pieces[name], writer, digests[name], progress)
        recorder.seal(name, segments, filled_ranges(segments), writer)
        writer.close()


def digests_in(note: Note) -> dict[str, dict[int, int]]:
    """Return the CRC-32s that a note has, by file and position."""
    return {
        name: {int(at): crc for at, crc in of_file.items()}
        for name, of_file in note["digests"].items()
    }
