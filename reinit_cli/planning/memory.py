"""Say how much memory the draws of a plan need, and refuse what a machine does not have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from reinit_cli.errors import TensorError
from reinit_cli.initializers import Move
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.planning.reshape import rows_alone
from reinit_cli.streams.stream import stream_named
from reinit_cli.tensors.dtype import DTYPES

Limits = Mapping[str, int]
"""The bytes that a process can have, by what limits them: "this machine has", for example."""


def drawn_itemsize(step: Step) -> int:
    """Return the bytes of an element as it is drawn: float64 for float64, float32 for other floats."""
    dtype = DTYPES[step.tensor.dtype]
    if isinstance(step.law, Move) or dtype.kind != "float":
        return dtype.nbits // 8
    return 8 if step.tensor.dtype == "float64" else 4


def working_nbytes(step: Step, device: str = "cpu") -> int | None:
    """Return the memory that a draw takes, but for a few blocks.

    Args:
        step: what is drawn.
        device: where. From another one than the CPU only an indexed stream comes in blocks.

    Returns:
        None where it is not known.
    """
    law, shape, itemsize = step.law, step.tensor.shape, drawn_itemsize(step)
    assert law is not None
    if step.stream and stream_named(step.stream).is_indexed:
        return law.filling_nbytes(shape, itemsize)
    return law.working_nbytes(shape, itemsize) if device == "cpu" else None


def is_kept_for_tests(step: Step, *, checks: bool) -> bool:
    """Whether a draw is kept until all of it is tested.

    Args:
        step: what is drawn.
        checks: whether draws are tested.
    """
    law = step.follows
    if step.is_partial:
        return False
    return checks and law is not None and bool(law.identity) and not law.is_sequential


def refuse_too_large(plan: Plan, limits: Limits, *, keeps_values: bool = False) -> None:
    """Refuse a plan of which a draw needs more memory than there is.

    Args:
        plan: what is drawn, one tensor after the other at least.
        limits: what there is; the least of them counts.
        keeps_values: whether the values of a whole tensor are kept, rather than written.

    Raises:
        TensorError: the largest draw needs more.
    """
    is_indexed = stream_named(plan.request.stream).is_indexed
    if plan.request.device != "cpu" and not is_indexed:
        return
    needs = ((_needed(step, plan, keeps_values=keeps_values), step.key) for step in _draws(plan))
    needed, key = max(needs, key=lambda item: item[0], default=(0, ""))
    refuse_beyond(needed, key, limits)


def refuse_beyond(needed: int, key: str, limits: Limits) -> None:
    """Refuse a draw that needs more memory than there is.

    Args:
        needed: the bytes that it needs.
        key: what is drawn.
        limits: what there is; the least of them counts.

    Raises:
        TensorError: it needs more.
    """
    limit, there = min(limits.items(), key=lambda item: item[1], default=("", needed))
    if needed > there:
        problem = f"it takes {needed:,} bytes of memory, and {limit} {there:,}"
        raise TensorError(key, problem, kind="draw")


def _draws(plan: Plan) -> Iterator[Step]:
    """Yield what is drawn, each tensor once; of a resized one its new rows."""
    yield from plan.fills
    for step in plan.steps:
        if step.action == "resize" and step.law is not None:
            yield rows_alone(step)


def _needed(step: Step, plan: Plan, *, keeps_values: bool) -> int:
    """Return the memory without which a draw cannot be made."""
    if step.patches:
        # Every part is drawn from the law of the whole.
        wholes = (replace(each, tensor=step.tensor) for each in step.draws)
        values = step.tensor.nbytes if keeps_values else 0
        return values + sum(_needed(each, plan, keeps_values=False) for each in wholes)
    working = working_nbytes(step)
    whole = step.tensor.numel * drawn_itemsize(step)
    kept = whole if is_kept_for_tests(step, checks=plan.request.check) else 0
    values = step.tensor.nbytes if keeps_values else 0
    return (whole if working is None else working) + kept + values
