"""Sum a plan and its run up in facts: a name and a value each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from reinit_cli.checkpoints.fetching import fetched_of
from reinit_cli.cli.render.facts import place_facts
from reinit_cli.cli.render.table import Cell
from reinit_cli.operations.rewrite import Outcome
from reinit_cli.planning.job import Job
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.tensors.counts import Counts, buffer_keys, count, counted_text
from reinit_cli.text import duration, nbytes, plural, shape

Fact = tuple[str, str | Cell]
"""A name and its value."""

TOOK = "took"
"""The name of the fact that differs from run to run."""


def facts_of(job: Job, outcome: Outcome | None, seconds: float | None = None) -> Iterator[Fact]:
    """Yield facts about a plan and its run.

    Args:
        job: what was planned.
        outcome: what was done, or None for a dry run.
        seconds: how long the command took in all, where that is known.
    """
    plan = job.plan
    buffers = buffers_of(plan)
    yield "unchanged", counted_text(counts_of(unchanged_of(plan), buffers))
    yield "total", counted_text(counts_of(plan.steps, buffers))
    yield from _change_facts(plan)
    yield "seed", f"{plan.request.seed} (stream {plan.request.stream})"
    yield "device", plan.request.device
    weights = job.source.weights
    yield "source", job.source.name + (f", weights {weights}" if weights else "")
    fetched = fetched_of((job.source, *job.references.donors.values()))
    if fetched is not None:
        yield "fetched", f"{nbytes(fetched.nbytes)} in {plural(fetched.requests, 'request')}"
    yield from place_facts(job.source.located)
    if plan.request.check:
        yield "check", _check_fact(plan, outcome)
    yield from _output_facts(job, outcome, seconds)


def _change_facts(plan: Plan) -> Iterator[Fact]:
    """Yield what changes besides what rules fill."""
    resized = [f"{step.key} {shapes_of(step)}" for step in plan.steps if step.was is not None]
    renamed = [names_of(step) for step in plan.steps if step.source_key is not None]
    for what, found in (("renamed", renamed), ("dropped", plan.dropped), ("resized", resized)):
        if found:
            more = f" and {len(found) - 5:,} more" if len(found) > 5 else ""
            yield what, ", ".join(found[:5]) + more
    for file in dict.fromkeys(change.file for change in plan.config):
        yield file, ", ".join(str(change) for change in plan.config if change.file == file)
    if plan.request.reset_buffers:
        reset = sum(
            step.action == "fill" and step.rule is None and not step.head and not step.norm_of
            for step in plan.steps
        )
        yield "buffers", f"{plural(reset, 'running statistic')} reset"
    norms = sum(bool(step.norm_of) for step in plan.steps)
    if norms:
        yield "weight norm", f"{plural(norms, 'tensor')} of norms filled to match what is drawn"
    if plan.slots or plan.numbers or plan.forgotten:
        yield "optimizer", _slots_fact(plan)


def _output_facts(job: Job, outcome: Outcome | None, seconds: float | None) -> Iterator[Fact]:
    output = job.destination.path or "standard output"
    if outcome is None:
        yield "would write", output
    elif outcome.failures:
        yield "output", Cell(f"{output} (not written: the check failed)", "error")
    else:
        yield "output", f"{output} ({nbytes(outcome.nbytes)})"
        work = duration(outcome.seconds)
        took = work if seconds is None else f"{duration(seconds)} (draws and copy {work})"
        yield TOOK, took


def _slots_fact(plan: Plan) -> str:
    """Say how many slots of an optimizer are reset."""
    inits = {step.init.initializer.name for step in plan.slots if step.init is not None}
    has_values = plan.forgotten or any(number.value for number in plan.numbers)
    is_zero = inits <= {"zeros"} and not has_values
    slots = plural(len(plan.slots) + len(plan.numbers) + len(plan.forgotten), "slot")
    return f"{slots} {'zeroed' if is_zero else 'reset'}"


def _check_fact(plan: Plan, outcome: Outcome | None) -> str | Cell:
    odds = f"(threshold p = {plan.least_p:.1e})"
    if outcome is None:
        tests = plural(sum(len(step.statistics) for step in plan.draws), "statistical test")
        return f"{tests} {odds}"
    tests = plural(sum(map(len, outcome.findings.values())), "statistical test")
    if failed := len(outcome.failures):
        return Cell(f"{failed:,} of {tests} failed {odds}", "error")
    return Cell(f"{tests} passed {odds}", "good")


def names_of(step: Step) -> str:
    """Return a step's key, with the old one before it if it changes."""
    before = "" if step.source_key is None else f"{step.source_key} → "
    return before + step.key


def shapes_of(step: Step) -> str:
    """Return a step's shape, with the old one before it if it changes."""
    before = f"{shape(step.was)} → " if step.was is not None else ""
    return before + shape(step.tensor.shape)


def unchanged_of(plan: Plan) -> list[Step]:
    """Return the steps of tensors that get no new values."""
    return [step for step in plan.steps if not step.is_filled and step.action != "resize"]


def buffers_of(plan: Plan) -> frozenset[str]:
    """Return the keys of the buffers among what a plan is about."""
    return buffer_keys([step.tensor for step in plan.steps])


def counts_of(steps: Sequence[Step], buffers: Collection[str]) -> Counts:
    """Count the steps' tensors, those of ties once."""
    repeated = {step.key for step in steps if step.is_repeated}
    counts = count([step.tensor for step in steps], repeated, buffers)
    # A rule on heads fills several parts of a tensor.
    parts = [step.whole_key for step in steps if step.part is not None]
    return replace(counts, tensors=counts.tensors - len(parts) + len({*parts}))
