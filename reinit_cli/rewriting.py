"""The one story: source → plan → segments → output → outcome."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Protocol, Self
from typing import Literal as OneOf

from reinit_cli.architectures import Arch
from reinit_cli.blocks import rows_of
from reinit_cli.checking import Checks, Failure, Finding, failures_of
from reinit_cli.companions import untied, with_buffers, with_optimizers
from reinit_cli.drawing import check_device
from reinit_cli.dtypes import FLOATS, Dtype, dtype_named
from reinit_cli.engine import Filled, Observer, run, total_nbytes
from reinit_cli.errors import (
    CheckFailedError,
    ClassesError,
    IrrevocableOutputError,
    LossError,
    MissingRuleError,
    OptimizerError,
    OutputUnwritableError,
    ReportIsOutputError,
    UnknownDtypeError,
    UnknownNamesError,
    UnrecordableError,
    UnwritableContentError,
)
from reinit_cli.formats import safetensors, torch_zip
from reinit_cli.formats.hugging_face import SHARD_NBYTES, index_of, split
from reinit_cli.initializers import Transform
from reinit_cli.names import OutputName
from reinit_cli.output import (
    Destination,
    OutputFile,
    OutputFolder,
    Sink,
    SpooledStream,
    StreamSink,
    check_destination,
)
from reinit_cli.patterns import Pattern
from reinit_cli.planning import Options, Plan, Step, make_plan
from reinit_cli.progress import Progress, unwatched
from reinit_cli.records import FixedRecorder, Recorder
from reinit_cli.references import OpenDonors, References, find_references
from reinit_cli.resizing import (
    Resize,
    reshaped,
    resizes_of,
    rows_alone,
    to_shapes,
    with_rows,
)
from reinit_cli.rules import Rule, rules_of
from reinit_cli.segments import (
    Check,
    Copy,
    Fill,
    Literal,
    Recast,
    Reserved,
    Segment,
    View,
    looks_ahead,
)
from reinit_cli.sketching import Sketch, Sketches, pictured
from reinit_cli.sources import DASH, RECORD_FILE, Contents, Source, find_source
from reinit_cli.tensors import TensorInfo, tied_groups
from reinit_cli.text import plural

Format = OneOf["same", "safetensors", "torch", "shards"]
"""same: the source's bytes with tensors replaced; the others: laid out anew."""


_OF_TORCH = {"format": "pt"}
"""What loaders ask of a safetensors file of PyTorch's tensors."""

SUFFIXES = (safetensors.SUFFIX, *torch_zip.SUFFIXES)
"""Those that name a format."""

BESIDE = OutputName("{stem}-reinit{suffix}", is_beside=True)
"""The default name of an output."""

BESIDE_AS_FOLDER = OutputName("{stem}-reinit", is_beside=True)
"""The default name of a folder of shards."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks for.

    Attributes:
        source: a model's name or a path.
        rules: in the order of precedence, the last first to own.
        output: a path, the form of one, "-" for standard output, or None for the default name.
        weights: for a model: "DEFAULT", the name of its weights, "none" or a file.
        options: seed, device and strictness.
        force: whether an existing output is replaced.
        in_place: whether the source is replaced by the output.
        sync: whether a new output too is forced to the disk.
        measure_before: whether the tensors that are filled are measured as they were.
        sketch: whether histograms of what was there and what is drawn are counted.
        root: the path of the state dict in what a torch file holds; None to look for it.
        dtype: what floating tensors are cast to, by torch's name; None to leave them.
        drop_non_tensors: whether what the output's format cannot hold may be lost.
        refuse_unknown_globals: whether names that torch does not allow are an error.
        verify_crc: whether a CRC-32 that does not match stops the run.
        shard_nbytes: write a folder of safetensors files, with so many bytes of tensors in
            each at most; None where the output's name decides.
        arch: the architecture of a checkpoint: a torchvision model's name, or what makes a
            module; None where the source is a model, or no rule asks.
        resize: which tensors get another first dimension, in the order of precedence.
        num_classes: how many classes a model is to tell apart; None for as many as it does.
        record: where a record of what made the output goes: "" is into the output, else a
            path; None for none.
    """

    source: str
    rules: tuple[Rule | str, ...]
    output: str | OutputName | None = None
    weights: str | None = None
    options: Options = field(default_factory=Options)
    force: bool = False
    in_place: bool = False
    sync: bool = False
    measure_before: bool = False
    sketch: bool = False
    root: str | None = None
    dtype: str | None = None
    drop_non_tensors: bool = False
    refuse_unknown_globals: bool = False
    verify_crc: bool = True
    shard_nbytes: int | None = None
    arch: Arch | None = None
    resize: tuple[Resize | str, ...] = ()
    num_classes: int | None = None
    record: str | None = None

    @property
    def reshapes(self) -> bool:
        """Whether tensors are asked to be of other shapes, or in other places."""
        return bool(self.resize) or self.num_classes is not None or self.options.untie


@dataclass(frozen=True, slots=True)
class Job:
    """A request after every check, ready to run.

    Attributes:
        request: what was asked for.
        source: what is read.
        plan: what happens to every key.
        destination: where the output goes.
        format: how it is laid out.
        measure_before: whether the tensors that are filled are measured as they were.
        verify_crc: whether a CRC-32 that does not match stops the run.
        shard_nbytes: of the format "shards", the most bytes of tensors in a file.
        pictured: the filled keys of which histograms are counted.
        references: what the rules refer to beside the source.
    """

    request: Request
    source: Source
    plan: Plan
    destination: Destination
    format: Format
    measure_before: bool = False
    verify_crc: bool = True
    shard_nbytes: int = SHARD_NBYTES
    pictured: frozenset[str] = frozenset()
    references: References = field(default_factory=References)

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors, about those of the output."""
        return sum(tensor.nbytes for tensor in self.source.tensors)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did.

    Attributes:
        job: what was run.
        filled: for each filled key, the moments of what was drawn; of tied keys the first.
        nbytes: the size of the output.
        seconds: how long it took.
        findings: for each filled key, what its tests found, where the plan asks for them;
            if one of them failed, there is no output.
        sketches: for each key of which a picture is wanted, its histograms.
    """

    job: Job
    filled: Mapping[str, Filled]
    nbytes: int
    seconds: float
    findings: Mapping[str, Sequence[Finding]] = field(default_factory=dict)
    sketches: Mapping[str, Sketch] = field(default_factory=dict)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The tests that failed, in the order of the plan."""
        return failures_of(self.job.plan, self.findings)

    @property
    def error(self) -> CheckFailedError | None:
        """What to say of the tests that failed; None where all passed."""
        failures = [str(failure) for failure in self.failures]
        return CheckFailedError(failures) if failures else None

    def insist(self) -> Self:
        """Return the outcome, if every test passed.

        Raises:
            CheckFailedError: one did not; nothing was committed.
        """
        if error := self.error:
            raise error
        return self


def prepare(request: Request, found: Source | None = None) -> Job:
    """Decide everything, without writing a byte.

    Args:
        request: what is asked for.
        found: the request's source where it was found already.

    Raises:
        ReinitError: the request cannot be fulfilled.
    """
    job = job_of(request, found)
    check_destination(job.destination, job.source.path, in_place=request.in_place)
    if request.record:
        _check_record(request, job)
    return job


def _check_record(request: Request, job: Job) -> None:
    """Refuse a record that would take the place of something.

    Raises:
        ReportIsOutputError, OutputError: it would.
    """
    assert request.record
    paths = [path for path in (job.source.path, job.destination.path) if path is not None]
    if any(os.path.abspath(request.record) == os.path.abspath(path) for path in paths):
        raise ReportIsOutputError(request.record)
    check_destination(Destination(request.record, request.force), None, in_place=False)


def job_of(request: Request, found: Source | None = None) -> Job:
    """Return a request after every check but those of the place where the output goes.

    Args and raises: as `prepare`.
    """
    rules = rules_of(request.rules)
    asks = request.dtype or request.shard_nbytes or request.reshapes
    if not (rules or asks or request.output not in (None, DASH)):
        raise MissingRuleError
    dtype = dtype_named(request.dtype) if request.dtype else None
    source = found or find_source(request.source, request.weights, request.root)
    _check_names(source, refuses=request.refuse_unknown_globals)
    options = replace(request.options, device=check_device(request.options.device))
    destination = _destination(request, source)
    format_ = _format(request, destination.path, source)
    if not rules and format_ == "same":
        raise MissingRuleError
    tensors = _cast(source.tensors, dtype, request.dtype)
    decided = decide(source, tensors, rules, options, request)
    plan, references = decided.plan, decided.references
    if options.reset_optimizer and format_ != "same":
        raise OptimizerError(source.name, "it is lost where a file is laid out anew")
    if request.record == "":
        _check_inside(source, destination, format_)
    if options.check and destination.path is None:
        raise IrrevocableOutputError
    notes = (
        *_source_notes(source),
        *_content_notes(
            source,
            tuple(step.tensor for step in plan.steps),
            destination.path,
            format_,
            drops=request.drop_non_tensors,
        ),
    )
    plan = replace(plan, warnings=(*plan.warnings, *notes))
    return Job(
        request,
        source,
        plan,
        destination,
        format_,
        request.measure_before or request.sketch,
        request.verify_crc,
        request.shard_nbytes or SHARD_NBYTES,
        pictured(plan) if request.sketch else frozenset(),
        references,
    )


@dataclass(frozen=True, slots=True)
class Decided:
    """A plan, and what it refers to.

    Attributes:
        plan: what happens to every key.
        references: what the rules refer to beside the source.
    """

    plan: Plan
    references: References


def decide(
    source: Source,
    tensors: tuple[TensorInfo, ...],
    rules: tuple[Rule, ...],
    options: Options,
    request: Request,
) -> Decided:
    """Decide what happens to every key of a source.

    Args:
        source: what is read.
        tensors: its entries, with the dtypes that they are to have.
        rules: in the order of precedence, the last first to own.
        options: see `Options`.
        request: what else is asked for.

    Raises:
        RuleError: a rule, a resize or the optimizer's reset cannot be obeyed.
    """
    located = source.located
    asked = len(rules)
    tensors = untied(tensors) if options.untie else tensors
    tensors, reshapes = reshaped(source.name, tensors, resizes_of(request.resize))
    if request.num_classes is not None:
        heads = heads_of(source, request.arch, request.num_classes)
        tensors, of_heads = to_shapes(tensors, heads, {})
        reshapes = {**reshapes, **of_heads}
        rules = (*(Rule.of(Pattern.escape(key), "default") for key in heads), *rules)
    arch = request.arch or source.architecture
    references = find_references(rules, tensors, arch, (each.init for each in reshapes.values()))
    outside = located.outside if located else ()
    plan = make_plan(source.name, tensors, rules, options, outside, references.elsewhere)
    plan = with_rows(plan, reshapes, references.elsewhere)
    plan = with_buffers(plan) if options.with_buffers else plan
    if options.reset_optimizer:
        plan = with_optimizers(plan, located.optimizers if located else ())
    return Decided(replace(plan, implied=len(rules) - asked), references)


def heads_of(source: Source, arch: Arch | None, num_classes: int) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a model that depend on how many classes it has.

    Args:
        source: the model, or a checkpoint of it.
        arch: the name of the model, where the source is a checkpoint.
        num_classes: how many it is to have.

    Raises:
        ClassesError: the source is no model of classes.
    """
    from reinit_cli.architectures import heads

    name = source.architecture or arch
    if not isinstance(name, str):
        problem = "is a checkpoint: name its model with --arch, or --resize its head"
        raise ClassesError(source.name, problem)
    known = {tensor.key for tensor in source.tensors}
    found = heads(name, num_classes)
    return {key: shape for key, shape in found.items() if key in known}


def _cast(
    tensors: tuple[TensorInfo, ...], dtype: Dtype | None, name: str | None
) -> tuple[TensorInfo, ...]:
    """Return tensors with the dtype that they are to have; only floats change.

    Raises:
        UnknownDtypeError: the dtype is none of floats.
    """
    if dtype is None:
        return tensors
    if dtype.kind != "float":
        raise UnknownDtypeError(str(name), [known.name for known in FLOATS])
    return tuple(
        replace(tensor, dtype=dtype.name, nbytes=tensor.numel * dtype.nbits // 8)
        if tensor.fillable_dtype in FLOATS
        else tensor
        for tensor in tensors
    )


def _check_inside(source: Source, destination: Destination, format_: Format) -> None:
    """Refuse a record in an output that cannot hold one.

    Raises:
        UnwritableContentError: it cannot.
    """
    located = source.located
    is_legacy = located is not None and located.format == "torch legacy"
    if destination.path is None or (format_ == "same" and is_legacy):
        raise UnrecordableError(destination.path or DASH)


def _check_names(source: Source, *, refuses: bool) -> None:
    names = source.located.unknown_names if source.located else ()
    if names and refuses:
        raise UnknownNamesError(source.path or source.name, names)


def _source_notes(source: Source) -> Iterator[str]:
    """Say what a user should know of the file that is read."""
    located = source.located
    if located is None:
        return
    if located.unknown_names:
        names = ", ".join(located.unknown_names[:3])
        more = len(located.unknown_names) - 3
        yield (
            f"the pickle in {source.path!r} names {names}{f' and {more} more' if more > 0 else ''}, "
            "which torch.load refuses by default and would otherwise import"
        )
    if located.has_record:
        yield f"the record in {source.name!r} is of its own making, and is not carried along"
    yield from located.notes


class Sinks(Protocol):
    """Where the files of an output go, as a context manager."""

    def __enter__(self) -> Self:
        """Hand it out."""

    def __exit__(self, *failure: object) -> None:
        """Undo what was not committed."""

    def file(self, name: str, nbytes: int) -> AbstractContextManager[Sink]:
        """Return where one of them goes."""

    def commit(self) -> None:
        """Let all of them appear."""


def execute(
    job: Job,
    progress: Progress | None = None,
    stream: BinaryIO | None = None,
    sinks: Sinks | None = None,
    recorder: FixedRecorder | None = None,
) -> Outcome:
    """Run a prepared job; where a test fails, commit nothing.

    Args:
        job: what to do.
        progress: told the number of bytes after every write, from any thread.
        stream: where an output without a path goes; None means standard output.
        sinks: where the files go, instead of to the job's destination.
        recorder: what stands for the job's record.

    Raises:
        ReinitError: the source, the weights or the disk fail; no output is left behind.
    """
    started = time.monotonic()
    options = job.plan.options
    filled: dict[str, Filled] = {}
    checks, sketches = Checks(job.plan), Sketches(job.pictured)

    def observe(step: Step) -> list[Observer]:
        return [each for each in (checks.observe(step), sketches.observe(step)) if each]

    with (
        job.source.open(options.seed) as contents,
        job.references.opened(job.plan.fills, options.seed) as donors,
    ):
        recorder_ = recorder or Recorder.of(job, contents)
        files = _files(job, contents, donors, recorder_.blank)
        nbytes = sum(map(total_nbytes, files.values()))
        with sinks or _sinks(job, files, stream) as opened:
            for name, segments in files.items():
                with opened.file(name, total_nbytes(segments)) as sink:
                    filled |= run(segments, sink, options.device, progress or unwatched, observe)
                    contents.check_unchanged()
                    donors.check_unchanged()
                    if not checks.have_passed():
                        break
                    recorder_.seal(name, segments, sink)
                    if isinstance(sink, OutputFile):
                        sink.commit()
            else:
                opened.commit()
                recorder_.write_beside()
    seconds = time.monotonic() - started
    return Outcome(job, filled, nbytes, seconds, checks.findings, sketches.sketches())


def rewrite(
    source: str,
    rules: Iterable[Rule | str],
    output: str | None = None,
    *,
    weights: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    strict: bool = False,
    allow_unmatched: bool = False,
    force: bool = False,
    in_place: bool = False,
    sync: bool = False,
    root: str | None = None,
    dtype: str | None = None,
    drop_non_tensors: bool = False,
    refuse_unknown_globals: bool = False,
    verify_crc: bool = True,
    shard_nbytes: int | None = None,
    check: bool = False,
    arch: Arch | None = None,
    resize: Iterable[Resize | str] = (),
    num_classes: int | None = None,
    with_buffers: bool = False,
    untie: bool = False,
    reset_optimizer: bool = False,
    record: str | bool = False,
) -> Outcome:
    """Re-initialise the tensors that rules choose and write a new checkpoint.

    Args:
        source: a torchvision model's name, or a path.
        rules: `Rule`s or texts such as "features.*.weight=xavier_uniform:relu".
        output: a path, or None for the default name.
        weights: for a model: "DEFAULT", the name of its weights, "none" or a file.
        seed: the seed of the whole run; every key has its own stream.
        device: where values are drawn.
        strict: make every skip an error.
        allow_unmatched: let a rule match or fill nothing.
        force: replace an existing output.
        in_place: replace the source.
        sync: force a new output too to the disk.
        root: the path of the state dict in what a torch file holds; None to look for it.
        dtype: cast floating tensors to this dtype.
        drop_non_tensors: lose what the output's format cannot hold.
        refuse_unknown_globals: refuse a pickle with names that torch does not allow.
        verify_crc: stop where a CRC-32 does not match.
        shard_nbytes: write a folder of files with so many bytes of tensors at most.
        check: test each draw against its law, before it is rounded.
        arch: whose constructor `default` follows: a torchvision model's name, or what makes
            a module; None where the source is a model.
        resize: `Resize`s or texts such as "embed.weight=50300:mean": tensors that get another
            first dimension, and what fills rows that were not there.
        num_classes: give a model a head of so many classes, drawn by its own default.
        with_buffers: reset running statistics with the weights beside them.
        untie: make tied keys tensors of their own.
        reset_optimizer: zero the optimizer's slots of what is filled.
        record: write what made the output into it, or to this path.

    Raises:
        CheckFailedError: a draw does not follow its law; nothing is written then.
        ReinitError: the request cannot be fulfilled; nothing is written then.
    """
    request = Request(
        source,
        tuple(rules),
        output,
        weights,
        Options(seed, device, strict, allow_unmatched, check, with_buffers, untie, reset_optimizer),
        force,
        in_place,
        sync,
        root=root,
        dtype=dtype,
        drop_non_tensors=drop_non_tensors,
        refuse_unknown_globals=refuse_unknown_globals,
        verify_crc=verify_crc,
        shard_nbytes=shard_nbytes,
        arch=arch,
        resize=tuple(resize),
        num_classes=num_classes,
        record="" if record is True else record or None,
    )
    return execute(prepare(request)).insist()


def plan(
    source: str,
    rules: Iterable[Rule | str],
    *,
    weights: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    strict: bool = False,
    allow_unmatched: bool = False,
    root: str | None = None,
    arch: Arch | None = None,
    resize: Iterable[Resize | str] = (),
    num_classes: int | None = None,
    with_buffers: bool = False,
    untie: bool = False,
    reset_optimizer: bool = False,
) -> Plan:
    """Return what `rewrite` would do to every key, without reading a tensor.

    Args and raises: as `rewrite`.
    """
    found = find_source(source, weights, root)
    options = Options(
        seed,
        check_device(device),
        strict,
        allow_unmatched,
        with_buffers=with_buffers,
        untie=untie,
        reset_optimizer=reset_optimizer,
    )
    read = rules_of(rules)
    request = Request(source, read, arch=arch, resize=tuple(resize), num_classes=num_classes)
    return decide(found, found.tensors, read, options, request).plan


def _destination(request: Request, source: Source) -> Destination:
    if request.in_place:
        if source.path is None or source.is_folder or request.output is not None:
            problem = "in place means a file as source and no other output"
            raise OutputUnwritableError(_named(request, source), problem)
        return Destination(source.path, replaces=True, syncs=True)
    path = _named(request, source)
    if path == DASH:
        return Destination(None)
    makes_folders = isinstance(request.output, OutputName)
    return Destination(path, request.force, request.sync, makes_folders)


def _named(request: Request, source: Source) -> str:
    """Return the path of the output; what comes out of a pipe goes into one."""
    if isinstance(request.output, str):
        return request.output
    if request.output is None and source.name == DASH:
        return DASH
    default = BESIDE if request.shard_nbytes is None else BESIDE_AS_FOLDER
    return (request.output or default).of(source.called, request.options.seed)


def _format(request: Request, path: str | None, source: Source) -> Format:
    """Choose the format by the suffix; a file's own format keeps its layout."""
    suffix = os.path.splitext(path or "")[1].lower()
    own = source.located.format if source.located else ""
    is_laid_out = request.dtype is not None or request.reshapes or not own
    if _is_folder(request, path, source):
        if path is None or request.in_place or suffix in SUFFIXES:
            problem = "shards go into a folder: name one without a suffix such as .pt"
            raise OutputUnwritableError(path or DASH, problem)
        is_same = source.is_folder and not is_laid_out and request.shard_nbytes is None
        return "same" if is_same else "shards"
    if source.is_folder:
        return "safetensors" if suffix == safetensors.SUFFIX else "torch"
    if request.in_place or path is None:
        suffix = torch_zip.SUFFIXES[0] if own.startswith("torch") else safetensors.SUFFIX
    if suffix == safetensors.SUFFIX:
        return "same" if own == "safetensors" and not is_laid_out else "safetensors"
    if suffix in torch_zip.SUFFIXES:
        return "same" if own.startswith("torch") and not is_laid_out else "torch"
    if source.path and suffix == os.path.splitext(source.path)[1].lower() and not is_laid_out:
        return "same"
    problem = f"its suffix names no format; known are {', '.join(SUFFIXES)}, or a folder/"
    raise OutputUnwritableError(path or DASH, problem)


def _is_folder(request: Request, path: str | None, source: Source) -> bool:
    if request.shard_nbytes is not None or (path or "").endswith(os.sep):
        return True
    return source.is_folder and os.path.splitext(path or "")[1].lower() not in SUFFIXES


def _content_notes(
    source: Source,
    tensors: tuple[TensorInfo, ...],
    path: str | None,
    format_: Format,
    *,
    drops: bool,
) -> Iterator[str]:
    """Say what the format of a new file changes.

    Args:
        source: what is read.
        tensors: its entries as they are written.
        path: the output, or None for standard output.
        format_: how it is laid out.
        drops: whether what it cannot hold may be lost.

    Raises:
        UnwritableContentError: it cannot hold an entry.
        LossError: it cannot hold what lies beside the tensors.
    """
    if format_ != "same" and source.located and source.located.attributes:
        yield f"dropped, since it is no tensor: {', '.join(source.located.attributes)}"
    if format_ in ("safetensors", "shards"):
        rest = source.located.rest if source.located else ()
        beyond = [tensor for tensor in source.tensors if not safetensors.holds(tensor)]
        beyond = [tensor for tensor in beyond if not (rest and tensor.is_no_tensor)]
        if beyond:
            raise UnwritableContentError(path or DASH, _some(beyond), ".pt")
        if rest and not drops:
            raise LossError(path or DASH, rest)
        if rest:
            yield f"dropped, since safetensors holds tensors only: {', '.join(rest)}"
        yield from _written_twice(tensors)
    elif format_ == "torch" and source.located is not None:
        rest = source.located.rest
        beyond = [tensor for tensor in source.tensors if not _torch_has(tensor)]
        if beyond:
            raise UnwritableContentError(path or DASH, _some(beyond), safetensors.SUFFIX)
        if rest and not drops:
            raise LossError(path or DASH, rest)
        if rest:
            yield f"dropped, since the file is written anew: {', '.join(rest)}"
        lost = [name for name in source.metadata if name not in ("format", safetensors.RECORD)]
        if lost:
            yield f"the metadata of {source.name} is not carried along: {', '.join(lost)}"


def _torch_has(tensor: TensorInfo) -> bool:
    """Whether a file laid out anew can hold it: F4 and F6 of safetensors have no torch name."""
    return tensor.is_no_tensor or (tensor.dtype.islower() and not tensor.carried)


def _some(tensors: Sequence[TensorInfo]) -> str:
    first = tensors[0]
    more = f" and {plural(len(tensors) - 1, 'other entry')}" if len(tensors) > 1 else ""
    return f"{first.key!r}, {first.carried or 'of dtype ' + first.dtype}{more}"


def _written_twice(tensors: tuple[TensorInfo, ...]) -> Iterator[str]:
    for group in dict.fromkeys(tied_groups(tensors).values()):
        keys = " and ".join(map(repr, group))
        yield f"{keys} are one tensor; a safetensors file holds it under each name"


def _files(
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
        state = contents.state_dict(tensors)
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
    if view.stride is None and view.dtype == wanted.dtype:
        return view.place
    return Recast(view, wanted.dtype, wanted.nbytes)


def _placed(
    step: Step, original: TensorInfo, contents: Contents, fills: Mapping[str, Fill]
) -> tuple[Segment, ...]:
    """Return the bytes of a tensor in a file that is laid out anew."""
    if step.action == "fill":
        return (fills[step.key],)
    if step.action != "resize":
        return (_contiguous(contents.view(original), step.tensor),)
    kept = replace(step.tensor, shape=(step.kept_rows, *step.tensor.shape[1:]))
    nbytes = step.tensor.nbytes // max(1, step.tensor.shape[0]) * step.kept_rows
    kept = replace(kept, nbytes=nbytes)
    there = contents.view(original)
    old = _contiguous(rows_of(there, step.kept_rows), kept)
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


def _sinks(job: Job, files: Mapping[str, Sequence[Segment]], stream: BinaryIO | None) -> Sinks:
    if any(files):
        return OutputFolder(job.destination)
    (segments,) = files.values()
    # What is digested when it is whole is kept as long.
    waits = looks_ahead(segments) or job.request.record is not None
    return _Lone(job.destination, stream, waits)


@dataclass(frozen=True, slots=True)
class _Lone:
    """An output of one file, or a stream."""

    destination: Destination
    stream: BinaryIO | None
    waits: bool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        """The file undoes itself."""

    @contextmanager
    def file(self, name: str, nbytes: int) -> Iterator[Sink]:
        del name
        if self.destination.path is not None:
            with OutputFile(self.destination, nbytes) as file:
                yield file
            return
        out = self.stream or sys.stdout.buffer
        with SpooledStream(out) if self.waits else StreamSink(out) as sink:
            yield sink

    def commit(self) -> None:
        """The file has been committed itself."""
