"""Reset what belongs to filled tensors: running statistics and optimizer state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from reinit_cli.errors import RuleError
from reinit_cli.initializers import Transform, parse_init
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.tensors.info import RUNNING_STATISTICS
from reinit_cli.tensors.optimizer import Optimizer, ParameterId
from reinit_cli.text import plural, shape

# --- running statistics ----------------------------------------------------------------------


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


# --- optimizer state -------------------------------------------------------------------------

ZEROED = frozenset(
    (
        "acc_delta",
        "exp_avg",
        "exp_avg_sq",
        "exp_inf",
        "grad_avg",
        "max_exp_avg_sq",
        "momentum_buffer",
        "square_avg",
        "step",
        "sum",
    )
)
"""The slots of torch's optimizers that start as zeros."""

_ZEROS = parse_init("zeros")


def with_optimizers(plan: Plan, optimizers: Sequence[Optimizer]) -> Plan:
    """Return a plan that also zeroes the slots of exactly the parameters that are filled.

    Args:
        plan: what happens to the state dict.
        optimizers: those of the file.

    Raises:
        RuleError: there is none, or its parameters cannot be identified.
    """
    if not optimizers:
        raise _unresettable(plan.source, "holds no optimizer state")
    steps: list[Step] = []
    warnings: list[str] = []
    for optimizer in optimizers:
        keys = _keys_of(plan, optimizer)
        filled = {step.key for step in plan.steps if step.action == "fill"}
        chosen = [each for each, key in keys.items() if key in filled]
        steps += (
            Step(tensor, "fill", law=_ZEROS.law(()), seed_key=tensor.key, init=_ZEROS)
            for each in chosen
            for name, tensor in optimizer.slots.get(each, {}).items()
            if name in ZEROED and tensor.fillable_dtype is not None
        )
        warnings += _left(optimizer, chosen)
        if not any(optimizer.slots.get(each) for each in chosen):
            warnings.append(f"{optimizer.path!r} holds no state of what the rules fill")
    return replace(plan, slots=tuple(steps), warnings=(*plan.warnings, *warnings))


def _unresettable(path: str, problem: str) -> RuleError:
    return RuleError(path, problem, kind="optimizer")


def _left(optimizer: Optimizer, chosen: Sequence[ParameterId]) -> Iterator[str]:
    """Say which slots of the chosen parameters stay as they are."""
    tensors = {name for each in chosen for name in optimizer.slots.get(each, {})} - ZEROED
    numbers = {name for each in chosen for name in optimizer.numbers.get(each, ())}
    if tensors:
        names = ", ".join(sorted(tensors))
        yield f"{optimizer.path!r} has slots that do not start as zeros, and stay: {names}"
    if numbers:
        names = ", ".join(sorted(numbers))
        yield f"{optimizer.path!r} has slots that are no tensors, and stay: {names}"


def _keys_of(plan: Plan, optimizer: Optimizer) -> dict[ParameterId, str]:
    """Return which key each parameter of an optimizer is.

    Raises:
        RuleError: that is not certain.
    """
    ids = [each for group in optimizer.groups for each in group]
    known = {step.key for step in plan.steps}
    if optimizer.names is not None:
        return _checked(plan, optimizer, dict(zip(ids, optimizer.names, strict=True)))
    if all(each in known for each in ids):
        return _checked(plan, optimizer, {each: str(each) for each in ids})
    if len(optimizer.groups) > 1:
        problem = f"its {plural(len(ids), 'parameter')} are in several groups without names"
        raise _unresettable(optimizer.path, problem)
    keys = list(_parameters(plan))
    if len(keys) != len(ids):
        problem = (
            f"it has {plural(len(ids), 'parameter')} without names, and the state dict "
            f"{plural(len(keys), 'tensor')} that may be parameters"
        )
        raise _unresettable(optimizer.path, problem)
    return _checked(plan, optimizer, dict(zip(ids, keys, strict=True)))


def _parameters(plan: Plan) -> Iterator[str]:
    """Yield the keys that `Module.parameters` gives, in its order; of ties the first."""
    seen: set[str] = set()
    for step in plan.steps:
        dtype = step.tensor.fillable_dtype
        is_float = dtype is not None and dtype.kind in ("float", "complex")
        is_statistic = step.key.rpartition(".")[2] in RUNNING_STATISTICS
        if is_float and not is_statistic and step.key not in seen:
            yield step.key
        seen.update(step.tied)


def _checked(
    plan: Plan, optimizer: Optimizer, keys: dict[ParameterId, str]
) -> dict[ParameterId, str]:
    """Return the keys, if every slot has its parameter's shape."""
    shapes = {step.key: step.tensor.shape for step in plan.steps}
    for each, key in keys.items():
        if key not in shapes:
            problem = f"its parameter {key!r} is not in the state dict"
            raise _unresettable(optimizer.path, problem)
        for name, tensor in optimizer.slots.get(each, {}).items():
            if name in ZEROED - {"step"} and tensor.shape != shapes[key]:
                problem = (
                    f"its {name} of {key!r} is {shape(tensor.shape)}, "
                    f"and the tensor {shape(shapes[key])}"
                )
                raise _unresettable(optimizer.path, problem)
    return keys
