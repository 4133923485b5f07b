"""What an output is made of: a job and the bytes of its source → segments."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace

from reinit_cli.checkpoints.formats import safetensors
from reinit_cli.checkpoints.formats.hugging_face import index_of, split
from reinit_cli.checkpoints.formats.torch import zip as torch_zip
from reinit_cli.checkpoints.references import OpenDonors
from reinit_cli.checkpoints.source import RECORD_FILE, Contents, Source
from reinit_cli.errors import OutputUnwritableError
from reinit_cli.execution.fill import Fill, Recast
from reinit_cli.initializers import Transform
from reinit_cli.planning.job import Job
from reinit_cli.planning.plan import Step
from reinit_cli.planning.reshape import rows_alone
from reinit_cli.storage.location import DASH
from reinit_cli.storage.segments import Check, Copy, Literal, Reserved, Segment, View
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.slice import narrowed

_OF_TORCH = {"format": "pt"}
"""What loaders ask of a safetensors file of PyTorch's tensors."""


def files_of(
    job: Job, contents: Contents, donors: OpenDonors, record: str
) -> Mapping[str, list[Segment]]:
    """Return the segments of each file of the output; of a lone one under ""."""
    fills = {
        step.key: _fill(step, contents, original, donors, measures=job.measure_before)
        for step, original in zip(job.plan.steps, job.source.tensors, strict=True)
        if step.action == "fill"
    }
    fills |= {
        step.key: _fill(step, contents, step.tensor, donors, measures=False)
        for step in job.plan.beside
    }
    if job.format != "same":
        return _laid_out(job, contents, fills, record)
    files = contents.rewritten(fills, record)
    assert files is not None  # a file is its own layout
    return files if job.verify_crc else {name: _unchecked(each) for name, each in files.items()}


def _laid_out(
    job: Job, contents: Contents, fills: Mapping[str, Fill], record: str
) -> Mapping[str, list[Segment]]:
    """Return the segments of files that are laid out anew."""
    places: dict[str, tuple[Segment, ...]] = {
        step.key: _placed(step, original, contents, fills)
        for step, original in zip(job.plan.steps, job.source.tensors, strict=True)
        if not step.tensor.carried
    }
    checks = contents.checks() if job.verify_crc else []
    tensors = [step.tensor for step in job.plan.steps]
    if job.format == "torch":
        name = os.path.basename(job.destination.path or "archive.pt")
        try:
            state = contents.state_dict(tensors)
        except RuntimeError as error:  # torch lays it out as memory, which it never touches
            nbytes = sum(tensor.nbytes for tensor in tensors)
            problem = f"its tensors take {nbytes:,} bytes, more than can be addressed"
            raise OutputUnwritableError(job.destination.path or DASH, problem) from error
        return {"": [*torch_zip.layout(state, places, name, record), *checks]}
    held = [tensor for tensor in tensors if not tensor.carried]
    metadata = _metadata(job.source)
    if job.format == "safetensors":
        metadata = {**metadata, safetensors.RECORD: record} if record else metadata
        return {"": [*safetensors.layout(held, metadata, places), *checks]}
    shards = split(held, job.shard_nbytes)
    files = {name: safetensors.layout(shard, metadata, places) for name, shard in shards.items()}
    files[next(iter(files))] += checks
    if len(files) > 1:
        name, index = index_of(shards)
        files[name] = [Literal(index)]
    own: dict[str, list[Segment]] = {RECORD_FILE: [Reserved(len(record), "text")]} if record else {}
    return {**files, **contents.beside(), **own}


def _metadata(source: Source) -> Mapping[str, str]:
    is_torch = source.located is not None and source.located.format.startswith("torch")
    if is_torch:
        return _OF_TORCH
    return {name: text for name, text in source.metadata.items() if name != safetensors.RECORD}


def _fill(
    step: Step, contents: Contents, original: TensorInfo, donors: OpenDonors, *, measures: bool
) -> Fill:
    law = step.law
    reads = isinstance(law, Transform)
    here = contents.view(original) if measures or reads or step.keeps_zeros else None
    values = here
    if isinstance(law, Transform) and law.donor is not None:
        values = donors.view(law.donor, step.key)
    return Fill(
        step,
        step.tensor.nbytes,
        before=here if measures else None,
        values=values if reads else None,
        zeros=here if step.keeps_zeros else None,
    )


def _contiguous(view: View, wanted: TensorInfo) -> Segment:
    """Return the bytes of a tensor in row-major order, in the dtype it is to have."""
    data = view.contiguous
    if data is not None and view.dtype == wanted.dtype:
        return data
    return Recast(view, wanted.dtype, wanted.nbytes)


def _placed(
    step: Step, original: TensorInfo, contents: Contents, fills: Mapping[str, Fill]
) -> tuple[Segment, ...]:
    """Return the bytes of a tensor in a file that is laid out anew."""
    if step.action == "fill":
        return (fills[step.key],)
    if step.action != "resize":
        return (_contiguous(contents.view(original), step.tensor),)
    kept = step.tensor.with_shape((step.kept_rows, *step.tensor.shape[1:]))
    there = contents.view(original)
    old = _contiguous(narrowed(there, 0, 0, step.kept_rows), kept)
    if step.law is None:
        return (old,)
    new = rows_alone(step)
    values = there if isinstance(step.law, Transform) else None
    return old, Fill(new, new.tensor.nbytes, values=values)


def _unchecked(segments: Iterable[Segment]) -> list[Segment]:
    return [
        replace(segment, check=None) if isinstance(segment, Copy) else segment
        for segment in segments
        if not isinstance(segment, Check)
    ]
