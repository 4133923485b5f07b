"""Reset running statistics with the tensors of their module, or say that they stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from reinit_cli.initializers import Transform, parse_init
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.tensors.info import RUNNING_STATISTICS
from reinit_cli.text import plural

_MOST_DIGITS = 10
"""Of the number of a module."""


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
        return
    after = {module: layer for module in stale if (layer := _filled_before(module, modules))}
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


def _filled_before(module: str, modules: Mapping[str, Mapping[str, Step]]) -> str:
    """Return the layer that is filled and whose outputs a BatchNorm is of, or ""."""
    statistics = modules[module].get("running_mean") or modules[module]["running_var"]
    for layer in _named_before(module, modules):
        steps = modules.get(layer, {})
        shape = steps["weight"].tensor.shape if _is_filled(steps) else ()
        # A transposed convolution has its outputs in the second dimension.
        outputs = shape[:2] if _in_sequence(module) else shape[:1]
        if len(shape) > 1 and statistics.tensor.numel in outputs:
            return layer
    return ""


def _named_before(module: str, modules: Mapping[str, object]) -> Iterator[str]:
    """Yield what may come before a module: by its number, by its name, and by the order of keys."""
    parent, dot, name = module.rpartition(".")
    if _in_sequence(module):
        yield f"{parent}{dot}{int(name) - 1}"
        return
    for norm in ("batch_norm", "batchnorm", "norm", "bn"):
        if norm in name:
            yield parent + dot + name.replace(norm, "conv")
            break
    names = list(modules)
    if names != sorted(names):  # as safetensors sorts them, their order says nothing
        yield names[names.index(module) - 1] if names[0] != module else ""


def _in_sequence(module: str) -> bool:
    """Whether a module is called by its number, as in an nn.Sequential."""
    name = module.rpartition(".")[2]
    return name.isascii() and name.isdecimal() and len(name) < _MOST_DIGITS


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
