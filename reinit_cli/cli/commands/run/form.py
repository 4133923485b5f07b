"""Give the JSON form of a plan and of its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.fetching import fetched_of
from reinit_cli.cli.commands.run.summary import buffers_of, counts_of, unchanged_of
from reinit_cli.cli.render.json import VERSION, moments_form
from reinit_cli.planning.output import layout_form, root_form
from reinit_cli.provenance.record import config_form, laws_form, revision_form
from reinit_cli.request.request import options_form

if TYPE_CHECKING:
    from reinit_cli.execution.checks import Finding
    from reinit_cli.execution.measures import Filled
    from reinit_cli.initializers import Law
    from reinit_cli.operations.batch import Failure, Skipped
    from reinit_cli.operations.rewrite import Outcome
    from reinit_cli.planning.job import Job
    from reinit_cli.planning.plan import Plan, Step


def job_form(job: Job, outcome: Outcome | None) -> dict[str, Any]:
    """Return the JSON form of a plan and of its run, which as a recipe does the same again.

    Args:
        job: what was planned.
        outcome: what was done, or None for a dry run.
    """
    plan = job.plan
    located = job.source.located
    filled = outcome.filled if outcome else {}
    findings = outcome.findings if outcome else {}
    fetched = fetched_of((job.source, *job.references.donors.values()))
    form = {
        "version": VERSION,
        "stream": plan.request.stream,
        **laws_form(plan, job.source),
        **options_form(job.request),
        **layout_form(job.request, job.source, job.layout),
        "source": {
            "name": job.source.name,
            **revision_form(job.source),
            "path": job.source.path,
            "weights": job.source.weights,
            "format": located.format if located else None,
            "root": root_form(job.request, job.source),
            "networks": [each._asdict() for each in located.neighbors] if located else [],
        },
        **({"fetched": fetched._asdict()} if fetched is not None else {}),
        "output": {
            "path": job.destination.path,
            "nbytes": outcome.nbytes if outcome and not outcome.failures else None,
        },
        "rule": [rule.serial() for rule in plan.rules],
        "tensors": [
            step_form(step, filled.get(step.seed_key))
            | _findings_form(findings.get(step.seed_key, ()))
            | _parts_form(step.patches, filled, findings)
            for step in plan.steps
        ],
        **({"dropped": plan.dropped} if plan.dropped else {}),
        "beside": [
            *(step.key for step in plan.slots),
            *(number.at.path for number in plan.numbers),
            *plan.forgotten,
        ],
        **config_form(plan),
        **_counts_form(plan),
        "check": _check_form(plan) if plan.request.check else None,
        "warnings": list(plan.warnings),
        "dry_run": outcome is None,
    }
    return form | ({"seconds": outcome.seconds} if outcome else {})


def _counts_form(plan: Plan) -> dict[str, Any]:
    """Return how much there is, and how much of it stays as it is."""
    buffers = buffers_of(plan)
    return {
        "total": asdict(counts_of(plan.steps, buffers)),
        "unchanged": asdict(counts_of(unchanged_of(plan), buffers)),
    }


def failure_form(failure: Failure) -> dict[str, Any]:
    """Return the JSON form of an input that failed."""
    return {
        "version": VERSION,
        "seed": failure.request.seed,
        "source": {"name": failure.request.called},
        "error": str(failure.error),
    }


def skipped_form(skipped: Skipped) -> dict[str, Any]:
    """Return the JSON form of an input that was skipped, since its output exists."""
    return {
        "version": VERSION,
        "seed": skipped.request.seed,
        "source": {"name": skipped.request.called},
        "output": {"path": skipped.path},
        "skipped": True,
    }


def step_form(step: Step, filled: Filled | None) -> dict[str, Any]:
    """Return the JSON form of a step, and of what was drawn for it."""
    form: dict[str, Any] = {
        "key": step.key,
        "shape": step.tensor.shape,
        "dtype": step.tensor.dtype,
        "nbytes": step.tensor.nbytes,
        "action": "fill" if step.is_filled else step.action,
        "rule": step.rule,
    }
    if step.source_key is not None:
        form["source_key"] = step.source_key
    if step.was is not None:
        form["was"] = step.was
    if step.reason:
        form["reason"] = step.reason
    if step.tied:
        form["tied"] = step.tied
    if step.layer is not None:
        form["layer"] = {"kind": step.layer.kind, "told": step.layer.told}
    if step.norm_of:
        form["norm_of"] = step.norm_of
    if step.law is not None:
        both = step.fans
        form |= {
            "seed": step.seed_form,
            "seed_key": step.drawn_from,
            "fan_in": both.fan_in if both else None,
            "fan_out": both.fan_out if both else None,
            "gain": step.gain,
            "law": _law_form(step.follows) if step.follows is not None else None,
        }
    if step.donor_key:
        form["from"] = step.donor_key
    if filled is not None and step.action in ("fill", "resize"):
        form["after"] = moments_form(filled.after)
        if filled.before is not None:
            form["before"] = moments_form(filled.before)
    return form


def _parts_form(
    patches: Sequence[Step],
    filled: Mapping[str, Filled],
    findings: Mapping[str, Sequence[Finding]],
) -> dict[str, Any]:
    """Return the JSON form of what rules do with parts of a tensor."""
    if not patches:
        return {}
    return {
        "parts": [
            {
                "part": patch.part.text,
                **_of_part(step_form(patch, filled.get(patch.seed_key))),
                **_findings_form(findings.get(patch.seed_key, ())),
            }
            for patch in patches
            if patch.part is not None
        ]
    }


def _of_part(form: dict[str, Any]) -> dict[str, Any]:
    """Return what is a part's own in the form of a step."""
    of_tensor = ("key", "dtype", "source_key", "tied", "seed_key", "was", "layer")
    return {name: value for name, value in form.items() if name not in of_tensor}


def _check_form(plan: Plan) -> dict[str, Any]:
    return {
        "least_p": plan.least_p,
        "statistics": sum(len(step.statistics) for step in plan.draws),
    }


def _findings_form(findings: Sequence[Finding]) -> dict[str, Any]:
    if not findings:
        return {}
    tests = [asdict(finding) for finding in findings]
    return {"check": {"passed": all(finding.passed for finding in findings), "tests": tests}}


def _law_form(law: Law) -> dict[str, float]:
    return {"mean": law.mean, "std": law.std, "low": law.low, "high": law.high}
