"""What became of several inputs, as one sheet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from reinit_cli.batches import Result, error_of, request_of
from reinit_cli.jobs import Job
from reinit_cli.planning import skip_notes
from reinit_cli.report.rewrites import described
from reinit_cli.report.sheets import Column, Sheet
from reinit_cli.rewriting import Outcome
from reinit_cli.seeds import STREAM
from reinit_cli.text import nbytes, plural

_COLUMNS = (
    Column("source"),
    Column("seed", is_number=True),
    Column("tensors", is_number=True),
    Column("parameters", is_number=True),
    Column("bytes", is_number=True),
    Column("output"),
    Column("notes", is_note=True),
)


def batch_sheet(results: Sequence[Result]) -> Sheet:
    """Return a row for each input and the facts of the whole.

    Args:
        results: what was planned, was done or failed, in their order.
    """
    seeds = {request_of(each).options.seed for each in results}
    rows = [_row(each, has_seed=len(seeds) > 1) for each in results]
    return Sheet(_COLUMNS, rows, tuple(_facts(results))).without_empty_columns()


def counted(results: Iterable[Result], total: int) -> str:
    """Return the last line: "2 of 3 done, 1 failed"."""
    told = list(results)
    failed = sum(error_of(each) is not None for each in told)
    what = "planned" if any(isinstance(each, Job) for each in told) else "done"
    done = f"{len(told) - failed:,} of {total:,} {what}"
    return done + (f", {failed:,} failed" if failed else "")


def _job(result: Result) -> Job | None:
    if isinstance(result, Outcome):
        return result.job
    return result if isinstance(result, Job) else None


def _row(result: Result, *, has_seed: bool) -> tuple[str, ...]:
    request = request_of(result)
    named = (request.source, str(request.options.seed) if has_seed else "")
    if error := error_of(result):
        return (*named, "", "", "", "", f"failed: {error}")
    job = _job(result)
    assert job is not None
    fills = [step.tensor for step in job.plan.steps if step.action == "fill"]
    return (
        *named,
        f"{len(fills):,}",
        f"{sum(tensor.numel for tensor in fills):,}",
        nbytes(sum(tensor.nbytes for tensor in fills)),
        job.destination.path or "standard output",
        "; ".join(skip_notes(job.plan.steps)),
    )


def _facts(results: Sequence[Result]) -> Iterator[tuple[str, str]]:
    jobs = [job for each in results if (job := _job(each)) is not None]
    for plan in [job.plan for job in jobs[:1]]:
        for rule in plan.rules:
            yield "rule", f"{rule.pattern.text} = {described(rule.init)}"
        seeds = dict.fromkeys(str(job.plan.options.seed) for job in jobs)
        yield "seed", f"{', '.join(seeds)} (stream {STREAM})"
        yield "device", plan.options.device
    done = [each for each in results if isinstance(each, Outcome) and not each.error]
    if done:
        total = nbytes(sum(outcome.nbytes for outcome in done))
        yield "total", f"{plural(len(done), 'output')}, {total}"
    elif jobs:
        yield "total", f"{plural(len(jobs), 'output')} (dry run: not written)"
