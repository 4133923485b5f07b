"""Draw one tensor, or a part of it, as `rewrite` would draw it for a checkpoint."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from math import prod

from reinit_cli.checkpoints.models.named import arch_given
from reinit_cli.checkpoints.references import find_references
from reinit_cli.checkpoints.state import STATE_DICT
from reinit_cli.errors import TensorError, UnfillableError
from reinit_cli.execution.boxes import Taken, draw_box
from reinit_cli.execution.draw import NOTHING, draw_blocks, naming
from reinit_cli.execution.overflow import Rounding, refuse_overflow
from reinit_cli.initializers import Init
from reinit_cli.initializers.arch import Arguments
from reinit_cli.lazy import dataclass
from reinit_cli.operations.devices import drawing_device
from reinit_cli.operations.show import Part, refuse_many_dimensions
from reinit_cli.planning.decide import decide
from reinit_cli.planning.entries import Entries
from reinit_cli.planning.memory import refuse_beyond, refuse_too_large
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.request.pattern import Pattern
from reinit_cli.request.request import Request
from reinit_cli.request.rule import Rule
from reinit_cli.storage.memory import limits
from reinit_cli.streams.stream import stream_named
from reinit_cli.tensors.dtype import itemsize_of
from reinit_cli.tensors.elements import Elements
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.moments import Moments, moments_of
from reinit_cli.tensors.portions import Portions
from reinit_cli.tensors.slice import taken_of

_MOST_NUMEL = 2**63 - 1
"""The most elements of a tensor: Python counts no more in a range, and torch none."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn.

    Attributes:
        plan: the plan of its one tensor and one rule.
        elements: the values, in the shape of the tensor or of the part that was asked for.
        moments: those of the values.
        part: the part of the tensor, as it was written; "" for all of it.
    """

    plan: Plan
    elements: Elements
    moments: Moments
    part: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions of what was drawn."""
        shape: tuple[int, ...] = self.elements.array.shape
        return shape


def draw_tensor(
    init: Init,
    shape: tuple[int, ...],
    *,
    key: str,
    dtype: str,
    seed: int,
    stream: str,
    device: str,
    arch: str | None,
    arch_args: Arguments | None = None,
    part: Part | None = None,
    saturate: bool = False,
) -> Drawn:
    """Draw one tensor, or a part of it.

    Args:
        init: the initializer; not one that transforms values.
        shape: the shape of the tensor.
        key: the key of a checkpoint whose stream is used.
        dtype: the dtype that values are rounded to, by torch's name.
        seed: the seed of the run.
        stream: the exact name of the random stream.
        device: where values are drawn.
        arch: the architecture whose constructor `default` follows, or None.
        arch_args: the arguments of that constructor.
        part: the elements that are wanted; None for all.
        saturate: whether numbers that the dtype does not have become its largest.

    Raises:
        TensorError: a number is too large for the dtype, or the tensor does not fit in memory, has no such part, or cannot be shown.
        ReinitError: the initializer cannot fill such a tensor.
    """
    refuse_many_dimensions(key, len(shape))
    if prod(shape) > _MOST_NUMEL:
        raise TensorError(key, "it has 2^63 elements or more", kind="draw")
    pattern = Pattern.escape(key)
    rule = Rule(Pattern.parse(pattern), init, f"{pattern}={init}")
    request = Request(STATE_DICT, (rule,), seed=seed, stream=stream, arch=arch, saturate=saturate)
    request = replace(request, device=drawing_device(device, stream))
    tensor = TensorInfo(key, dtype, shape, prod(shape) * itemsize_of(dtype))
    constructor = arch_given(arch, arch_args or {})
    references = find_references([init], [tensor], constructor)
    try:
        plan = decide(Entries(STATE_DICT, (tensor,)), request, references.elsewhere)
    except UnfillableError as error:
        if error.kind:
            raise
        raise UnfillableError(
            key, error.problem, kind="drawn", word=str(init), of=error.of
        ) from error
    elements = _part_of(plan, part) if part else _whole_of(plan)
    return Drawn(plan, elements, moments_of(elements), part[0] if part else "")


def _whole_of(plan: Plan) -> Elements:
    refuse_too_large(plan, limits(), keeps_values=True)
    (step,) = plan.steps
    tensor = step.tensor
    assert step.law is not None
    with naming(step), _threads_of(step):
        blocks = draw_blocks(
            step.law,
            tensor.shape,
            tensor.dtype,
            step.seed,
            plan.request.device,
            NOTHING,
            step.stream,
        )
        rounding = Rounding(step, partial(refuse_overflow, step))
        portions = Portions.of(map(rounding.next, blocks))
        return Elements(portions.take(tensor.shape, tensor.dtype), tensor.dtype)


def _part_of(plan: Plan, part: Part) -> Elements:
    """Draw what is wanted; only a law that is not elementwise needs memory for the whole."""
    (step,) = plan.steps
    tensor = step.tensor
    taken, kept = taken_of(tensor.shape, part[1], part[0])
    refuse_too_large(plan, limits())
    # The system may promise more than there is, and kill whoever believes it.
    refuse_beyond(_nbytes_of(taken, tensor.dtype), step.key, limits())
    assert step.law is not None
    with naming(step), _threads_of(step):
        wide = draw_box(
            step.law,
            tensor.shape,
            tensor.dtype,
            step.seed,
            step.stream,
            plan.request.device,
            taken,
        )
        drawn = Rounding(step, partial(refuse_overflow, step)).some(wide, None)
    return Elements(drawn.array.reshape([len(taken[axis]) for axis in kept]), tensor.dtype)


def _nbytes_of(taken: Taken, dtype: str) -> int:
    """Return the memory of some elements, as they are drawn and as they are rounded."""
    return prod(map(len, taken)) * (max(4, itemsize_of(dtype)) + itemsize_of(dtype))


def _threads_of(step: Step) -> AbstractContextManager[None]:
    """Hold torch to one thread where it draws: the bits may depend on their number."""
    if not step.stream or not stream_named(step.stream).needs_torch:
        return nullcontext()
    from reinit_cli.tensors.device import one_thread

    return one_thread()
