"""Re-initialize tensors in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from reinit_cli.checkpoints.models.architecture import architecture_of_layers
from reinit_cli.checkpoints.references import OpenDonors, find_references
from reinit_cli.checkpoints.state import entries_in_memory
from reinit_cli.errors import TensorError
from reinit_cli.execution.budget import DRAWING_NBYTES
from reinit_cli.initializers import Constant, Normal, Transform, Uniform
from reinit_cli.initializers.site import Arch
from reinit_cli.lazy import LazyModule
from reinit_cli.planning.decide import decide
from reinit_cli.planning.entries import Entries
from reinit_cli.planning.memory import refuse_too_large
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.request.request import Request
from reinit_cli.request.rule import Rule, rules_of
from reinit_cli.storage.memory import limits
from reinit_cli.text import plural

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

Target = tuple[Step, "torch.Tensor"]
"""What is done, and the tensor that it is done to."""


def apply_(
    target: torch.nn.Module | Mapping[str, torch.Tensor],
    rules: Iterable[Rule | str],
    *,
    seed: int = 0,
    device: str = "cpu",
    strict: bool = False,
    allow_unmatched: bool = False,
    arch: Arch | None = None,
    with_buffers: bool = False,
) -> Plan:
    """Re-initialize tensors of a module or a state dict in place, and return what was done.

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
        with_buffers: reset running statistics next to the weights that are filled.

    Raises:
        ReinitError: a rule cannot be obeyed, or a tensor not be read, drawn or written; nothing
            is changed then.
    """
    import torch

    from reinit_cli.tensors.device import check_device, one_thread

    state: Mapping[str, torch.Tensor]
    if isinstance(target, torch.nn.Module):
        name, state = "the module", target.state_dict(keep_vars=True)
        layers = architecture_of_layers(target)
    else:
        name, state, layers = "the mapping", target, None
    infos = entries_in_memory(state)
    read = rules_of(rules)
    references = find_references((rule.init for rule in read), infos, arch, layers)
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
    refuse_too_large(plan, limits(), keeps_values=True)
    with one_thread(), references.opened((step.law for step in plan.fills), seed) as donors:
        _fill([(step, state[step.key]) for step in plan.fills], donors, request.device)
    return plan


def _fill(targets: Sequence[Target], donors: OpenDonors, device: str) -> None:
    """Fill tensors in place, all of them or none.

    Raises:
        TensorError: one of them cannot be drawn or written.
        SourceError: a donor cannot be read, or changed meanwhile.
    """
    from reinit_cli.tensors.live import write

    def drawn(step: Step, tensor: torch.Tensor) -> torch.Tensor:
        return _drawn(step, tensor, donors, device)

    for step, tensor in targets:
        _check(step.key, tensor)
    held = _held(targets, drawn)
    donors.check_unchanged()
    for step, tensor in targets:
        write(tensor, held.pop(step.key) if step.key in held else drawn(step, tensor))


_PLAIN = (Constant, Normal, Uniform)
"""The laws whose draws cannot fail."""


def _held(
    targets: Iterable[Target], drawn: Callable[[Step, torch.Tensor], torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Draw everything that may fail, before the first tensor is changed.

    As much of it is held as memory is set aside for draws; the rest is drawn again.

    Args:
        targets: what is drawn, and the tensor that gets it.
        drawn: draws it.
    """
    held: dict[str, torch.Tensor] = {}
    room = DRAWING_NBYTES
    for step, tensor in targets:
        if step.tensor.nbytes <= room:
            held[step.key] = drawn(step, tensor)
            room -= step.tensor.nbytes
        elif type(step.law) not in _PLAIN or step.keeps_zeros:
            drawn(step, tensor)
    return held


def _check(key: str, tensor: torch.Tensor) -> None:
    """Refuse a tensor that cannot be written.

    Raises:
        TensorError: it cannot.
    """
    from reinit_cli.tensors.live import check_writable

    try:
        check_writable(tensor)
    except ValueError as error:
        raise TensorError(key, str(error), kind="write") from error


def _refuse_lost(key: str, count: int) -> None:
    """Refuse numbers that the dtype of a tensor does not have.

    Raises:
        TensorError: there are any.
    """
    if count:
        raise TensorError(key, f"{plural(count, 'number')} of it", kind="cast")


def _drawn(step: Step, tensor: torch.Tensor, donors: OpenDonors, device: str) -> torch.Tensor:
    """Return the values of a step, rounded.

    Raises:
        TensorError: the old values cannot be transformed.
    """
    from reinit_cli.execution.draw import There, draw, draw_blocks, naming, values_of
    from reinit_cli.initializers.blocks import Taker
    from reinit_cli.tensors.convert import rounded

    def here() -> Iterator[torch.Tensor]:
        yield tensor.detach().reshape(-1)

    law = step.law
    assert law is not None
    values = here if isinstance(law, Transform) else None
    if isinstance(law, Transform) and law.donor is not None:
        view = donors.view(law.donor, law.donor_key or step.key)
        lose = partial(_refuse_lost, step.key)
        values = values_of(view, law, step.tensor.dtype, lose, saturates=False)
    there = There(values, here if step.keeps_zeros else None)
    info = step.tensor
    with naming(step.key):
        if device != "cpu":
            return rounded(draw(law, info.shape, info.dtype, step.seed, device, there), info.dtype)
        blocks = draw_blocks(law, info.shape, info.dtype, step.seed, device, there)
        return Taker(rounded(block, info.dtype) for block in blocks).take(info.shape, info.dtype)
