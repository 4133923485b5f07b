"""Give filled parameters the optimizer state that a new optimizer starts with, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reinit_cli.errors import RuleError
from reinit_cli.operations.apply import InMemory
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.live import infos_of
from reinit_cli.text import kind_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

Held = tuple[Mapping[str, Any], "Tensor"]
"""A parameter of an optimizer, and the group that it is in."""


def filled_parameters(optimizer: Optimizer, decided: InMemory) -> list[Held]:
    """Return the parameters of an optimizer that are filled, without changing anything.

    Args:
        optimizer: the optimizer.
        decided: what is filled.

    Raises:
        RuleError: it optimizes other tensors, or the state of one cannot be reset alone.
        TypeError: it is not an optimizer of torch.
    """
    import torch

    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, not {kind_of(optimizer)}")
    held = list(_held(optimizer))
    of_memory = {info.storage for info in decided.source.tensors if info.storage is not None}
    if not any(info.storage in of_memory for _, info in held):
        raise _cannot(optimizer, f"it optimizes no tensor of {decided.source.name}")
    parted = next((step.key for step in decided.plan.fills if step.patches), None)
    if parted is not None:
        raise _cannot(optimizer, f"{parted!r} is filled in part, and has one state")
    filled = [step.tensor for step in decided.plan.fills]
    found = [each for each, info in held if _is_filled(info, filled, optimizer)]
    if found and isinstance(optimizer, torch.optim.LBFGS):
        raise _cannot(optimizer, "it keeps one state for all of its parameters")
    return found


def reset(optimizer: Optimizer, parameters: Sequence[Held]) -> None:
    """Give parameters the state that a new optimizer has for them.

    That is none, which the next step makes; Adagrad alone makes it in its constructor.
    """
    import torch

    for group, parameter in parameters:
        if isinstance(optimizer, torch.optim.Adagrad) and parameter in optimizer.state:
            _reset_adagrad(optimizer.state[parameter], group["initial_accumulator_value"])
        else:
            optimizer.state.pop(parameter, None)


def _reset_adagrad(state: dict[str, Any], initial: float) -> None:
    total = state["sum"]
    state["step"].zero_()
    total.fill_(complex(initial, initial) if total.is_complex() else initial)


def _held(optimizer: Optimizer) -> Iterator[tuple[Held, TensorInfo]]:
    """Yield the parameters of an optimizer, and where each lies in memory."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            (info,) = infos_of({"": parameter})
            yield (group, parameter), info


def _is_filled(info: TensorInfo, filled: Sequence[TensorInfo], optimizer: Optimizer) -> bool:
    """Whether a parameter is a tensor that is filled.

    Raises:
        RuleError: a part of it is.
    """
    for each in filled:
        if each.storage != info.storage or each.storage is None:
            continue
        if (each.offset, each.shape, each.stride) == (info.offset, info.shape, info.stride):
            return True
        (first, end), (other_first, other_end) = each.extent, info.extent
        if first < other_end and other_first < end:
            raise _cannot(optimizer, f"a part of one of its parameters is {each.key!r}")
    return False


def _cannot(optimizer: Optimizer, problem: str) -> RuleError:
    return RuleError(type(optimizer).__name__, problem, kind="optimizer")
