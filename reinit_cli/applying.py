"""Re-initialising tensors that live in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from reinit_cli.planning import Options, Plan, make_plan
from reinit_cli.rules import Rule, rules_of

if TYPE_CHECKING:
    from torch import Tensor, nn


def apply_(
    target: nn.Module | Mapping[str, Tensor],
    rules: Iterable[Rule | str],
    *,
    seed: int = 0,
    device: str = "cpu",
    strict: bool = False,
    allow_unmatched: bool = False,
) -> Plan:
    """Re-initialise tensors of a module or a state dict in place, and return what was done.

    The values are those that `rewrite` gives a checkpoint of the same keys.

    Args:
        target: a module, by the keys of its state dict, or a mapping of keys to tensors.
        rules: `Rule`s or texts such as "features.*.weight=xavier_uniform:relu".
        seed: the seed of the whole run; every key has its own stream.
        device: where values are drawn; the tensors stay where they are.
        strict: make every skip an error.
        allow_unmatched: let a rule match or fill nothing.

    Raises:
        ReinitError: a rule cannot be obeyed; nothing is changed then.
    """
    import torch

    from reinit_cli.drawing import check_device, draw, one_thread, rounded
    from reinit_cli.live import infos_of

    state = target.state_dict(keep_vars=True) if isinstance(target, torch.nn.Module) else target
    infos = tuple(
        replace(info, carried="a meta tensor, which has no values")
        if isinstance(state[info.key], torch.Tensor) and state[info.key].is_meta
        else info
        for info in infos_of(state)
    )
    options = Options(seed, check_device(device), strict, allow_unmatched)
    plan = make_plan(
        "the module" if target is not state else "the mapping", infos, rules_of(rules), options
    )
    with one_thread():
        for step in plan.fills:
            assert step.law is not None
            tensor = step.tensor
            drawn = draw(step.law, tensor.shape, tensor.dtype, step.seed, options.device)
            there = state[step.key]
            # A tensor of inference mode may be written in that mode alone.
            with torch.inference_mode(mode=there.is_inference()), torch.no_grad():
                there.copy_(rounded(drawn, tensor.dtype))
    return plan
