"""Re-initialize tensors in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from reinit_cli.checkpoints.models.named import arch_given
from reinit_cli.checkpoints.references import OpenDonors, References, find_references
from reinit_cli.checkpoints.state import StateSource
from reinit_cli.errors import TensorError
from reinit_cli.execution.budget import DRAWING_NBYTES
from reinit_cli.execution.overflow import Rounding, may_overflow, refuse_overflow
from reinit_cli.initializers import Constant, Normal, Transform, Uniform
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.operations.devices import with_device
from reinit_cli.operations.masks import masks_of, with_masks
from reinit_cli.planning.decide import decide
from reinit_cli.planning.entries import Entries
from reinit_cli.planning.memory import refuse_too_large
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.request.request import Request
from reinit_cli.request.rule import rules_of
from reinit_cli.storage.memory import limits
from reinit_cli.text import plural
from reinit_cli.threads import Progress, unwatched

if TYPE_CHECKING:
    import torch

    from reinit_cli.tensors.elements import Elements
else:
    torch = LazyModule("torch")

Target = tuple[Step, "torch.Tensor"]
"""What is done, and the tensor that it is done to."""


def plan_in_memory(source: StateSource, request: Request) -> InMemory:
    """Decide what happens to tensors in memory, and change nothing.

    Args:
        source: the tensors.
        request: what is asked for; its rules are read.

    Raises:
        ReinitError: a rule cannot be obeyed, or takes more memory than there is.
    """
    request = with_device(request)
    rules = rules_of(request.rules)
    inits = (rule.init for rule in rules)
    masks = [rule.mask for rule in rules if rule.mask]
    arch = arch_given(request.arch, request.arch_args or {}, source)
    references = find_references(inits, source.tensors, arch, source.layers, masks=masks)
    plan = decide(Entries(source.name, source.tensors), request, references.elsewhere)
    plan = with_masks(plan, references)
    refuse_too_large(plan, limits(), keeps_values=True)
    return InMemory(source, plan, references)


@dataclass(frozen=True, slots=True)
class InMemory:
    """What happens to tensors in memory.

    Attributes:
        source: the tensors.
        plan: what happens to each.
        references: what the rules refer to besides them.
    """

    source: StateSource
    plan: Plan
    references: References

    @property
    def targets(self) -> list[Target]:
        """What is filled, and the tensors that it is filled into."""
        return [(step, self.source.state[step.key]) for step in self.plan.fills]

    def check(self) -> None:
        """Refuse tensors that cannot be written.

        Raises:
            TensorError: there is one.
        """
        for step, tensor in self.targets:
            _check(step.key, tensor)


def apply(decided: InMemory, progress: Progress = unwatched) -> None:
    """Fill tensors in memory, all of them or none.

    Args:
        decided: what happens to them.
        progress: told the bytes of each tensor that is done.

    Raises:
        ReinitError: a tensor cannot be read, drawn or written; nothing is changed then.
    """
    from reinit_cli.tensors.device import one_thread

    decided.check()
    request = decided.plan.request
    laws = (step.law for step in decided.plan.draws)
    masks = masks_of(decided.plan)
    with (
        one_thread(),
        decided.references.opened(laws, request.seed, masks, decided.plan.taken) as donors,
    ):
        _fill(decided.targets, donors, request.device, progress)


def _fill(targets: Sequence[Target], donors: OpenDonors, device: str, progress: Progress) -> None:
    """Fill tensors in place, all of them or none.

    Raises:
        TensorError: one of them cannot be drawn or written.
        SourceError: a donor cannot be read, or changed meanwhile.
    """
    from reinit_cli.tensors.live import write

    def drawn(step: Step, tensor: torch.Tensor) -> torch.Tensor:
        return _drawn(step, tensor, donors, device)

    held = _held(targets, drawn)
    donors.check_unchanged()
    for step, tensor in targets:
        write(tensor, held.pop(step.key) if step.key in held else drawn(step, tensor))
        progress(step.tensor.nbytes)


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
        elif not all(map(_cannot_fail, step.draws)):
            drawn(step, tensor)
    return held


def _cannot_fail(draw: Step) -> bool:
    is_plain = type(draw.law) in _PLAIN and not draw.keeps_zeros
    return is_plain and not may_overflow(draw.law, draw.tensor.dtype)


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


def _patched(step: Step, tensor: torch.Tensor, donors: OpenDonors, device: str) -> torch.Tensor:
    """Return the values of a tensor of which several rules fill parts.

    Raises:
        TensorError: the old values cannot be transformed.
    """
    from reinit_cli.checkpoints.state import StateContents
    from reinit_cli.execution.draw import Drawing
    from reinit_cli.execution.fills import Filling
    from reinit_cli.execution.patches import Patchwork
    from reinit_cli.tensors.elements import Elements as Stored
    from reinit_cli.tensors.portions import Portions
    from reinit_cli.tensors.rounding import torch_tensor

    here = StateContents({step.key: tensor.detach().cpu().contiguous()})
    saturates = step.overflow == "largest"
    fill = Filling(here, donors, saturates=saturates).of(step, step.tensor)
    lose = partial(_refuse_lost, step.key)
    drawing = Drawing(device, lose, partial(refuse_overflow, step))
    blocks = Patchwork(fill, drawing).blocks(_unseen, lose)
    shape, dtype = step.tensor.shape, step.tensor.dtype
    return torch_tensor(Stored(Portions.of(blocks).take(shape, dtype), dtype))


def _unseen(at: int, block: Elements) -> None:
    """Show a draw to nobody."""
    del at, block


def _drawn(step: Step, tensor: torch.Tensor, donors: OpenDonors, device: str) -> torch.Tensor:
    """Return the values of a step, rounded.

    Raises:
        TensorError: the old values cannot be transformed.
    """
    from reinit_cli.execution.draw import There, draw_blocks, naming, values_of
    from reinit_cli.execution.zeros import Zeros
    from reinit_cli.tensors.elements import Elements
    from reinit_cli.tensors.portions import Portions
    from reinit_cli.tensors.rounding import elements_of_tensor, torch_tensor

    def here() -> Iterator[Elements]:
        yield elements_of_tensor(tensor.detach().cpu().reshape(-1))

    if step.patches:
        return _patched(step, tensor, donors, device)
    law = step.law
    assert law is not None
    values, own = here if isinstance(law, Transform) else None, None
    if isinstance(law, Transform) and law.donor is not None:
        view = donors.view(law.donor, law.donor_key or step.key)
        lose = partial(_refuse_lost, step.key)
        values = values_of(view, law, step.tensor.dtype, lose, saturates=step.overflow == "largest")
        own = here if law.mixes else None
    zeros = Zeros(here, step.zeros_version) if step.keeps_zeros else None
    there = There(values, zeros, own)
    info = step.tensor
    with naming(step):
        blocks = draw_blocks(law, info.shape, info.dtype, step.seed, device, there, step.stream)
        rounding = Rounding(step, partial(refuse_overflow, step), values, own)
        portions = Portions.of(map(rounding.next, blocks))
        taken = portions.take(info.shape, info.dtype)
        return torch_tensor(Elements(taken, info.dtype))
