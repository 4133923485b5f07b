"""Say what a rank planned, so that it can be compared with what others did."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reinit_cli.checkpoints.source import Contents
from reinit_cli.execution.fill import Fill, FillPart, Recast
from reinit_cli.execution.part import Files
from reinit_cli.execution.share import Owned
from reinit_cli.planning.job import Job
from reinit_cli.provenance.record import BLANK, blank_record
from reinit_cli.request.request import options_form
from reinit_cli.storage.segments import Check, Copy, Late, Literal, Reserved, Segment
from reinit_cli.streams.stream import stream_named
from reinit_cli.version import __version__

PlanForm = Mapping[str, Any]
"""What was planned, by names for people: texts, and digests as objects."""


def plan_form(
    job: Job, sources: Iterable[Contents], files: Files, shares: Sequence[Owned]
) -> PlanForm:
    """Return what was planned.

    Args:
        job: what to do.
        sources: everything that is read.
        files: the segments of each file of the output.
        shares: those that each rank writes.
    """
    options = options_form(job.request).items()
    return {
        "version of reinit": __version__,
        "world size": str(len(shares)),
        "source": os.path.basename(job.source.name.rstrip(os.sep)),
        "list of rules": ", ".join(rule.text for rule in job.plan.rules),
        **{str(name): _dumps(value) for name, value in options},
        "source files": {"sha256": _digest(_fingerprints(sources))},
        "tensors": {"sha256": _digest([_dumps(_made(job))])},
        "bytes": {"sha256": _digest(_lines(files, shares))},
    }


def _made(job: Job) -> Mapping[str, Any]:
    """Return what makes the output; torch counts only where it gives the random numbers."""
    record = blank_record(job, (0, BLANK), is_inside=False)
    if not stream_named(job.request.stream).needs_torch:
        del record["torch"]
    return record


def _fingerprints(sources: Iterable[Contents]) -> Iterator[str]:
    """Yield what changes when a file that is read does, and is the same on every host."""
    for source in sources:
        for name, file in source.files().items():
            found = file.fingerprint
            # A remote file has no time, and a local one no version.
            yield f"{name!r} {found.nbytes} {found.mtime_ns} {found.version}\n"


def identity_of(job: Job, sources: Iterable[Contents]) -> str:
    """Return what a note of an earlier run must have been written with, besides its plan."""
    request = job.request
    seen = (
        request.measure,
        request.measure_before,
        request.check,
        sorted(job.pictured),
        bool(request.record),
    )
    return _digest([repr(seen), *_whole_fingerprints(sources)])


def _whole_fingerprints(sources: Iterable[Contents]) -> Iterator[str]:
    for source in sources:
        for name, file in source.files().items():
            # A file system may have another number each time that it is mounted.
            yield f"{name!r} {replace(file.fingerprint, device=0)!r}\n"


def _lines(files: Files, shares: Sequence[Owned]) -> Iterator[str]:
    """Yield what every byte of the output is made of, and who writes it."""
    for name, segments in files.items():
        yield f"{name!r} {[sorted(share.get(name, ())) for share in shares]}\n"
        for segment in segments:
            yield f"{type(segment).__name__} {segment.nbytes} {_said_of(segment)!r}\n"


def _said_of(segment: Segment) -> tuple[object, ...]:
    match segment:
        case Copy():
            return segment.offset, segment.check and segment.check.crc
        case Check():
            return segment.offset, segment.length, segment.crc
        case Literal():
            return (hashlib.sha256(segment.data).hexdigest(),)
        case Late():
            return segment.of
        case Reserved():
            return (segment.holds,)
        case Recast():
            return segment.key, segment.dtype
        case Fill():
            return segment.step.key, segment.stride
        case FillPart():
            return *_said_of(segment.fill), segment.box, segment.stride
    return ()


def _dumps(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _digest(lines: Iterable[str]) -> str:
    whole = hashlib.sha256()
    for line in lines:
        whole.update(line.encode(errors="surrogateescape"))
    return whole.hexdigest()
