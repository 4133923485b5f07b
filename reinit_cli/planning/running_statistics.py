"""Reset running statistics with the tensors of their module, or say that they stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from reinit_cli.initializers import Transform, parse_init
from reinit_cli.planning.norm_inputs import NormInputs
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.tensors.info import RUNNING_STATISTICS
from reinit_cli.text import plural


def with_buffers(plan: Plan) -> Plan:
    """Return a plan that resets running statistics with the weights or biases of their module.

    Those that a rule fills or keeps stay as it says.
    """
    drawn: dict[str, Step] = {}
    for step in plan.steps:
        module, _, name = step.key.rpartition(".")
        if _is_drawn(step) and name in ("weight", "bias"):
            drawn.setdefault(module, step)
    return replace(plan, steps=tuple(_with_buffer(step, drawn) for step in plan.steps))


def _is_drawn(step: Step) -> bool:
    """Whether new values replace the present ones, which running statistics are of."""
    return step.action == "fill" and not isinstance(step.law, Transform)


def stale_statistics(plan: Plan) -> Iterator[str]:
    """Say where running statistics stay though they are of values that are replaced.

    Those of a BatchNorm whose weight is filled, or else of one after a layer that is. A rule
    that names them, be it to keep them, is a decision.
    """
    modules: dict[str, dict[str, Step]] = {}
    for step in plan.steps:
        module, _, name = step.key.rpartition(".")
        if name != "num_batches_tracked":  # which safetensors puts before all floats
            modules.setdefault(module, {})[name] = step
    stale = [module for module, steps in modules.items() if _stays(steps)]
    own = [f"{module}.weight" for module in stale if _is_filled(modules[module])]
    if own:
        more = f" and {plural(len(own) - 1, 'more weight')} of BatchNorms" if own[1:] else ""
        verb, them = ("are", "them") if own[1:] else ("is", "it")
        yield (
            f"{own[0]!r}{more} {verb} filled, but the running statistics next to {them} stay; "
            "--reset-buffers resets these"
        )
    others = [module for module in stale if not _is_filled(modules[module])]
    after = _filled_before(others, modules)
    if after:
        module, layer = next(iter(after.items()))
        more = f", and so do {len(after) - 1:,} more" if len(after) > 2 else ""
        more = ", and so does another" if len(after) == 2 else more
        yield (
            f"'{layer}.weight' is filled, but the BatchNorm after it keeps its running "
            f"statistics{more}; rules reset them: '{module}.running_mean=zeros' and "
            f"'{module}.running_var=ones'"
        )


def _stays(steps: Mapping[str, Step]) -> bool:
    """Whether a module has running statistics that no rule decides on."""
    found = [steps[name] for name in ("running_mean", "running_var") if name in steps]
    return any(step.action in ("copy", "skip") for step in found)


def _is_filled(steps: Mapping[str, Step]) -> bool:
    return "weight" in steps and _is_drawn(steps["weight"])


def _filled_before(
    stale: Sequence[str], modules: Mapping[str, Mapping[str, Step]]
) -> dict[str, str]:
    """Return for BatchNorms the layer that is filled and whose outputs they are of."""
    if not any(map(_is_filled, modules.values())):
        return {}
    inputs = NormInputs(
        {
            module: {name: step.tensor.shape for name, step in steps.items()}
            for module, steps in modules.items()
        }
    )
    before = {module: inputs.layer_before(module) for module in stale}
    return {
        module: layer for module, layer in before.items() if layer and _is_filled(modules[layer])
    }


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
