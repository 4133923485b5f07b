"""Show several inputs in one table, and count them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from reinit_cli.cli.commands.run.summary import TOOK, Fact, buffers_of, counts_of
from reinit_cli.cli.render.facts import described
from reinit_cli.cli.render.table import Cell, Column, Sheet, Value
from reinit_cli.operations.batch import Result, Skipped, error_of, request_of
from reinit_cli.operations.rewrite import Outcome
from reinit_cli.planning.job import Job
from reinit_cli.planning.match import head_rule
from reinit_cli.planning.notes import skip_notes
from reinit_cli.planning.plan import Plan
from reinit_cli.request.pattern import patterns_of
from reinit_cli.request.rename import renames_of
from reinit_cli.text import duration, nbytes, plural

_COLUMNS = (
    Column("source", "key"),
    Column("seed", "count"),
    Column("result"),
    Column("tensors", "count", rank=3),
    Column("parameters", "count", rank=2),
    Column("bytes", "nbytes", rank=1),
    Column("output", "key"),
    Column("notes", "note"),
)


def inputs_sheet(
    results: Sequence[Result], seconds: float | None = None, *, is_raw: bool = False
) -> Sheet:
    """Return a row for each input, and facts about all of them.

    Args:
        results: what was planned, was done, skipped or failed, in their order.
        seconds: how long the command took in all, where that is known.
        is_raw: whether programs read it, for which the seed is always there.
    """
    has_seed = is_raw or len({request_of(each).seed for each in results}) > 1
    rows = [_row(each, has_seed=has_seed) for each in results]
    return Sheet(_COLUMNS, rows, tuple(_facts(results, seconds)))


def counted(results: Iterable[Result], total: int) -> str:
    """Return the last line: "2 of 4 done, 1 skipped, 1 failed"."""
    found = list(results)
    failed = sum(error_of(each) is not None for each in found)
    skipped = sum(isinstance(each, Skipped) for each in found)
    what = "planned" if any(isinstance(each, Job) for each in found) else "done"
    line = f"{len(found) - failed - skipped:,} of {total:,} {what}"
    line += f", {skipped:,} skipped" if skipped else ""
    return line + (f", {failed:,} failed" if failed else "")


def skipped_line(skipped: Skipped) -> str:
    """Say that a lone input was skipped."""
    return f"skipped: the output {skipped.path!r} exists"


def _job_of(result: Result) -> Job | None:
    if isinstance(result, Outcome):
        return result.job
    return result if isinstance(result, Job) else None


def _row(result: Result, *, has_seed: bool) -> tuple[Value | Cell, ...]:
    request = request_of(result)
    named = (request.called, str(request.seed) if has_seed else None)
    if error := error_of(result):
        return (*named, Cell("failed", "error"), None, None, None, None, str(error))
    if isinstance(result, Skipped):
        return (*named, Cell("skipped", "warning"), None, None, None, result.path, None)
    job = _job_of(result)
    assert job is not None
    fills = [step for step in job.plan.steps if step.is_filled]
    counts = counts_of(fills, buffers_of(job.plan))
    return (
        *named,
        "planned" if isinstance(result, Job) else Cell("done", "good"),
        *(counts.tensors, counts.parameters, counts.nbytes),
        job.destination.path or "standard output",
        "; ".join(skip_notes([share for step in job.plan.steps for share in step.shares])),
    )


def _facts(results: Sequence[Result], seconds: float | None) -> Iterator[Fact]:
    jobs = [job for each in results if (job := _job_of(each)) is not None]
    if jobs:
        yield from _facts_of_all(jobs[0].plan)
        seeds = dict.fromkeys(str(job.plan.request.seed) for job in jobs)
        stream = jobs[0].plan.request.stream
        yield "seed", f"{', '.join(seeds)} (stream {stream})"
        yield "device", jobs[0].plan.request.device
    done = [each for each in results if isinstance(each, Outcome) and not each.error]
    if done:
        total = nbytes(sum(outcome.nbytes for outcome in done))
        yield "total", f"{plural(len(done), 'output')}, {total}"
        if seconds is not None:
            yield TOOK, duration(seconds)
    elif any(isinstance(each, Job) for each in results):
        yield "would write", plural(len(jobs), "output")


def _facts_of_all(plan: Plan) -> Iterator[Fact]:
    """Yield what is asked for of every input."""
    for rule in (*map(head_rule, plan.heads), *plan.rules):
        yield "rule", f"{rule.match} = {described(rule.init)}"
    request = plan.request
    yield from (("rename", each.text) for each in renames_of(request.rename))
    yield from (("drop", each.text) for each in patterns_of(request.drop))
    yield from (("only", each.text) for each in patterns_of(request.only))
