"""Make an output again from its source, as its record says, and compare every byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from reinit_cli.checkpoints.fetching import fetch, revision_of
from reinit_cli.checkpoints.folder import FolderSource
from reinit_cli.checkpoints.formats import new_file, new_folder
from reinit_cli.checkpoints.formats.base import Recorded
from reinit_cli.checkpoints.formats.hugging_face.stale import copied_before
from reinit_cli.checkpoints.model import drawn_from
from reinit_cli.checkpoints.source import Contents, Source
from reinit_cli.errors import (
    ReinitError,
)
from reinit_cli.lazy import dataclass
from reinit_cli.operations.batch import requests_of
from reinit_cli.operations.bounds import check_reads
from reinit_cli.operations.devices import redrawing_device
from reinit_cli.operations.prepare import job_of
from reinit_cli.operations.redraw import span_of
from reinit_cli.operations.rewrite import execute
from reinit_cli.operations.sought import source_for
from reinit_cli.planning.job import Job
from reinit_cli.planning.output import Created
from reinit_cli.provenance.compare import ComparingOutput, Gap
from reinit_cli.provenance.digests import (
    digest_of_source,
)
from reinit_cli.provenance.record import (
    Form,
    versions_in,
)
from reinit_cli.provenance.recorded import (
    NOT_GIVEN,
    Given,
    architecture_of_record,
    arguments_of_record,
)
from reinit_cli.provenance.recorder import FixedRecorder
from reinit_cli.request.named import bounds_of_recipes, refuse_code
from reinit_cli.request.output_name import OutputName, as_form
from reinit_cli.request.partial import PartialRequest, without
from reinit_cli.request.recipe import recipe_of
from reinit_cli.request.request import Request
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.segments import Range
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import shape
from reinit_cli.threads import Progress


@dataclass(frozen=True, slots=True)
class Finding:
    """A mismatch between a checkpoint and its record.

    Attributes:
        what: a key, or a description of another part.
        problem: what is wrong with it.
        gap: how far its values are from those drawn again, or None.
    """

    what: str
    problem: str
    gap: Gap | None = None

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.what} {self.problem}" + (f": {self.gap}" if self.gap else "")


def request_of(
    text: str, output: Source, form: Form, allowed: Sequence[str], given: Given = NOT_GIVEN
) -> Request:
    """Return what would make an output again, as its record says.

    Raises:
        RecipeError: the record names a file elsewhere than in the current folder, or code.
    """
    recipe = without(recipe_of(form, output.name), "output")
    weights = recipe.get("weights") if recipe.get("sources") == (text,) else None
    said: PartialRequest = {"sources": (text,)}
    if given.arch is not None:
        said["arch"] = given.arch
    refuse_code([(output.name, recipe)], said)
    bounds = bounds_of_recipes([(output.name, recipe)], said, allowed)
    again: PartialRequest = {**recipe, **said, "weights": weights, "allow_paths": bounds}
    (request,) = requests_of(again)
    path = output.path or ""
    named = path if not output.is_folder else path.rstrip("/") + "/"
    exact = OutputName(as_form(named), is_exact=True)
    arch = given.arch or architecture_of_record(form)
    arguments = arguments_of_record(form, given) if arch is not None else None
    request = replace(request, output=exact, arch=arch, arch_args=arguments or None, record=False)
    # Records of before configs followed name no member of them that changed.
    keeps = request.keep_config or "config" not in form
    only = _keeps_tensors_only(request, output, form)
    device = redrawing_device(request.device, request.stream)
    return replace(request, device=device, tensors_only=only, keep_config=keeps)


def _keeps_tensors_only(request: Request, output: Source, form: Form) -> bool:
    """Whether an output was to hold the state dict alone.

    Records of before there was such a choice say `drop_non_tensors`, which did nothing where a
    file kept its format, unless a change of dtypes or shapes dropped all else anyway.
    """
    if "tensors_only" in form or output.located is None:
        return request.tensors_only
    is_converted = form["source"].get("format") != output.located.format
    return request.changes_entries or (is_converted and request.tensors_only)


def remade(
    request: Request,
    output: Source,
    contents: Contents,
    form: Form,
    inside: Mapping[str, Recorded],
    progress: Progress,
    found: Source | None = None,
) -> Iterator[Finding]:
    """Make the output again from its source, and compare every byte."""
    check_reads(request)
    source = found or source_for(request)
    source = drawn_from(source, request.stream, versions_in(form))
    job = _job_from(request, source, form)
    if job is None:
        name = repr(form["source"]["name"]) + _version_in(form, source)
        yield Finding(repr(request.called), f"is not the source that was recorded, {name}")
        return
    job = _with_kind(job, output)
    other = _other_shape(job, output)
    if other is not None:
        yield other
        return
    yield from _made_again(job, output, contents, inside, progress)


def _version_in(form: Form, source: Source) -> str:
    """Say which commit a record names, where the source is read at another."""
    commit, read = form["source"].get("commit"), revision_of(source)
    if not isinstance(commit, str) or (read is not None and read.commit == commit):
        return ""
    return f" at the commit {commit}" + (f", and is at {read.commit}" if read is not None else "")


def _with_kind(job: Job, output: Source) -> Job:
    """Return a job that writes new files of the output's kind.

    All torch files were archives before, and files in folders were called as transformers does.
    """
    own = output.format
    is_new = isinstance(job.layout, Created) and job.request.to is None
    if own is None or output.located is None or not is_new:
        return job
    if own.is_folder:
        return replace(job, layout=Created(new_folder(output.located.files[0])))
    new = new_file(own.suffixes[0], own)
    return replace(job, layout=Created(new)) if new is not None else job


def _job_from(request: Request, source: Source, form: Form) -> Job | None:
    """Return the job that a record describes, or None where its source was another one.

    Which files of a folder were copied, and so digested, only the job knows, and the time.
    """
    if isinstance(source, FolderSource):
        before = replace(source, located=copied_before(source.located))
        return _job_from_folder(request, source, form) or _job_from_folder(request, before, form)
    if not _is_recorded(source, request.seed, form):
        return None
    return job_of(request, source, versions_in(form))


def _job_from_folder(request: Request, source: FolderSource, form: Form) -> Job | None:
    try:
        job = job_of(request, source, versions_in(form))
    except ReinitError:
        if not _is_recorded(source, request.seed, form):
            return None
        raise
    return job if _is_recorded(job.source, request.seed, form) else None


def _is_recorded(source: Source, seed: int, form: Form) -> bool:
    recorded = form["source"]
    fetch(source)
    with source.open(seed) as read:
        return digest_of_source(source, read) == (recorded["nbytes"], recorded["sha256"])


def _other_shape(job: Job, output: Source) -> Finding | None:
    """Return the first tensor that a record would make larger or smaller than the output has it.

    A record from a stranger can ask for a draw of hours; what it makes is looked at first.
    """
    found = tensors_of(output)
    for step in job.plan.steps:
        planned = step.tensor
        if planned.carried or not planned.nbytes:
            continue
        there = found.get(planned.key)
        if there is None:
            return Finding(repr(planned.key), "is not there")
        if (there.shape, there.dtype) != (planned.shape, planned.dtype):
            made = f"{planned.dtype} {shape(planned.shape)}"
            return Finding(repr(planned.key), f"is not what the source and the rules give, {made}")
    return None


def _made_again(
    job: Job,
    output: Source,
    contents: Contents,
    inside: Mapping[str, Recorded],
    progress: Progress,
) -> Iterator[Finding]:
    if output.format and output.located and output.located.own_name:
        # It has the name that the file had when it was written.
        name = output.located.own_name + output.format.suffixes[0]
        job = replace(job, destination=Destination(name))
    comparing = ComparingOutput(contents.files(), _all_places(output))
    record = next((recorded.text for recorded in inside.values()), "")
    execute(job, progress, output=comparing, recorder=FixedRecorder(record))
    for name in comparing.unlike:
        yield Finding(
            f"the file {name!r}" if name else "the file", "has another size, or is not there"
        )
    for comparer in comparing.comparers.values():
        for key, gap in comparer.gaps.items():
            yield Finding(repr(key), "is not what the source and the rules give", gap)
        if comparer.other is not None:
            problem = "differs from what the source gives"
            yield Finding(f"the byte at {comparer.other:,} of {comparer.file.path!r}", problem)


def _all_places(output: Source) -> Mapping[str, Sequence[tuple[Range, TensorInfo]]]:
    """Return the places of all tensors, by the file that they lie in."""
    places: dict[str, list[tuple[Range, TensorInfo]]] = {}
    known = output.located.places if output.located else {}
    for tensor in tensors_of(output).values():
        for place in known.get(tensor.key, ()):
            if place.nbytes and not tensor.carried:
                places.setdefault(place.file, []).append((span_of(place), tensor))
    return places


def tensors_of(source: Source) -> Mapping[str, TensorInfo]:
    """Return all tensors of an output by their keys, those outside the state dict included."""
    outside = source.located.outside if source.located else ()
    return {tensor.key: tensor for tensor in (*outside, *source.tensors)}
