"""Run several inputs or seeds in one process: requests become jobs, and jobs outcomes.

All of them are planned before the first byte is written, and no two may have the same output.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import field, replace
from types import MappingProxyType

from reinit_cli.checkpoints.file import StreamSource
from reinit_cli.errors import (
    InputError,
    MissingRuleError,
    OutputError,
    OutputExistsError,
    OutputTakenError,
    OutputUnwritableError,
    PackageError,
    RecipeError,
    ReinitError,
    RuleError,
    SourceError,
    UnknownNameError,
)
from reinit_cli.lazy import dataclass
from reinit_cli.operations import prepare, rewrite
from reinit_cli.operations.bounds import check_url_of_output
from reinit_cli.operations.output_place import (
    existing_output,
    refuse_conflicts,
    takes_outputs,
)
from reinit_cli.operations.rewrite import Outcome, ReportFile
from reinit_cli.planning.job import Job
from reinit_cli.request.output_name import OutputName
from reinit_cli.request.partial import PartialRequest, RequestOptions, without
from reinit_cli.request.ranks import check_ranks
from reinit_cli.request.request import Request
from reinit_cli.storage.destination import InUse, check_new, identity_of, occupant, place_of
from reinit_cli.storage.folders import folders_above
from reinit_cli.storage.local import first_bytes
from reinit_cli.storage.location import DASH, SourceName
from reinit_cli.text import plural, why
from reinit_cli.threads import Progress, Work

MAX_LIST_NBYTES = 64 * 2**20
"""The most bytes of a list of files: a checkpoint that is given by mistake is soon refused."""


MAX_OUTPUTS = 1_000_000
"""The most that one command makes: both sources and seeds may come from a recipe."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An input that could not be rewritten.

    Attributes:
        request: what was asked for.
        error: why not.
    """

    request: Request
    error: ReinitError


@dataclass(frozen=True, slots=True)
class Skipped:
    """An input whose output exists, and which is left alone for that.

    Attributes:
        request: what was asked for.
        path: the output, into which nobody looked.
    """

    request: Request
    path: str


Planned = Job | Skipped | Failure
"""The state of an input before the run."""

Done = Outcome | Skipped | Failure
"""The state of an input after the run."""

Result = Planned | Outcome
"""The state of an input: planned, skipped, failed or done."""


def error_of(result: Result) -> ReinitError | None:
    """Return why an input failed, be it in a test of what was drawn; None if it did not."""
    if isinstance(result, Failure):
        return result.error
    return result.error if isinstance(result, Outcome) else None


def request_of(result: Result) -> Request:
    """Return what was asked for."""
    return result.job.request if isinstance(result, Outcome) else result.request


def read_list(path: str, *, ends_with_nul: bool) -> tuple[str, ...]:
    """Return the paths in a file, or in standard input for "-"; empty lines are ignored.

    Args:
        path: the file.
        ends_with_nul: whether a NUL ends each path instead of a newline.

    Raises:
        SourceError: it cannot be read, or is not a list.
    """
    try:
        data = first_bytes(path, MAX_LIST_NBYTES + 1)
    except (OSError, ValueError) as error:
        raise SourceError(path, f"cannot read the list {path!r}: {why(error)}") from error
    if len(data) > MAX_LIST_NBYTES:
        raise SourceError(path, f"{path!r} is too large for a list of files")
    if not ends_with_nul and b"\0" in data:
        raise SourceError(
            path, f"the list {path!r} has a NUL, which -0 would take as the end of a path"
        )
    return tuple(
        os.fsdecode(part) for part in data.split(b"\0" if ends_with_nul else b"\n") if part
    )


def requests_of(asked: PartialRequest) -> tuple[Request, ...]:
    """Return a request for each source and each seed, in their order.

    Args:
        asked: all that was asked for.

    Raises:
        OutputError, UnknownNameError: the form of the output's name is wrong, or too many
            outputs are asked for.
    """
    sources, seeds = asked.get("sources", ()), asked.get("seeds", (0,))
    if len(sources) * len(seeds) > MAX_OUTPUTS:
        count = f"{plural(len(sources), 'source')} and {plural(len(seeds), 'seed')}"
        raise OutputError("", f"{count} would make more than {MAX_OUTPUTS:,} outputs")
    output: str | OutputName | None = asked.get("output")
    check_url_of_output(output, asked.get("allow_paths", ()))
    if not asked.get("in_place"):
        output = _output(asked, has_seeds=len(seeds) > 1)
    rules = asked.get("rules", ())
    options: RequestOptions = without(asked, "sources", "seeds", "rules", "output")
    return tuple(
        replace(Request(source, rules, output, **options), seed=seed)
        for source in sources
        for seed in seeds
    )


def _output(asked: PartialRequest, *, has_seeds: bool) -> str | OutputName | None:
    """Return the path of every output, or the form of it where they differ."""
    is_new_folder = asked.get("shard_nbytes") is not None or asked.get("to") is not None
    suffix = "" if is_new_folder else "{suffix}"
    output = asked.get("output")
    if isinstance(output, OutputName):
        return output
    if output is None:
        form = f"{{stem}}-reinit-seed{{seed}}{suffix}"
        return OutputName(form, is_beside=True) if has_seeds else None
    if asked.get("to") is not None and output.endswith(os.sep) and len(asked["sources"]) > 1:
        output += "{stem}"  # each is a folder, of which one would have the name
    named = OutputName.parse(output)
    plain = named.of(SourceName("", "", ""), 0)
    if has_seeds and not named.has_seed and takes_outputs(plain, is_form=named.is_form):
        return OutputName(os.path.join(output, f"{{stem}}-seed{{seed}}{suffix}"))
    return named if named.is_form else plain


def plan_batch(
    requests: Sequence[Request],
    *,
    keeps_going: bool = False,
    reads: InUse = MappingProxyType({}),
) -> list[Planned]:
    """Plan every request, and compare the places of the outputs.

    Args:
        requests: what is asked for.
        keeps_going: whether a fault of one input leaves the others alone.
        reads: the files that were read for these requests, such as recipes.

    Raises:
        InputError: one of several inputs cannot be used, and `keeps_going` is not set.
        OutputTakenError: two outputs would go to one place.
        ReinitError: something is wrong with the command as a whole, or with the only input.
    """
    planned: list[Planned] = []
    for request in requests:
        refuse_conflicts(request)
        check_ranks(request, len(requests))
        try:
            planned.append(_planned(request, planned))
        except ReinitError as error:
            if _concerns_all_inputs(error, request):
                raise
            if not keeps_going and len(requests) > 1:
                raise InputError(request.called, error) from error
            if not keeps_going:
                raise
            planned.append(Failure(request, error))
    jobs = [each for each in planned if isinstance(each, Job)]
    for each in planned:
        if isinstance(each, Skipped) and (taken := occupant(each.path, reads)):
            raise OutputTakenError(each.path, taken, kind="read")
    _check_outputs(jobs, reads)
    written = tuple(path for job in jobs for path in job.writes)
    return [replace(each, written=written) if isinstance(each, Job) else each for each in planned]


def _concerns_all_inputs(error: ReinitError, request: Request) -> bool:
    """Whether a fault of one input is a fault of every other."""
    if isinstance(error, MissingRuleError):
        return request.output is None
    options = (
        *("device", "dtype", "float dtype", "architecture"),
        *("timm model", "class", "type of models"),
    )
    is_option = isinstance(error, UnknownNameError) and error.kind in options
    is_arch = isinstance(error, RuleError) and error.kind in ("arch", "arch arguments", "no arch")
    return is_option or is_arch or isinstance(error, (PackageError, RecipeError))


def _planned(request: Request, planned: Sequence[Planned]) -> Job | Skipped:
    """Plan a request; a source that the request before has too is opened once."""
    existing = existing_output(request)
    if existing is not None:
        return Skipped(request, existing)
    last = next((each for each in reversed(planned) if not isinstance(each, Skipped)), None)
    try:
        if not isinstance(last, Job) or last.request.source != request.source:
            return prepare.prepare(request)
        if isinstance(last.source, StreamSource):
            last.source.file.make_seekable()  # it is read more than once
        return prepare.prepare(request, last.source)
    except OutputError as error:
        if not _is_skipped(request, error):
            raise
        return Skipped(request, error.about)


def _is_skipped(request: Request, error: ReinitError) -> bool:
    """Whether an error says that an output exists, and the request skips those."""
    exists = isinstance(error, OutputExistsError) and not error.kind
    is_folder = isinstance(error, OutputUnwritableError) and error.kind == "folder"
    return request.skip_existing and (exists or is_folder)


def _check_outputs(jobs: Sequence[Job], reads: InUse) -> None:
    """Refuse two outputs in one place, and an output in the place of a file that is read.

    Raises:
        OutputTakenError, OutputUnwritableError: there is one.
    """
    taken: dict[str, Job] = {}
    for job in jobs:
        path = job.destination.path
        other = taken.setdefault(DASH if path is None else place_of(path), job)
        if other is not job:
            raise _equal_outputs(other, job)
    readers: dict[tuple[int, int] | str | None, list[Job]] = {}
    for job in jobs:
        _check_not_read(job, reads)
        for identity in {identity_of(path) for path in job.reads} - {None}:
            readers.setdefault(identity, []).append(job)
    for job in jobs:
        path = job.destination.path or ""
        if any(other is not job for other in readers.get(identity_of(path), ())):
            raise OutputUnwritableError(path, "another output is made from it")


def _check_not_read(job: Job, reads: InUse) -> None:
    """Refuse an output or a record in the place of a file that was read for all jobs.

    Raises:
        OutputTakenError: one would be there.
    """
    for path in job.writes:
        if taken := occupant(path, reads):
            kind = "read" if path == job.destination.path else "record"
            raise OutputTakenError(path, taken, kind=kind)


def _equal_outputs(first: Job, second: Job) -> OutputTakenError:
    is_one_source = first.request.source == second.request.source
    is_by_seed = is_one_source and first.request.seed != second.request.seed
    both = " and ".join(_described(job, has_seed=is_one_source) for job in (first, second))
    path = first.destination.path
    place = "standard output" if path is None else repr(second.destination.path)
    problem = f"{both} would both be written to {place}"
    if is_one_source and not is_by_seed:
        problem = f"{_described(second, has_seed=True)} is asked for twice"
        return OutputTakenError(path or DASH, problem, kind="twice")
    return OutputTakenError(path or DASH, problem, kind="seed" if is_by_seed else "output")


def _described(job: Job, *, has_seed: bool) -> str:
    return repr(job.request.called) + (f" with seed {job.plan.request.seed}" if has_seed else "")


def run_batch(
    planned: Sequence[Planned],
    told: Callable[[Done], None],
    progress: Progress,
    *,
    kept: Callable[[Done], None] | None = None,
    keeps_going: bool = False,
    at_once: int = 1,
    report: ReportFile | None = None,
) -> None:
    """Run the jobs of a plan; what is committed stays, whatever happens later.

    Args:
        planned: jobs, and what failed already.
        told: called with every result, in the order of the jobs.
        progress: called with the number of bytes after every write, from any thread.
        kept: called with an outcome before `told`, without a moment in which nobody has it.
        keeps_going: whether more jobs are started after one has failed.
        at_once: how many run side by side.
        report: what is written with the output of a lone job, or None.
    """
    jobs = [each for each in planned if isinstance(each, Job)]
    # Of several ranks, the first makes folders, and the others wait for what is in them.
    destinations = [each for job in jobs if not job.request.rank for each in job.destinations]
    if report is not None:
        destinations.append(report.destination)
    with folders_above(destinations):
        if at_once == 1 or len(jobs) < 2:
            for each in planned:
                result = _executed(each, progress, report, kept)
                told(result)
                if error_of(result) and not keeps_going:
                    return
        else:
            _SideBySide(planned, told, kept, progress, keeps_going).run(at_once)


def _executed(
    planned: Planned,
    progress: Progress,
    report: ReportFile | None = None,
    kept: Callable[[Done], None] | None = None,
) -> Done:
    if not isinstance(planned, Job):
        return planned
    request = planned.request
    try:
        check_new(planned.destination)  # another run may share the work, or wrote it by now
        return rewrite.execute(planned, progress, report=report, kept=kept)
    except ReinitError as error:
        if _is_skipped(request, error):
            return Skipped(request, error.about)
        return Failure(request, error)


@dataclass(slots=True)
class _SideBySide:
    """Run several jobs side by side, and report their results in order."""

    _planned: Sequence[Planned]
    _told: Callable[[Done], None]
    _kept: Callable[[Done], None] | None
    _progress: Progress
    _keeps_going: bool
    _waiting: dict[int, Done] = field(default_factory=dict)
    _next: int = 0

    def run(self, threads: int) -> None:
        """Run everything, and report what was done even if that is not all."""
        try:
            with Work() as work:
                for _, result in work.each(self._run, enumerate(self._planned), threads):
                    self._tell_in_order()
                    if error_of(result) and not self._keeps_going:
                        work.stop()
        finally:
            for at in sorted(self._waiting):
                self._told(self._waiting[at])

    def _run(self, planned: tuple[int, Planned]) -> Done:
        """Run one job, whose result is reported even if nobody waits for it any more."""
        at, job = planned
        result = self._waiting[at] = _executed(job, self._progress)
        return result

    def _tell_in_order(self) -> None:
        """Report the results up to the first that is missing."""
        while self._next in self._waiting:
            if self._kept is not None:
                self._kept(self._waiting[self._next])
            self._told(self._waiting.pop(self._next))
            self._next += 1
