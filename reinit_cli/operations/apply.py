"""Re-initialising tensors that live in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from reinit_cli.checkpoints.models.architecture import architecture_of_layers
from reinit_cli.checkpoints.references import OpenDonors, find_references
from reinit_cli.initializers import Transform
from reinit_cli.initializers.site import Arch
from reinit_cli.planning.decide import decide
from reinit_cli.planning.entries import Entries
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.request.request import Request
from reinit_cli.request.rule import Rule, rules_of

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
    arch: Arch | None = None,
    with_buffers: bool = False,
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
        arch: whose constructor `default` follows: a torchvision model's name, or what makes
            a module; None for the `reset_parameters` of the module's own layers.
        with_buffers: reset running statistics with the weights beside them.

    Raises:
        ReinitError: a rule cannot be obeyed; nothing is changed then.
    """
    import torch

    from reinit_cli.tensors.device import check_device, one_thread
    from reinit_cli.tensors.live import infos_of

    state = target.state_dict(keep_vars=True) if isinstance(target, torch.nn.Module) else target
    infos = tuple(
        replace(info, carried="a meta tensor, which has no values")
        if isinstance(state[info.key], torch.Tensor) and state[info.key].is_meta
        else info
        for info in infos_of(state)
    )
    read = rules_of(rules)
    layers = architecture_of_layers(target) if isinstance(target, torch.nn.Module) else None
    references = find_references((rule.init for rule in read), infos, arch, layers)
    name = "the module" if target is not state else "the mapping"
    request = Request(
        name,
        read,
        seed=seed,
        device=check_device(device),
        strict=strict,
        allow_unmatched=allow_unmatched,
        with_buffers=with_buffers,
    )
    plan = decide(Entries(name, infos), request, references.elsewhere)
    with one_thread(), references.opened((step.law for step in plan.fills), seed) as donors:
        for step in plan.fills:
            tensor = state[step.key]
            # A tensor of inference mode may be written in that mode alone.
            with torch.inference_mode(mode=tensor.is_inference()), torch.no_grad():
                tensor.copy_(_drawn(step, tensor, donors, request.device))
    return plan


def _drawn(step: Step, tensor: Tensor, donors: OpenDonors, device: str) -> Tensor:
    """Return the values of a step, rounded.

    Raises:
        TensorError: what is there cannot be transformed.
    """
    from reinit_cli.execution.draw import There, draw, naming
    from reinit_cli.tensors.blocks import blocks_row_by_row
    from reinit_cli.tensors.convert import rounded

    def here() -> Iterator[Tensor]:
        yield tensor.detach().reshape(-1)

    law = step.law
    assert law is not None
    values = here if isinstance(law, Transform) else None
    if isinstance(law, Transform) and law.donor is not None:
        values = partial(blocks_row_by_row, donors.view(law.donor, step.key))
    there = There(values, here if step.keeps_zeros else None)
    info = step.tensor
    with naming(step.key):
        drawn = draw(law, info.shape, info.dtype, step.seed, device, there)
    return rounded(drawn, info.dtype)
