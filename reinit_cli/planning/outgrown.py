"""Say which optimizers no longer fit the tensors next to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reinit_cli.planning.optimizer_slots import shape_of
from reinit_cli.planning.plan import Plan
from reinit_cli.tensors.optimizer import Optimizer


def outgrown(plan: Plan, optimizers: Sequence[Optimizer]) -> Iterator[str]:
    """Yield a warning for each optimizer that keeps slots of a shape that changes.

    Args:
        plan: what happens to the tensors.
        optimizers: those that are kept as they are.
    """
    resized = {str(step.was): step.key for step in plan.steps if step.was is not None}
    for optimizer in optimizers if resized and not plan.request.reset_optimizer else ():
        shapes = (str(shape_of(state)) for state in optimizer.states.values())
        key = next((resized[shape] for shape in shapes if shape in resized), None)
        if key is not None:
            yield (
                f"{optimizer.path!r} no longer fits: it keeps the old shape of {key!r}; "
                "--reset-optimizer gives it the new one"
            )
