"""Show a plan and what was done by it, as tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from reinit_cli.cli.commands.run.summary import (
    buffers_of,
    counts_of,
    facts_of,
    names_of,
    shapes_of,
)
from reinit_cli.cli.render.facts import described
from reinit_cli.cli.render.table import Cell, Column, Sheet, Value, rounded
from reinit_cli.cli.screen import Style
from reinit_cli.execution.checks import Finding
from reinit_cli.execution.draw import expected_moments
from reinit_cli.execution.measures import Filled
from reinit_cli.lazy import dataclass
from reinit_cli.operations.rewrite import Outcome
from reinit_cli.planning.job import Job
from reinit_cli.planning.match import head_rule
from reinit_cli.planning.notes import skip_notes
from reinit_cli.planning.plan import Action, Plan, Step
from reinit_cli.request.rule import Rule
from reinit_cli.tensors.layers.layer import Told
from reinit_cli.tensors.moments import Moments
from reinit_cli.text import plural

_RULE_COLUMNS = (
    Column("pattern", "key"),
    Column("initializer"),
    Column("tensors", "count"),
    Column("parameters", "count", rank=2),
    Column("bytes", "nbytes", rank=3),
)

_STDS = (Column("expected std", "number", rank=1), Column("std after", "number"))

_RAW_STDS = tuple(
    Column(f"{title} {end}", "number")
    for title in ("expected std", "std after")
    for end in ("min", "max")
)
"""The same for programs: a range is two numbers there."""

_NOTES = Column("notes", "note")

_STEP_COLUMNS = (
    Column("key", "key"),
    Column("action"),
    Column("shape", rank=3),
    Column("dtype", rank=5),
    Column("fan_in", "count", rank=6),
    Column("fan_out", "count", rank=7),
    Column("gain", "number", rank=8),
    Column("bound", "number", rank=9),
    Column("expected std", "number", rank=2),
    Column("std before", "number", rank=4),
    Column("std after", "number"),
    Column("check", rank=1),
)

_STYLES: Mapping[Action, Style] = {
    "fill": "changed",
    "resize": "changed",
    "skip": "warning",
    "keep": "dim",
}


@dataclass(frozen=True, slots=True)
class Range:
    """The standard deviations of several tensors."""

    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Range | None:
        """Return the least and the largest; None where there is none."""
        found = list(values)
        return cls(min(found), max(found)) if found else None

    @property
    def is_one(self) -> bool:
        """Whether a person sees one number."""
        return rounded(self.low) == rounded(self.high)

    @property
    def for_people(self) -> float | str:
        """A number, or two of three digits: "0.012..0.0361"."""
        return self.low if self.is_one else f"{self.low:.3g}..{self.high:.3g}"


def rules_sheet(
    job: Job, outcome: Outcome | None, seconds: float | None = None, *, is_raw: bool = False
) -> Sheet:
    """Return a row for each rule, and facts about the plan.

    Args:
        job: what was planned.
        outcome: what was done, or None for a dry run.
        seconds: how long the command took in all, where that is known.
        is_raw: whether programs read it, for which a range is two numbers.
    """
    filled = outcome.filled if outcome else {}
    plan = job.plan
    buffers = buffers_of(plan)
    rows = [
        _rule_row(rule, steps, shadowed, filled, buffers, is_raw=is_raw)
        for rule, steps, shadowed in (
            *_heads(plan),
            *zip(plan.rules, plan.by_rule(), plan.shadowed, strict=True),
        )
    ]
    columns = (*_RULE_COLUMNS, *(_RAW_STDS if is_raw else _STDS), _NOTES)
    return Sheet(columns, rows, tuple(facts_of(job, outcome, seconds)))


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
        for each in job.plan.steps
        for step in each.shares
        if step.rule is not None
        or step.was is not None
        or step.init is not None
        or step.source_key is not None
    ]
    return Sheet(_STEP_COLUMNS, rows)


def steps_of_all(jobs: Sequence[tuple[Job, Outcome | None]]) -> Sheet:
    """Return the tensors of several inputs in one table, with the input and the seed of each."""
    named = (Column("source", "key"), Column("seed", "count"))
    rows = [
        (job.request.called, str(job.request.seed), *row)
        for job, outcome in jobs
        for row in steps_sheet(job, outcome).rows
    ]
    return Sheet((*named, *_STEP_COLUMNS), rows)


def _verdict(findings: Sequence[Finding]) -> Cell | None:
    failed = [finding.test for finding in findings if not finding.passed]
    if failed:
        return Cell(f"failed: {', '.join(failed)}", "error")
    tests = ", ".join(finding.test for finding in findings)
    return Cell(f"passed: {tests}", "good") if findings else None


def _rule_row(
    rule: Rule,
    steps: Sequence[Step],
    shadowed: int,
    filled: Mapping[str, Filled],
    buffers: Collection[str],
    *,
    is_raw: bool,
) -> tuple[Value | Cell, ...]:
    fills = [step for step in steps if step.action == "fill"]
    counts = counts_of(steps if rule.init.keeps else fills, buffers)
    stds = (_expected(fills), _after(fills, filled))
    return (
        Cell(rule.match, "changed" if fills else "dim"),
        described(rule.init),
        *(counts.tensors, counts.parameters, counts.nbytes),
        *(_ends(stds) if is_raw else [std and std.for_people for std in stds]),
        "; ".join(_notes(rule, steps, shadowed)),
    )


def _ends(stds: Iterable[Range | None]) -> Iterator[float | None]:
    for std in stds:
        yield from (std.low, std.high) if std is not None else (None, None)


def _expected(fills: Sequence[Step]) -> Range | None:
    """Return what the laws of tensors give, which differs where their fans do."""
    moments = (expected_moments(step.follows, step.tensor.numel) for step in fills if step.follows)
    return Range.of(each.std for each in moments if each.numel)


def _after(fills: Sequence[Step], filled: Mapping[str, Filled]) -> Range | None:
    """Return the standard deviation of all tensors together where one law gave them all."""
    parts = [filled[step.seed_key].after for step in fills if step.seed_key in filled]
    parts = [part for part in parts if part.numel]
    expected = _expected(fills)
    if parts and expected is not None and expected.is_one and all(s.follows for s in fills):
        return Range.of([sum(parts, start=Moments()).std])
    return Range.of(part.std for part in parts)


def _std(moments: Moments | None) -> float | None:
    return moments.std if moments is not None and moments.numel else None


def _notes(rule: Rule, steps: Sequence[Step], shadowed: int) -> Iterator[str]:
    yield from _kinds(steps)
    yield from skip_notes(steps)
    if shadowed:
        yield f"{shadowed:,} taken by later rules"
    if rule.pattern.names is not None and not rule.pattern.counts_from_end:
        absent = len(rule.pattern.names) - len(steps) - shadowed
        if absent > 0:
            yield f"{absent:,} of {plural(len(rule.pattern.names), 'name')} not found"
    tied = [step for step in steps if step.tied and step.key == step.seed_key]
    for step in tied:
        yield f"{step.key} also changes {', '.join(step.tied)} (tied)"
    elsewhere = [step for step in steps if step.donor_key]
    for step in elsewhere[:1]:
        more = f", and {plural(len(elsewhere) - 1, 'more key')}" if elsewhere[1:] else ""
        yield f"{step.key} from {step.donor_key}{more}"


_TOLD: Mapping[Told, str] = {
    "architecture": "by the architecture",
    "config": "by config.json",
    "names": "by names and shapes",
    "shapes": "by shapes alone",
}


def _kinds(steps: Sequence[Step]) -> Iterator[str]:
    """Say which kinds of layers a rule takes, and what told them."""
    kinds: dict[Told, dict[str, None]] = {}
    for step in steps:
        if step.layer is not None and step.action in ("fill", "keep"):
            kinds.setdefault(step.layer.told, {})[step.layer.kind] = None
    for told, names in kinds.items():
        yield f"{', '.join(names)} {_TOLD[told]}"


def _step_row(step: Step, filled: Filled | None) -> tuple[Value | Cell, ...]:
    both = step.fans
    style = _STYLES.get(step.action)
    return (
        Cell(names_of(step), style if style != "dim" else None),
        Cell(step.action, style),
        shapes_of(step),
        step.tensor.dtype,
        both.fan_in if both else None,
        both.fan_out if both else None,
        step.gain,
        step.bound,
        step.follows.std if step.follows is not None else None,
        _std(filled.before) if filled else None,
        _std(filled.after) if filled else None,
    )
