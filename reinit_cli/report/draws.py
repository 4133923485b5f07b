"""One drawn tensor, as a sheet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from reinit_cli.moments import moments_of
from reinit_cli.planning import Plan
from reinit_cli.report.rewrites import described
from reinit_cli.report.serial import VERSION, moments_form, step_form, values_form
from reinit_cli.report.sheets import Sheet
from reinit_cli.seeds import STREAM
from reinit_cli.text import number, shape

if TYPE_CHECKING:
    from torch import Tensor


def draw_sheet(plan: Plan, tensor: Tensor) -> Sheet:
    """Return the law of the one tensor of a plan and what was drawn."""
    return Sheet((), (), tuple(_facts(plan, tensor)))


def _facts(plan: Plan, tensor: Tensor) -> Iterator[tuple[str, str]]:
    (step,), (rule,) = plan.steps, plan.rules
    yield "initializer", described(rule.init)
    yield "shape", f"{shape(step.tensor.shape)}, {step.tensor.dtype}"
    if both := step.fans:
        yield "fan_in", f"{both.fan_in:,}"
        yield "fan_out", f"{both.fan_out:,}"
    if rule.init.gain is not None:
        yield "gain", number(rule.init.gain)
    if step.bound is not None:
        yield "bound", number(step.bound)
    expected = f"{number(step.follows.std)} expected, " if step.follows is not None else ""
    yield "std", f"{expected}{number(moments_of(tensor).std)} drawn"
    yield "seed", f"{plan.options.seed} (stream {STREAM}), key {step.key}, generator {step.seed}"


def draw_form(plan: Plan, tensor: Tensor) -> dict[str, Any]:
    """Return the same for JSON, with the values as nested lists."""
    (step,), (rule,) = plan.steps, plan.rules
    drawn = {"after": moments_form(moments_of(tensor))}
    return {
        "version": VERSION,
        "stream": STREAM,
        "seed": plan.options.seed,
        "device": plan.options.device,
        "rule": [rule.serial()],
        "tensors": [step_form(step, plan, None) | drawn],
        "values": values_form(tensor),
    }
