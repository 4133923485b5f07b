"""Reset running statistics with the tensors of their module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reinit_cli.initializers import Transform, parse_init
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.tensors.info import RUNNING_STATISTICS


def with_buffers(plan: Plan) -> Plan:
    """Return a plan that resets running statistics with the weights or biases of their module.

    Those that a rule fills or keeps stay as it says.
    """
    drawn: dict[str, Step] = {}
    for step in plan.steps:
        module, _, name = step.key.rpartition(".")
        is_drawn = step.action == "fill" and not isinstance(step.law, Transform)
        if is_drawn and name in ("weight", "bias"):
            drawn.setdefault(module, step)
    return replace(plan, steps=tuple(_with_buffer(step, drawn) for step in plan.steps))


def _with_buffer(step: Step, drawn: Mapping[str, Step]) -> Step:
    module, _, name = step.key.rpartition(".")
    can = step.action in ("copy", "skip") and step.tensor.fillable_dtype is not None
    if name not in RUNNING_STATISTICS or module not in drawn or not can or step.tied:
        return step
    # BatchNorm starts with a variance of 1 (torch.nn, reset_running_stats).
    init = parse_init("ones" if name == "running_var" else "zeros")
    law = init.law(step.tensor.shape)
    return Step(
        step.tensor, "fill", law=law, seed_key=step.key, init=init, source_key=step.source_key
    )
