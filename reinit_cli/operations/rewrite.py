"""Rewrite a checkpoint: plan, run the job, and report what was done."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Protocol, Self, Unpack

from reinit_cli.checkpoints.find import find_source
from reinit_cli.errors import CheckFailedError
from reinit_cli.execution.assemble import files_of
from reinit_cli.execution.checks import Checks, Failure, Finding, failures_of
from reinit_cli.execution.engine import total_nbytes, write_together
from reinit_cli.execution.fill import Filled, Observer
from reinit_cli.execution.sketches import Sketch, Sketches
from reinit_cli.operations.prepare import decide, prepare
from reinit_cli.planning.job import Job
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.provenance.recorder import FixedRecorder, Recorder
from reinit_cli.request.request import PlanOptions, Request, RewriteOptions
from reinit_cli.request.rule import Rule, rules_of
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.local import OutputFile, OutputFolder
from reinit_cli.storage.pipe import SpooledStream, StreamSink
from reinit_cli.storage.segments import Segment, looks_ahead
from reinit_cli.storage.writer import Sink
from reinit_cli.tensors.device import check_device
from reinit_cli.threads import Progress, unwatched


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
    request = job.request
    filled: dict[str, Filled] = {}
    checks, sketches = Checks(job.plan), Sketches(job.pictured)

    def observe(step: Step) -> list[Observer]:
        return [each for each in (checks.observe(step), sketches.observe(step)) if each]

    with (
        job.source.open(request.seed) as contents,
        job.references.opened((step.law for step in job.plan.fills), request.seed) as donors,
    ):
        recorder_ = recorder or Recorder.of(job, contents)
        files = files_of(job, contents, donors, recorder_.blank)
        nbytes = sum(map(total_nbytes, files.values()))
        with sinks or _sinks(job, files, stream) as opened:
            for name, segments in files.items():
                with opened.file(name, total_nbytes(segments)) as sink:
                    filled |= write_together(
                        {name: segments},
                        {name: sink},
                        request.device,
                        progress or unwatched,
                        observe,
                    )
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
    **options: Unpack[RewriteOptions],
) -> Outcome:
    """Re-initialise the tensors that rules choose and write a new checkpoint.

    Args:
        source: a torchvision model's name, or a path.
        rules: `Rule`s or texts such as "features.*.weight=xavier_uniform:relu".
        output: a path, or None for the default name.
        options: see `RewriteOptions`.

    Raises:
        CheckFailedError: a draw does not follow its law; nothing is written then.
        ReinitError: the request cannot be fulfilled; nothing is written then.
    """
    return execute(prepare(Request(source, tuple(rules), output, **options))).insist()


def plan(source: str, rules: Iterable[Rule | str], **options: Unpack[PlanOptions]) -> Plan:
    """Return what `rewrite` would do to every key, without reading a tensor.

    Args:
        source: as for `rewrite`.
        rules: as for `rewrite`.
        options: see `PlanOptions`.

    Raises:
        ReinitError: the request cannot be fulfilled.
    """
    read = rules_of(rules)
    request = Request(source, read, **options)
    found = find_source(source, request.weights, request.root)
    request = replace(request, device=check_device(request.device))
    return decide(found, found.tensors, read, request).plan


def _sinks(job: Job, files: Mapping[str, Sequence[Segment]], stream: BinaryIO | None) -> Sinks:
    if any(files):
        return OutputFolder(job.destination)
    (segments,) = files.values()
    # What is digested when it is whole is kept as long.
    waits = looks_ahead(segments) or bool(job.request.record)
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
