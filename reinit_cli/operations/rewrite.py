"""Rewrite a checkpoint: plan, run the job, and report what was done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import field
from importlib import import_module
from typing import BinaryIO, Self

from reinit_cli.checkpoints.formats import leads_to_others
from reinit_cli.checkpoints.source import Contents, Source
from reinit_cli.errors import CheckFailedError, ReinitError
from reinit_cli.execution.assemble import files_of
from reinit_cli.execution.checks import Failure, Finding, failures_of
from reinit_cli.execution.engine import run, total_nbytes
from reinit_cli.execution.fill import filled_ranges
from reinit_cli.execution.measures import Filled
from reinit_cli.execution.observations import Observations
from reinit_cli.execution.order import files_in_any_order
from reinit_cli.execution.sketches import Sketch
from reinit_cli.lazy import dataclass
from reinit_cli.operations.bounds import check_links
from reinit_cli.operations.devices import with_device
from reinit_cli.operations.downloads import fetch_for
from reinit_cli.operations.masks import masks_of
from reinit_cli.operations.prepare import check_faults, decide, with_state
from reinit_cli.operations.sought import source_for
from reinit_cli.planning.job import Job
from reinit_cli.planning.memory import refuse_too_large
from reinit_cli.planning.plan import Plan
from reinit_cli.provenance.recorder import FixedRecorder, recorder_of
from reinit_cli.request.request import Request
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.location import DASH
from reinit_cli.storage.memory import limits
from reinit_cli.storage.outputs import output_to
from reinit_cli.storage.segments import Segment
from reinit_cli.storage.writer import Output, Writer, naming_written, put_file
from reinit_cli.streams.stream import stream_named
from reinit_cli.text import named, nbytes, plural
from reinit_cli.threads import Progress, made_once, unwatched


@dataclass(frozen=True, slots=True, repr=False)
class Outcome:
    """The result of a run.

    Attributes:
        job: the job, with its plan.
        filled: for each filled key (of ties, the first), statistics of the drawn values, if they
            were measured.
        nbytes: the size of the output.
        seconds: how long it took.
        findings: for each filled key, the results of its tests, if there were any; if one
            failed, there is no output.
        sketches: histograms, for each key that a report needs.
        is_skipped: whether the run was skipped because the output exists.
    """

    job: Job
    filled: Mapping[str, Filled]
    nbytes: int
    seconds: float
    findings: Mapping[str, Sequence[Finding]] = field(default_factory=dict)
    sketches: Mapping[str, Sketch] = field(default_factory=dict)
    is_skipped: bool = False

    def __repr__(self) -> str:
        """Show what was written, and how much of it was filled."""
        written = named(self.job.destination.path or "standard output")
        if self.is_skipped:
            return f"<Outcome {written}: skipped, since it exists>"
        warnings = self.job.plan.warnings
        warned = f", {plural(len(warnings), 'warning')}" if warnings else ""
        return f"<Outcome {written}: {self.job.plan.summary}, {nbytes(self.nbytes)}{warned}>"

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        path = self.job.destination.path or "standard output"
        stds = {key: filled.after.std for key, filled in self.filled.items()}
        title = f"{path}: {self.job.plan.summary}, {nbytes(self.nbytes)}"
        return self.job.plan.as_html(title, stds)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The tests that failed, in the order of the plan."""
        return failures_of(self.job.plan, self.findings)

    @property
    def error(self) -> CheckFailedError | None:
        """The error that lists the tests that failed; None if all passed."""
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


@dataclass(frozen=True, slots=True)
class ReportFile:
    """A report that is written in the same commit as the output.

    Attributes:
        destination: where it goes, checked.
        make: returns its bytes for what was done.
    """

    destination: Destination
    make: Callable[[Outcome], bytes]


def execute(
    job: Job,
    progress: Progress | None = None,
    stream: BinaryIO | None = None,
    output: Output | None = None,
    recorder: FixedRecorder | None = None,
    report: ReportFile | None = None,
    kept: Callable[[Outcome], object] | None = None,
) -> Outcome:
    """Run a prepared job; where a test fails, commit nothing.

    Args:
        job: what to do.
        progress: called with the number of bytes after every write, from any thread.
        stream: where an output without a path goes; None means standard output.
        output: where the files go, instead of to the job's destination.
        recorder: what stands for the job's record.
        report: a report that is to be written, or None.
        kept: takes the outcome over as soon as it is there: until then an interruption says what
            was written, and from then on who took it over.

    Raises:
        ReinitError: the source, the weights or the disk fail; no output is left behind.
    """
    started = time.monotonic()
    request = job.request
    reported = (report.destination.path or DASH,) if report is not None else ()
    seen = Observations(job)
    told = progress or unwatched

    def seal(name: str, writer: Writer) -> bool:
        if seen.have_passed():
            recorder_.seal(name, files[name], filled_ranges(files[name]), writer)
        return not seen.have_failed

    def outcome() -> Outcome:
        seconds = time.monotonic() - started
        return Outcome(job, seen.filled(), nbytes, seconds, seen.findings, seen.sketches())

    def check_sources() -> None:
        written = (*job.writes, *job.written, *reported)
        contents.check_unchanged(written)
        donors.check_unchanged(written)

    with ExitStack() as around, ExitStack() as alone:
        alone.enter_context(telling_ranks([request] if output is None else []))
        _check_memory(job.plan)
        fetch_for(job, progress or unwatched)
        with (
            job.source.open(request.seed) as contents,
            job.references.opened(
                (step.law for step in job.plan.draws),
                request.seed,
                masks_of(job.plan),
                job.plan.taken,
            ) as donors,
        ):
            recorder_ = recorder or recorder_of(job, contents)
            files = files_of(job, contents, donors, recorder_.blank)
            nbytes = sum(map(total_nbytes, files.values()))
            to = output or _output(job, contents, files, stream)
            around.enter_context(naming_written(to))
            # A signal may raise as the first call to close it begins; no other does after it.
            with ExitStack() as backstop, backstop.push(to) as opened:
                alone.pop_all()  # what is opened tells the others itself
                if request.is_shared and output is None:
                    from reinit_cli.operations.ranks import run_part

                    sources = (contents, *donors.contents.values())
                    run_part(job, sources, files, opened, seen, told, recorder_)
                else:
                    run(files, opened, request.device, told, seen, seal)
                if seen.have_failed and not request.rank:
                    return outcome()
                contents.check_unchanged()  # of a pipe, this may wait for its end
                recorder_.write_extra(opened)
                if report is not None:
                    put_file(opened, report.destination, report.make(outcome()))
                opened.commit(check_sources)
        done = outcome()
        if kept is not None:
            kept(done)
    return done


@contextmanager
def telling_ranks(requests: Iterable[Request]) -> Iterator[None]:
    """Let the other ranks know where this one fails before it has met them.

    Args:
        requests: what is asked for; several ranks refuse more than one.
    """
    try:
        yield
    except ReinitError as error:
        shared = next((request for request in requests if request.is_shared), None)
        if shared is not None:
            from reinit_cli.operations.ranks import tell_others

            tell_others(shared, error)
        raise


def _check_memory(plan: Plan) -> None:
    """Refuse what does not fit next to what draws: torch takes much of what `ulimit -v` allows.

    Raises:
        TensorError: a draw needs more memory than is left.
    """
    if plan.fills:
        import_module("torch" if stream_named(plan.request.stream).needs_torch else "numpy")
        refuse_too_large(plan, limits())


def plan_of(request: Request, found: Source | None = None) -> Plan:
    """Return what a run would do to every key, whatever its output.

    Args:
        request: what is asked for; its rules are read.
        found: the request's source where it was found already.

    Raises:
        ReinitError: the request cannot be fulfilled.
    """
    found = found or source_for(request)
    found = with_state(found, request)
    request = with_device(request)
    decided = decide(found, request)
    check_faults(found, request)
    check_links((found, *decided.references.donors.values()), request)
    return decided.plan


def _output(
    job: Job, contents: Contents, files: Mapping[str, Sequence[Segment]], stream: BinaryIO | None
) -> Output:
    if job.request.is_shared:
        from reinit_cli.operations.ranks import output_of

        return output_of(job, contents)

    in_any_order = made_once(lambda: files_in_any_order(files))

    def waits(name: str) -> bool:
        # What is digested when it is whole is kept as long.
        return bool(job.request.record) or name in in_any_order()

    if job.destination.path is not None:
        return output_to(job.destination, contents.modes, waits, leads_to_others)
    from reinit_cli.storage.pipe import PipeOutput, standard_output

    (name,) = files
    return PipeOutput(stream or standard_output(), waits=waits(name))
