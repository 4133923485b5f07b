"""Tell arithmetic of a tensor with numbers from other arithmetic."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.models.recording.arithmetic import Change
from reinit_cli.checkpoints.models.recording.calls import Call
from reinit_cli.checkpoints.models.recording.fills import COMPUTED
from reinit_cli.checkpoints.models.recording.memory import Memory
from reinit_cli.initializers.law import Constant
from reinit_cli.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
else:
    np = LazyModule("numpy")
    torch = LazyModule("torch")


def operands(memory: Memory, call: Call) -> tuple[Tensor, list[Change]] | None:
    """Return the tensor that arithmetic changes, and how; None where it is not by numbers."""
    if call.base == "neg":
        return call.args[0], [Change("scale", -1.0)]
    if call.base == "erfinv":
        return call.args[0], [Change("erfinv")]
    if call.base in ("clamp", "clamp_min", "clamp_max"):
        return _clamp(call)
    if call.kwargs.get("rounding_mode") is not None or len(call.args) < 2:
        return None
    first, second = call.args[:2]
    alpha = call.kwargs.get("alpha", call.args[2] if len(call.args) > 2 else 1)
    number = number_in(memory, second)
    if isinstance(first, torch.Tensor) and number is not None and _keeps(first, second):
        return _by_number(call.base, first, number, alpha)
    number = number_in(memory, first)
    if isinstance(second, torch.Tensor) and number is not None and _keeps(second, first):
        if call.base in ("mul", "add"):
            factor = [] if alpha == 1 else [Change("scale", alpha)]
            return second, [*factor, Change("scale" if call.base == "mul" else "shift", number)]
        if call.base == "sub":
            return second, [Change("scale", -float(alpha)), Change("shift", number)]
    return None


def _by_number(
    base: str, tensor: Tensor, number: float, alpha: float
) -> tuple[Tensor, list[Change]] | None:
    if base == "mul":
        return tensor, [Change("scale", number)]
    if base == "div":
        return tensor, [Change("divide", number)]
    if base in ("add", "sub"):
        return tensor, [Change("shift", number * alpha * (1 if base == "add" else -1))]
    return tensor, [Change("scale", -float(alpha)), Change("shift", number)]  # rsub


def _keeps(tensor: Tensor, other: Any) -> bool:
    """Whether a tensor's shape and dtype stay where it is combined with another operand."""
    if not isinstance(other, torch.Tensor):
        return True
    shape = np.broadcast_shapes(tensor.shape, other.shape)
    return shape == tuple(tensor.shape) and torch.result_type(tensor, other) == tensor.dtype


def _clamp(call: Call) -> tuple[Tensor, list[Change]] | None:
    low, high = (*call.args[1:3], None, None)[:2]
    if call.base == "clamp_max":
        low, high = None, low
    low, high = call.kwargs.get("min", low), call.kwargs.get("max", high)
    if any(isinstance(each, torch.Tensor) for each in (low, high)):
        return None
    return call.args[0], [Change("clamp", low, high)]


def number_in(memory: Memory, value: Any) -> float | None:
    """Return the number that an operand is everywhere; None where it is not one."""
    if isinstance(value, (bool, int, float)):
        return value
    if not isinstance(value, torch.Tensor) or not value.numel() or value.is_complex():
        return None
    if memory.knows(value):
        (_, fill), *others = memory.pieces(value)
        if not others and isinstance(fill.law, Constant):
            return fill.law.value
        if others or fill != COMPUTED:
            return None
    first = value.reshape(-1)[0].item()
    is_same = value.numel() == 1 or bool((value == first).all())
    return first if is_same and math.isfinite(first) else None
