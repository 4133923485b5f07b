"""Show a plan and what was done by it, as tables and pages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from reinit_cli.cli.render.facts import described, place_facts
from reinit_cli.cli.render.html import Page, without_folders
from reinit_cli.cli.render.overview import spreads_of_rewrite
from reinit_cli.cli.render.panels import panels_of_rewrite
from reinit_cli.cli.render.table import Column, Sheet
from reinit_cli.execution.checks import Finding
from reinit_cli.execution.draw import expected_moments
from reinit_cli.execution.fill import Filled
from reinit_cli.operations.batch import Result, Skipped, error_of, request_of
from reinit_cli.operations.rewrite import Outcome
from reinit_cli.planning.job import Job
from reinit_cli.planning.match import head_rule
from reinit_cli.planning.notes import skip_notes
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.request.pattern import patterns_of
from reinit_cli.request.rename import renames_of
from reinit_cli.request.rule import Rule
from reinit_cli.streams.torch import STREAM
from reinit_cli.tensors.counts import Counts, buffer_keys, count, counted_text
from reinit_cli.tensors.moments import Moments
from reinit_cli.text import nbytes, number, plural, shape

_RULE_COLUMNS = (
    Column("pattern"),
    Column("initializer"),
    Column("tensors", is_number=True),
    Column("parameters", is_number=True),
    Column("bytes", is_number=True),
    Column("expected std", is_number=True),
    Column("drawn std", is_number=True),
    Column("notes", is_note=True),
)


_STEP_COLUMNS = (
    Column("key"),
    Column("action"),
    Column("shape"),
    Column("dtype"),
    Column("fan_in", is_number=True),
    Column("fan_out", is_number=True),
    Column("gain", is_number=True),
    Column("bound", is_number=True),
    Column("expected std", is_number=True),
    Column("std before → after", is_number=True),
    Column("check"),
)


def rules_sheet(job: Job, outcome: Outcome | None) -> Sheet:
    """Return a row for each rule, and facts about the plan.

    Args:
        job: what was planned.
        outcome: what was done, or None for a dry run.
    """
    filled = outcome.filled if outcome else {}
    plan = job.plan
    buffers = _buffers(plan)
    rows = [
        _rule_row(rule, steps, shadowed, filled, buffers)
        for rule, steps, shadowed in (
            *_heads(plan),
            *zip(plan.rules, plan.by_rule(), plan.shadowed, strict=True),
        )
    ]
    return Sheet(_RULE_COLUMNS, rows, tuple(_facts(job, outcome))).without_empty_columns()


def _heads(plan: Plan) -> Iterator[tuple[Rule, Sequence[Step], int]]:
    """Yield what fills a new head of classes, as rules, and what each of them fills."""
    owned: dict[str, list[Step]] = {key: [] for key in plan.heads}
    for step in plan.steps:
        if step.head:
            owned[step.head].append(step)
    for key, steps in owned.items():
        yield head_rule(key), steps, 0 if steps else 1


def steps_sheet(job: Job, outcome: Outcome | None) -> Sheet:
    """Return a row for each tensor that a rule owns, or that is changed otherwise."""
    filled = outcome.filled if outcome else {}
    findings = outcome.findings if outcome else {}
    rows = [
        (
            *_step_row(step, filled.get(step.seed_key)),
            _verdict(findings.get(step.seed_key, ())),
        )
        for step in job.plan.steps
        if step.rule is not None
        or step.was is not None
        or step.init is not None
        or step.source_key is not None
    ]
    return Sheet(_STEP_COLUMNS, rows).without_empty_columns()


def _verdict(findings: Sequence[Finding]) -> str:
    failed = [finding.test for finding in findings if not finding.passed]
    if failed:
        return f"failed: {', '.join(failed)}"
    return f"passed: {', '.join(finding.test for finding in findings)}" if findings else ""


def page_of_rewrite(outcome: Outcome) -> Page:
    """Return a run as a page that is the same in every run and folder."""
    job = outcome.job
    paths = (job.source.path, job.source.name, job.destination.path)
    rules = rules_sheet(job, outcome)
    facts = [(name, value) for name, value in rules.plain_facts if name != "seconds"]
    panels = list(panels_of_rewrite(outcome))
    return Page(
        "reinit run",
        without_folders(job.source.name, paths),
        [(name, without_folders(value, paths)) for name, value in facts],
        [without_folders(warning, paths) for warning in job.plan.warnings],
        [("Rules", rules), ("Tensors", steps_sheet(job, outcome))],
        panels,
        len(job.plan.fills),
        list(spreads_of_rewrite(outcome)),
    )


def _rule_row(
    rule: Rule,
    steps: Sequence[Step],
    shadowed: int,
    filled: Mapping[str, Filled],
    buffers: Collection[str],
) -> tuple[str, ...]:
    fills = [step for step in steps if step.action == "fill"]
    expected = _merged(
        expected_moments(step.follows, step.tensor.numel) for step in fills if step.follows
    )
    drawn = _merged(filled[step.seed_key].after for step in fills if step.seed_key in filled)
    counts = _counts(steps if rule.init.keeps else fills, buffers)
    return (
        rule.pattern.text,
        described(rule.init),
        *_amounts(counts),
        _std(expected),
        _std(drawn),
        "; ".join(_notes(rule, steps, shadowed)),
    )


def _merged(parts: Iterable[Moments]) -> Moments:
    return sum(parts, start=Moments())


def _names(step: Step) -> str:
    """Return a step's key, with the old one before it if it changes."""
    before = "" if step.source_key is None else f"{step.source_key} → "
    return before + step.key


def _shapes(step: Step) -> str:
    """Return a step's shape, with the old one before it if it changes."""
    before = f"{shape(step.was)} → " if step.was is not None else ""
    return before + shape(step.tensor.shape)


def _std(moments: Moments | None) -> str:
    return number(moments.std) if moments is not None and moments.numel else ""


def _notes(rule: Rule, steps: Sequence[Step], shadowed: int) -> Iterator[str]:
    yield from skip_notes(steps)
    if shadowed:
        yield f"{shadowed:,} owned by later rules"
    if rule.pattern.names is not None and not rule.pattern.counts_from_end:
        absent = len(rule.pattern.names) - len(steps) - shadowed
        if absent > 0:
            yield f"{absent:,} of {plural(len(rule.pattern.names), 'name')} not there"
    tied = [step for step in steps if step.tied and step.key == step.seed_key]
    for step in tied:
        yield f"{step.key} also changes {', '.join(step.tied)} (tied)"
    elsewhere = [step for step in steps if step.donor_key]
    for step in elsewhere[:1]:
        more = f", and {plural(len(elsewhere) - 1, 'more key')}" if elsewhere[1:] else ""
        yield f"{step.key} from {step.donor_key}{more}"


def _facts(job: Job, outcome: Outcome | None) -> Iterator[tuple[str, str]]:
    plan = job.plan
    buffers = _buffers(plan)
    untouched = [step for step in plan.steps if step.action not in ("fill", "resize")]
    yield "untouched", counted_text(_counts(untouched, buffers))
    yield "total", counted_text(_counts(plan.steps, buffers))
    resized = [f"{step.key} {_shapes(step)}" for step in plan.steps if step.was is not None]
    renamed = [_names(step) for step in plan.steps if step.source_key is not None]
    for what, found in (("renamed", renamed), ("dropped", plan.dropped), ("resized", resized)):
        if found:
            more = f" and {len(found) - 5:,} more" if len(found) > 5 else ""
            yield what, ", ".join(found[:5]) + more
    for file in dict.fromkeys(change.file for change in plan.config):
        yield file, ", ".join(str(change) for change in plan.config if change.file == file)
    if plan.request.with_buffers:
        reset = sum(
            step.action == "fill" and step.rule is None and not step.head and not step.norm_of
            for step in plan.steps
        )
        yield "buffers", f"{plural(reset, 'running statistic')} reset"
    norms = sum(bool(step.norm_of) for step in plan.steps)
    if norms:
        yield "weight norm", f"{plural(norms, 'tensor')} of norms filled with what is drawn"
    if plan.slots or plan.numbers or plan.forgotten:
        yield "optimizer", _slots_fact(plan)
    yield "seed", f"{plan.request.seed} (stream {STREAM.name})"
    yield "device", plan.request.device
    weights = job.source.weights
    yield "source", job.source.name + (f", weights {weights}" if weights else "")
    yield from place_facts(job.source.located)
    output = job.destination.path or "standard output"
    if plan.request.check:
        yield "check", _check_fact(plan, outcome)
    if outcome is None:
        yield "output", f"{output} (dry run: not written)"
    elif outcome.failures:
        yield "output", f"{output} (not written: the check failed)"
    else:
        yield "output", f"{output} ({nbytes(outcome.nbytes)})"
        yield "seconds", f"{outcome.seconds:.1f}"


def _slots_fact(plan: Plan) -> str:
    """Say how many slots of an optimizer are reset."""
    inits = {step.init.initializer.name for step in plan.slots if step.init is not None}
    has_values = plan.forgotten or any(number.value for number in plan.numbers)
    is_zero = inits <= {"zeros"} and not has_values
    count = plural(len(plan.slots) + len(plan.numbers) + len(plan.forgotten), "slot")
    return f"{count} {'zeroed' if is_zero else 'reset'}"


def _check_fact(plan: Plan, outcome: Outcome | None) -> str:
    odds = f"p below {plan.least_p:.1e} would fail"
    if outcome is None:
        return f"{plural(sum(len(step.statistics) for step in plan.fills), 'statistic')}, {odds}"
    count = sum(map(len, outcome.findings.values()))
    failed = len(outcome.failures)
    said = (
        f"{failed:,} of {plural(count, 'test')} failed"
        if failed
        else f"{plural(count, 'test')} passed"
    )
    return f"{said}, {odds}"


def _buffers(plan: Plan) -> frozenset[str]:
    """Return the keys of the buffers among what a plan is about."""
    return buffer_keys([step.tensor for step in plan.steps])


def _counts(steps: Sequence[Step], buffers: Collection[str]) -> Counts:
    """Count the steps' tensors, those of ties once."""
    repeated = {step.key for step in steps if step.is_repeated}
    return count([step.tensor for step in steps], repeated, buffers)


def _amounts(counts: Counts) -> tuple[str, str, str]:
    """Return the tensors, parameters and bytes of a row."""
    return f"{counts.tensors:,}", f"{counts.parameters:,}", nbytes(counts.nbytes)


def _step_row(step: Step, filled: Filled | None) -> tuple[str, ...]:
    both = step.fans
    gain = step.gain
    return (
        _names(step),
        step.action,
        _shapes(step),
        step.tensor.dtype,
        f"{both.fan_in:,}" if both else "",
        f"{both.fan_out:,}" if both else "",
        number(gain) if gain is not None else "",
        number(step.bound) if step.bound is not None else "",
        number(step.follows.std) if step.follows is not None else "",
        " → ".join(filter(None, map(_std, (filled.before, filled.after)))) if filled else "",
    )


_BATCH_COLUMNS = (
    Column("source"),
    Column("seed", is_number=True),
    Column("tensors", is_number=True),
    Column("parameters", is_number=True),
    Column("bytes", is_number=True),
    Column("output"),
    Column("notes", is_note=True),
)


def batch_sheet(results: Sequence[Result]) -> Sheet:
    """Return a row for each input, and facts about all of them.

    Args:
        results: what was planned, was done or failed, in their order.
    """
    seeds = {request_of(each).seed for each in results}
    rows = [_batch_row(each, has_seed=len(seeds) > 1) for each in results]
    return Sheet(_BATCH_COLUMNS, rows, tuple(_batch_facts(results))).without_empty_columns()


def counted(results: Iterable[Result], total: int) -> str:
    """Return the last line: "2 of 3 done, 1 failed"."""
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


def _batch_row(result: Result, *, has_seed: bool) -> tuple[str, ...]:
    request = request_of(result)
    named = (request.source, str(request.seed) if has_seed else "")
    if error := error_of(result):
        return (*named, "", "", "", "", f"failed: {error}")
    if isinstance(result, Skipped):
        return (*named, "", "", "", result.path, "skipped: the output exists")
    job = _job_of(result)
    assert job is not None
    fills = [step for step in job.plan.steps if step.action == "fill"]
    return (
        *named,
        *_amounts(_counts(fills, _buffers(job.plan))),
        job.destination.path or "standard output",
        "; ".join(skip_notes(job.plan.steps)),
    )


def _batch_facts(results: Sequence[Result]) -> Iterator[tuple[str, str]]:
    jobs = [job for each in results if (job := _job_of(each)) is not None]
    for plan in [job.plan for job in jobs[:1]]:
        for rule in (*map(head_rule, plan.heads), *plan.rules):
            yield "rule", f"{rule.pattern.text} = {described(rule.init)}"
        request = plan.request
        yield from (("rename", each.text) for each in renames_of(request.rename))
        yield from (("drop", each.text) for each in patterns_of(request.drop))
        yield from (("only", each.text) for each in patterns_of(request.only))
        seeds = dict.fromkeys(str(job.plan.request.seed) for job in jobs)
        yield "seed", f"{', '.join(seeds)} (stream {STREAM.name})"
        yield "device", plan.request.device
    done = [each for each in results if isinstance(each, Outcome) and not each.error]
    if done:
        total = nbytes(sum(outcome.nbytes for outcome in done))
        yield "total", f"{plural(len(done), 'output')}, {total}"
    elif jobs:
        yield "total", f"{plural(len(jobs), 'output')} (dry run: not written)"
