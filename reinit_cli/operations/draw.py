"""Draw one tensor as `rewrite` would draw it for a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from reinit_cli.checkpoints.state import state_source
from reinit_cli.initializers import Init
from reinit_cli.operations.apply import apply, plan_in_memory
from reinit_cli.operations.show import refuse_many_dimensions
from reinit_cli.planning.memory import refuse_beyond
from reinit_cli.planning.plan import Plan
from reinit_cli.request.pattern import Pattern
from reinit_cli.request.request import Request
from reinit_cli.request.rule import Rule
from reinit_cli.storage.memory import limits
from reinit_cli.tensors.dtype import dtype_named
from reinit_cli.tensors.moments import Moments, moments_of
from reinit_cli.tensors.rounding import elements_of_tensor

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn.

    Attributes:
        plan: the plan of its one tensor and one rule.
        tensor: the values.
        moments: those of the values.
    """

    plan: Plan
    tensor: Tensor
    moments: Moments


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
) -> Drawn:
    """Draw one tensor.

    Args:
        init: the initializer; not one that transforms values.
        shape: the shape of the tensor.
        key: the key of a checkpoint whose stream is used.
        dtype: the dtype that values are rounded to, by torch's name.
        seed: the seed of the run.
        stream: the exact name of the random stream.
        device: where values are drawn.
        arch: the model whose constructor `default` follows, or None.

    Raises:
        TensorError: it does not fit in memory, or cannot be shown.
        ReinitError: the initializer cannot fill such a tensor.
    """
    refuse_many_dimensions(key, len(shape))
    pattern = Pattern.escape(key)
    rule = Rule(Pattern.parse(pattern), init, f"{pattern}={init}")
    tensor = _empty(shape, dtype, key)
    source = state_source({key: tensor})
    request = Request(source.name, (rule,), seed=seed, stream=stream, device=device, arch=arch)
    decided = plan_in_memory(source, request)
    apply(decided)
    return Drawn(decided.plan, tensor, moments_of(elements_of_tensor(tensor)))


def _empty(shape: tuple[int, ...], dtype: str, key: str) -> Tensor:
    import torch

    from reinit_cli.execution.draw import naming

    # The system may promise more than there is, and kill whoever believes it.
    refuse_beyond(prod(shape) * dtype_named(dtype).nbits // 8, key, limits())
    with naming(key):
        return torch.empty(shape, dtype=getattr(torch, dtype))
