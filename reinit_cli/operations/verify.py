"""Verify a checkpoint against its record: draw again what was filled, digest everything else.

It shows integrity, not authorship: whoever changes a file can write another record for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from reinit_cli.checkpoints.find import find_source
from reinit_cli.checkpoints.formats import new_file
from reinit_cli.checkpoints.formats.base import RECORD_NAME, Recorded, record_text
from reinit_cli.checkpoints.source import Contents, Source
from reinit_cli.errors import (
    RecordError,
    UnknownNameError,
    UnsupportedFormatError,
)
from reinit_cli.operations.batch import requests_of
from reinit_cli.operations.bounds import check_reads
from reinit_cli.operations.prepare import job_of
from reinit_cli.operations.redraw import gaps_of_redrawn, span_of
from reinit_cli.operations.rewrite import execute
from reinit_cli.operations.stats import unmeasurable
from reinit_cli.planning.job import Job
from reinit_cli.planning.output import Created
from reinit_cli.provenance.compare import ComparingOutput, Gap
from reinit_cli.provenance.digests import (
    Ranges,
    digest_of_source,
    digests_of,
    filled_digests,
    joined,
)
from reinit_cli.provenance.record import (
    Form,
    is_whole,
    parse_record,
    torch_version,
    versions_in,
)
from reinit_cli.provenance.recorded import (
    RecordedFill,
    RecordReader,
    architecture_of_record,
)
from reinit_cli.provenance.recorder import FixedRecorder
from reinit_cli.request.named import bounds_of_recipes
from reinit_cli.request.recipe import recipe_of
from reinit_cli.request.request import PartialRequest, Request, without
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.local import InputFile, LocalStore
from reinit_cli.storage.segments import Range
from reinit_cli.tensors.device import check_device
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import shape
from reinit_cli.threads import Progress, unwatched


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was recorded.

    Attributes:
        what: a key, or what else it is.
        problem: what is wrong with it.
        gap: how far its values are from those drawn again, where they were.
    """

    what: str
    problem: str
    gap: Gap | None = None

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.what} {self.problem}" + (f": {self.gap}" if self.gap else "")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found.

    Attributes:
        output: the name of what was verified.
        record: its record.
        drawn: the keys whose tensors were drawn again.
        undrawn: for each other filled key why only its digest was compared.
        findings: what is not as it was recorded, the first first.
        source: the source that was compared too, or None.
    """

    output: str
    record: Form
    drawn: tuple[str, ...]
    undrawn: Mapping[str, str]
    findings: tuple[Finding, ...]
    source: str | None = None

    @property
    def holds(self) -> bool:
        """Whether all is as it was recorded."""
        return not self.findings


def verify(
    output: str,
    *,
    source: str | None = None,
    record: str | None = None,
    progress: Progress | None = None,
    allow_paths: Sequence[str] = (),
) -> Verdict:
    """Draw again what a checkpoint's record says was drawn, and compare all with it.

    Args:
        output: the path of the checkpoint.
        source: what it was made from; then every byte is made again and compared.
        record: the path of the record; None where the checkpoint holds it.
        progress: told the number of bytes that are done.
        allow_paths: the folders, besides the current one, in which the record may name files.

    Raises:
        RecipeError: the record names a file elsewhere.
        RecordError: there is no record, or it cannot be read.
        ReinitError: the checkpoint or the source cannot be read.
    """
    found = find_source(output)
    if found.located is None:
        raise RecordError(output, "it is a model, and no file with a record")
    with found.open(0) as contents:
        inside = contents.recorded() if record is None else {}
        text = _text_of(output, record, inside)
        form = parse_record(text, record or output)
        found = _at_root(found, output, form)
    with found.open(0) as contents:
        verdict = _verified(found, contents, form, inside, progress or unwatched)
        if not is_whole(form, text):
            changed = Finding("the record", "is not as it was written")
            verdict = replace(verdict, findings=(changed, *verdict.findings))
        if source is not None:
            request = _request_of(source, found, form, allow_paths)
            compared = _compared(request, found, contents, form, inside, progress or unwatched)
            findings = (*verdict.findings, *compared)
            verdict = replace(verdict, findings=findings, source=source)
        contents.check_unchanged()
    return verdict


def nbytes_to_verify(output: str, source: str | None) -> int:
    """Return how many bytes `verify` reads of an output, for a progress bar.

    Args:
        output: the path of the checkpoint, which need not exist.
        source: what it is compared with too, which reads it a second time.
    """
    store = LocalStore()
    kind = store.kind_of(output)
    nbytes = 0
    if kind == "folder":
        nbytes = sum(each.fingerprint.nbytes for each in store.list(output).files.values())
    elif kind == "file":
        with InputFile(output) as file:
            nbytes = file.nbytes
    return nbytes if source is None else 2 * nbytes


def _at_root(found: Source, output: str, form: Form) -> Source:
    """Return the output with its state dict where the record says that it is."""
    root = form["source"].get("root")
    if root is None or found.located is None or found.located.root == root:
        return found
    try:
        return find_source(output, root=root or ".")
    except (UnknownNameError, UnsupportedFormatError):
        return found  # it was converted


def _text_of(output: str, path: str | None, inside: Mapping[str, Recorded]) -> str:
    """Return a record as it is written in an output, or in a file next to it."""
    if path is None:
        if not inside:
            raise RecordError(output, "it holds no record of its making")
        (recorded,) = inside.values()
        return recorded.text
    with InputFile(path) as file:
        return record_text(file).removesuffix("\n")


# --- from the record alone -------------------------------------------------------------------


def _verified(
    source: Source,
    contents: Contents,
    form: Form,
    inside: Mapping[str, Recorded],
    progress: Progress,
) -> Verdict:
    rows = {str(row["key"]): row for row in form["filled"]}
    known = _tensors_of(source)
    missing = {key: None for key in rows if key not in known or unmeasurable(known[key])}
    reading = RecordReader(source, form)
    filled = [reading.filled(known[key], row) for key, row in rows.items() if key not in missing]
    again = [each for each in filled if not each.undrawn]
    device = check_device(str(form["device"]))
    gaps = gaps_of_redrawn(contents.files(), again, device, progress)
    findings = [
        *(Finding(repr(key), "was filled, and is not there") for key in missing),
        *_changed(contents, filled, form, inside, gaps),
    ]
    told = {finding.what for finding in findings}
    findings += (
        Finding(repr(key), _otherwise(form), gap)
        for key, gap in gaps.items()
        if repr(key) not in told
    )
    drawn = tuple(each.step.key for each in again)
    undrawn = {each.step.key: each.undrawn for each in filled if each.undrawn}
    return Verdict(source.name, form, drawn, undrawn, tuple(findings))


def _otherwise(form: Form) -> str:
    """Say what a tensor is that is as recorded and comes out otherwise here."""
    problem = "is as recorded, but is drawn otherwise here, as on another kind of CPU"
    here = torch_version()
    return f"{problem} or by torch {form.get('torch')}" if form.get("torch") != here else problem


def _tensors_of(source: Source) -> Mapping[str, TensorInfo]:
    outside = source.located.outside if source.located else ()
    return {tensor.key: tensor for tensor in (*outside, *source.tensors)}


def _changed(
    contents: Contents,
    filled: Sequence[RecordedFill],
    form: Form,
    inside: Mapping[str, Recorded],
    gaps: Mapping[str, Gap],
) -> Iterator[Finding]:
    """Compare the digests with those that were recorded."""
    files = {
        name: digests_of(file.read, _ranges(name, file.nbytes, filled, inside))
        for name, file in contents.files().items()
        if name != RECORD_NAME
    }
    digests = filled_digests(files)
    for each in filled:
        if digests[each.step.key] != each.digest:
            yield Finding(repr(each.step.key), "is not what was recorded", gaps.get(each.step.key))
    rests = {name: (each.nbytes, each.rest) for name, each in files.items()}
    if joined(rests)[1] != form["rest"]["sha256"]:
        yield Finding("what was not filled", "is not what was recorded")


def _ranges(
    name: str, nbytes: int, filled: Sequence[RecordedFill], inside: Mapping[str, Recorded]
) -> Ranges:
    """Return what was filled in a file, and where its record is."""
    places = {
        each.step.key: tuple(sorted(span_of(place) for place in each.places if place.file == name))
        for each in filled
    }
    here = {key: spans for key, spans in places.items() if spans}
    return Ranges(nbytes, here, inside[name].ranges if name in inside else ())


# --- against the source ----------------------------------------------------------------------


def _request_of(text: str, output: Source, form: Form, allowed: Sequence[str]) -> Request:
    """Return what would make an output again, as its record says.

    Raises:
        RecipeError: the record names a file elsewhere than in the current folder.
    """
    recipe = without(recipe_of(form, output.name), "output")
    weights = recipe.get("weights") if recipe.get("sources") == (text,) else None
    said: PartialRequest = {"sources": (text,)}
    bounds = bounds_of_recipes([(output.name, recipe)], said, allowed)
    again: PartialRequest = {**recipe, **said, "weights": weights, "allow_paths": bounds}
    (request,) = requests_of(again, is_batch=False)
    path = output.path or ""
    named = path if not output.is_folder else path.rstrip("/") + "/"
    request = replace(request, output=named, arch=architecture_of_record(form), record=False)
    return replace(request, tensors_only=_keeps_tensors_only(request, output, form))


def _keeps_tensors_only(request: Request, output: Source, form: Form) -> bool:
    """Whether an output was to hold the state dict alone.

    Records of before there was such a choice say `drop_non_tensors`, which did nothing where a
    file kept its format, unless a change of dtypes or shapes dropped all else anyway.
    """
    if "tensors_only" in form or output.located is None:
        return request.tensors_only
    if form["source"].get("format") != output.located.format:
        return request.tensors_only
    return bool(request.dtype or request.reshapes or request.selects)


def _compared(
    request: Request,
    output: Source,
    contents: Contents,
    form: Form,
    inside: Mapping[str, Recorded],
    progress: Progress,
) -> Iterator[Finding]:
    """Make the output again from its source, and compare every byte."""
    check_reads(request)
    source = find_source(request.source, request.weights, request.root)
    with source.open(request.seed) as read:
        digest = digest_of_source(source, read)
    recorded = form["source"]
    if digest != (recorded["nbytes"], recorded["sha256"]):
        problem = f"is not the source that was recorded, {recorded['name']!r}"
        yield Finding(repr(request.source), problem)
        return
    job = _with_kind(job_of(request, source, versions_in(form)), output)
    other = _other_shape(job, output)
    if other is not None:
        yield other
        return
    yield from _made_again(job, output, contents, inside, progress)


def _with_kind(job: Job, output: Source) -> Job:
    """Return a job that writes a new file of the output's kind: all were archives before."""
    own = output.format
    if own is None or own.is_folder or not isinstance(job.layout, Created):
        return job
    new = new_file(own.suffixes[0], own)
    return replace(job, layout=Created(new)) if new is not None else job


def _other_shape(job: Job, output: Source) -> Finding | None:
    """Return the first tensor that a record would make larger or smaller than the output has it.

    A record from a stranger can ask for a draw of hours; what it makes is looked at first.
    """
    found = _tensors_of(output)
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
    for tensor in _tensors_of(output).values():
        for place in known.get(tensor.key, ()):
            if place.nbytes and not tensor.carried:
                places.setdefault(place.file, []).append((span_of(place), tensor))
    return places
