"""The one story: source → plan → segments → output → outcome."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Protocol, Self

from reinit_cli.architectures import Arch
from reinit_cli.assembling import files_of
from reinit_cli.checking import Checks, Failure, Finding, failures_of
from reinit_cli.deciding import cast, decide
from reinit_cli.drawing import check_device
from reinit_cli.dtypes import dtype_named
from reinit_cli.engine import Filled, Observer, run, total_nbytes
from reinit_cli.errors import (
    CheckFailedError,
    IrrevocableOutputError,
    LossError,
    MissingRuleError,
    OptimizerError,
    OutputUnwritableError,
    UnknownNamesError,
    UnrecordableError,
    UnwritableContentError,
)
from reinit_cli.formats import safetensors, torch_zip
from reinit_cli.formats.hugging_face import SHARD_NBYTES
from reinit_cli.jobs import BESIDE, BESIDE_AS_FOLDER, SUFFIXES, Format, Job, Request
from reinit_cli.names import OutputName
from reinit_cli.output import (
    Destination,
    OutputFile,
    OutputFolder,
    Sink,
    SpooledStream,
    StreamSink,
    check_beside,
    check_destination,
)
from reinit_cli.planning import Options, Plan, Step
from reinit_cli.progress import Progress, unwatched
from reinit_cli.records import FixedRecorder, Recorder
from reinit_cli.resizing import (
    Resize,
)
from reinit_cli.rules import Rule, rules_of
from reinit_cli.segments import (
    Segment,
    looks_ahead,
)
from reinit_cli.sketching import Sketch, Sketches, pictured
from reinit_cli.sources import DASH, Source, find_source
from reinit_cli.tensors import TensorInfo, tied_groups
from reinit_cli.text import plural


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
        others = (job.source.path, job.destination.path)
        check_beside(request.record, others, "record", replaces=request.force)
    return job


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
    tensors = cast(source.tensors, dtype, request.dtype)
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
        files = files_of(job, contents, donors, recorder_.blank)
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
    order = (step.key for step in (*job.plan.steps, *job.plan.beside))
    filled = {key: filled[key] for key in order if key in filled}
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
