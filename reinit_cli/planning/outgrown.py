"""Say which optimizers no longer fit the tensors next to them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from reinit_cli.planning.optimizer_slots import shape_of
from reinit_cli.planning.plan import Plan
from reinit_cli.tensors.dtype import FLOATS
from reinit_cli.tensors.info import RUNNING_STATISTICS
from reinit_cli.tensors.optimizer import STATE_FILES, Optimizer

_NUMBERED = r"optimizer_\d+\.(pt|bin)"


def copied_state(plan: Plan, copied: Sequence[str]) -> Iterator[str]:
    """Say which files of an optimizer's state go along as they are.

    Args:
        plan: what happens to the tensors.
        copied: the names of the other files of a folder that are copied.
    """
    is_filled = any(step.is_filled for step in plan.steps)
    there = [name for name in STATE_FILES if name in copied] if is_filled else []
    if not plan.request.reset_optimizer:
        way = "--reset-optimizer resets what it keeps of the filled tensors"
        yield from (f"{name!r} is copied as it is; {way}" for name in there)
        return
    # accelerate numbers the optimizers of several models.
    more = sorted(name for name in copied if re.fullmatch(_NUMBERED, name))
    for name in (*there[1:], *more) if there else ():
        yield f"{name!r} is copied as it is; --reset-optimizer resets {there[0]!r} alone"


def outgrown(plan: Plan, optimizers: Sequence[Optimizer]) -> Iterator[str]:
    """Yield a warning for each optimizer that keeps what no longer fits the tensors.

    These are slots of a shape that changes, and those of parameters that are left out.

    Args:
        plan: what happens to the tensors.
        optimizers: those that are kept as they are.
    """
    yield from _of_dropped(plan, optimizers)
    resized = {str(step.was): step.key for step in plan.steps if step.was is not None}
    for optimizer in optimizers if resized and not plan.request.reset_optimizer else ():
        shapes = (str(shape_of(state)) for state in optimizer.states.values())
        key = next((resized[shape] for shape in shapes if shape in resized), None)
        if key is not None:
            yield (
                f"{optimizer.path!r} no longer fits: it keeps the old shape of {key!r}; "
                "--reset-optimizer gives it the new one"
            )


def _of_dropped(plan: Plan, optimizers: Sequence[Optimizer]) -> Iterator[str]:
    """Yield a warning for each optimizer that has more parameters than there are left."""
    dropped = set(plan.dropped)
    for optimizer in optimizers if dropped else ():
        names = [name for group in optimizer.groups for name in group.names or ()]
        key = next((name for name in names if name in dropped), None)
        if key is not None or len(optimizer.ids) > _most_parameters(plan):
            which = f", such as {key!r}," if key is not None else ""
            yield (
                f"{optimizer.path!r} no longer fits: it keeps the state of parameters{which} that "
                "are left out; --tensors-only leaves it out too"
            )


def _most_parameters(plan: Plan) -> int:
    """Return how many tensors may be parameters, ties once."""
    return sum(
        step.tensor.fillable_dtype in FLOATS
        and step.key.rpartition(".")[2] not in RUNNING_STATISTICS
        and not step.is_repeated
        for step in plan.steps
    )
