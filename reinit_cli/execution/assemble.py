"""List the segments of an output: a job and the bytes of its source."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reinit_cli.checkpoints.formats.base import NewFormat, Place, Supply
from reinit_cli.checkpoints.formats.dcp.glance import is_part
from reinit_cli.checkpoints.formats.respelling import NewEntry, Respelling
from reinit_cli.checkpoints.references import OpenDonors
from reinit_cli.checkpoints.source import Contents
from reinit_cli.errors import OutputUnwritableError
from reinit_cli.execution.fill import Fill, FillPart, Recast
from reinit_cli.execution.fills import Filling, new_rows
from reinit_cli.planning.job import Job
from reinit_cli.planning.moved import moved_of, new_entries, new_slots
from reinit_cli.planning.output import Created, Respelled, content_of
from reinit_cli.planning.plan import Step
from reinit_cli.storage.location import DASH
from reinit_cli.storage.segments import Check, Copy, Literal, Segment, View
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.slice import narrowed


def files_of(
    job: Job, contents: Contents, donors: OpenDonors, record: str
) -> Mapping[str, list[Segment]]:
    """Return the segments of each file of the output; of a lone one under ""."""
    measures = job.request.measure_before or job.request.sketch
    originals = {tensor.key: tensor for tensor in job.source.tensors}
    filling = Filling(contents, donors, measures, job.request.check, job.request.saturate)
    fills = {
        step.key: filling.of(step, originals[step.origin])
        for step in job.plan.steps
        if step.is_filled
    }
    slots = Filling(contents, donors)
    fills |= {step.key: slots.of(step, step.tensor) for step in job.plan.slots}
    if isinstance(job.layout, Created):
        files = _created(job, job.layout.format, contents, fills, record)
    elif isinstance(job.layout, Respelled):
        files = _respelled(job, contents, fills, record)
    else:
        files = _rewritten(job, contents, fills, record)
    without = _unfetched if job.request.verify_crc else _unchecked
    return {name: without(each) for name, each in files.items()}


def _rewritten(
    job: Job, contents: Contents, fills: Mapping[str, Fill], record: str
) -> Mapping[str, list[Segment]]:
    """Return the segments of the source's files with fills in the places of their tensors."""
    edits, empty = _edits(job, contents, fills)
    return _with_empty(contents.rewritten(edits, record), empty)


def _respelled(
    job: Job, contents: Contents, fills: Mapping[str, Fill], record: str
) -> Mapping[str, list[Segment]]:
    """Return the segments of the source's file with other tensors and keys."""
    originals, moved, entries = _changes(job)
    saturates = job.request.saturate
    data = {
        first.key: _placed(first, originals[first.origin], contents, fills, saturates=saturates)
        for first in moved.values()
    }
    slots = {step.key for step in job.plan.slots if step.was is not None}
    data |= {key: (fills[key],) for key in slots}
    staying = {key: fill for key, fill in fills.items() if key not in moved and key not in slots}
    edits, empty = _edits(job, contents, staying)
    return _with_empty(contents.respelled(Respelling(entries, data, edits), record), empty)


def check_changes(job: Job) -> None:
    """Refuse what cannot change in the source's pickle, before anything is written.

    Raises:
        UnsupportedFormatError: what changes is shared, or written, in a way that cannot be kept.
    """
    if not (isinstance(job.layout, Respelled) or job.plan.numbers):
        return
    with job.source.open(job.request.seed) as contents:
        edits = contents.renumbered(job.plan.numbers) if job.plan.numbers else {}
        if isinstance(job.layout, Respelled):
            *_, entries = _changes(job)
            contents.respelled(Respelling(entries, {}, edits))


def _changes(
    job: Job,
) -> tuple[Mapping[str, TensorInfo], Mapping[str, Step], Mapping[str, NewEntry | None]]:
    """Return the source's tensors, the steps of those that move, and what becomes of entries."""
    originals = {tensor.key: tensor for tensor in job.source.tensors}
    moved = moved_of(job.plan.steps, originals)
    entries = {**new_entries(job.plan.steps, originals, moved), **new_slots(job.plan)}
    return originals, moved, entries


def _with_empty(
    files: Mapping[str, list[Segment]], empty: Mapping[str, list[Segment]]
) -> Mapping[str, list[Segment]]:
    """Return files with fills of tensors without elements, which have no place, at their ends."""
    return {name: [*segments, *empty.get(name, ())] for name, segments in files.items()}


def _edits(
    job: Job, contents: Contents, fills: Mapping[str, Fill]
) -> tuple[dict[str, dict[int, Segment]], dict[str, list[Segment]]]:
    """Return what replaces bytes in the source's files, and fills that have no bytes."""
    assert job.source.located is not None
    edits: dict[str, dict[int, Segment]] = {}
    empty: dict[str, list[Segment]] = {}
    for key, fill in fills.items():
        if key != fill.step.seed_key and fill.step.tied:
            continue  # of one tensor under several keys, the first is drawn
        for place in job.source.located.places[fill.step.origin]:
            laid = _in_place(fill, place, contents)
            if place.nbytes:
                edits.setdefault(place.file, {})[place.offset] = laid
            else:
                empty.setdefault(place.file, []).append(laid)
    if job.plan.numbers:
        for name, numbers in contents.renumbered(job.plan.numbers).items():
            edits.setdefault(name, {}).update(numbers)
    return edits, empty


def _in_place(fill: Fill, place: Place, contents: Contents) -> Segment:
    """Return what a fill writes in a place, among the gaps that its elements leave there."""
    if place.box is not None:
        return FillPart(fill, place.nbytes, place.box, place.stride, _under(place, contents))
    under = None
    if place.nbytes != fill.nbytes:
        (part,) = contents.view(fill.step.tensor).parts
        assert isinstance(part.data, Copy)
        under = part.data
    return replace(fill, nbytes=place.nbytes, stride=fill.step.tensor.stride, under=under)


def _under(place: Place, contents: Contents) -> Copy | None:
    """Return what lies in the place of a box whose elements may leave gaps."""
    if place.stride is None:
        return None
    return Copy(contents.files()[place.file], place.offset, place.nbytes)


def _created(
    job: Job, format_: NewFormat, contents: Contents, fills: Mapping[str, Fill], record: str
) -> Mapping[str, list[Segment]]:
    """Return the segments of new files."""
    tensors = tuple(step.tensor for step in job.plan.steps)
    originals = {tensor.key: tensor for tensor in job.source.tensors}
    supply = Supply(
        {
            step.key: _placed(
                step, originals[step.origin], contents, fills, saturates=job.request.saturate
            )
            for step in job.plan.steps
            if not step.tensor.carried
        },
        lambda: _state(job, contents, tensors),
        _others(job, contents),
        os.path.basename(job.destination.path or "archive.pt"),
        job.request.shard_nbytes,
        record,
        job.request.new_root,
    )
    files = dict(format_.created(content_of(job.source, tensors), supply))
    return _checked(files, contents.checks()) if job.request.verify_crc else files


def _checked(
    files: Mapping[str, list[Segment]], checks: Iterable[Check]
) -> Mapping[str, list[Segment]]:
    """Return files with checks of what they are made from.

    What is copied as a whole is checked on the way, and everything else is read for it.
    """
    waiting = {(id(each.file), each.offset, each.length): each for each in checks}
    met: set[tuple[int, int, int]] = set()
    checked: dict[str, list[Segment]] = {}
    for name, segments in files.items():
        found = checked[name] = list[Segment]()
        for segment in segments:
            if isinstance(segment, Copy):
                place = id(segment.file), segment.offset, segment.nbytes
                if (check := waiting.get(place)) is not None:
                    segment = replace(segment, check=check)  # noqa: PLW2901
                    met.add(place)
            found.append(segment)
    first = next(iter(checked))
    checked[first] += [each for place, each in waiting.items() if place not in met]
    return checked


def _others(job: Job, contents: Contents) -> Mapping[str, list[Segment]]:
    """Return the files of a folder that hold no weights, as they are to be."""
    texts: dict[str, list[Segment]] = {
        name: [Literal(text.encode())] for name, text in job.texts.items()
    }
    others = contents.others()
    if job.request.to is not None or (job.source.located and job.source.located.parts):
        # Files of a rank that had nothing to write belong to no other folder.
        others = {name: each for name, each in others.items() if not is_part(name)}
    return {**others, **texts}


def _state(job: Job, contents: Contents, tensors: Sequence[TensorInfo]) -> Mapping[str, Any]:
    """Return the state dict of a new pickle.

    Raises:
        OutputUnwritableError: it is too large for the address space.
    """
    try:
        origins = {step.key: step.origin for step in job.plan.steps if step.origin != step.key}
        return contents.state_dict(tensors, origins)
    except RuntimeError as error:  # torch lays it out as memory, which it never touches
        nbytes = sum(tensor.nbytes for tensor in tensors)
        problem = f"its tensors take {nbytes:,} bytes, more than can be addressed"
        raise OutputUnwritableError(job.destination.path or DASH, problem) from error


def _contiguous(view: View, wanted: TensorInfo, *, saturates: bool) -> tuple[Segment, ...]:
    """Return the bytes of a tensor in row-major order, in the dtype it is to have."""
    runs = view.runs
    if runs and view.dtype == wanted.dtype:
        return runs
    return (Recast(wanted.key, view, wanted.dtype, wanted.nbytes, saturates),)


def _placed(
    step: Step,
    original: TensorInfo,
    contents: Contents,
    fills: Mapping[str, Fill],
    *,
    saturates: bool,
) -> tuple[Segment, ...]:
    """Return the bytes of a tensor in a new file."""
    if step.is_filled:
        return (fills[step.key],)
    if step.action != "resize":
        return _contiguous(contents.view(original), step.tensor, saturates=saturates)
    kept = step.tensor.with_shape(step.shape_of_kept_rows)
    there = contents.view(original)
    old = _contiguous(narrowed(there, step.axis, 0, step.kept_rows), kept, saturates=saturates)
    if step.law is None:
        return old
    return *old, new_rows(step, there)


def _unfetched(segments: Iterable[Segment]) -> list[Segment]:
    """Return segments without checks that would fetch from far away what is not written.

    Others may name segments by their positions, which stay.
    """
    return [
        Literal(b"") if isinstance(each, Check) and each.file.is_distant else each
        for each in segments
    ]


def _unchecked(segments: Iterable[Segment]) -> list[Segment]:
    return [
        replace(segment, check=None) if isinstance(segment, Copy) else segment
        for segment in segments
        if not isinstance(segment, Check)
    ]
