"""Give a checkpoint's entries the dtypes and shapes that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace

from reinit_cli.errors import RuleError
from reinit_cli.lazy import dataclass
from reinit_cli.planning.cast import cast
from reinit_cli.planning.layers import RenamedLayers
from reinit_cli.planning.owners import ALONE, Surroundings
from reinit_cli.planning.reshape import RESIZE_VERSION, Reshapes, reshaped, to_shapes
from reinit_cli.planning.select import selection_of
from reinit_cli.planning.units import HeadCounts
from reinit_cli.planning.weight_norm import left_alone_of
from reinit_cli.request.request import Request
from reinit_cli.request.resize import resizes_of
from reinit_cli.tensors.info import TensorInfo, tied_groups
from reinit_cli.tensors.layers.layer import Layers
from reinit_cli.tensors.optimizer import Optimizer
from reinit_cli.tensors.spared import Spared

Heads = Mapping[str, tuple[int, ...]]
"""The tensors of a new head of classes, and the shapes that they are to have."""


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of a checkpoint, and which of them get another shape.

    Attributes:
        source: the name of the checkpoint, for messages.
        tensors: in the order of the state dict.
        outside: other tensors, which no rule reaches but which may share memory.
        optimizers: the optimizer state next to the state dict.
        spared: what a wildcard leaves alone, as the checkpoint has it; None to look at `tensors`.
        reshapes: the tensors whose shape changes.
        heads: the keys of a new head, which is filled as its model does.
        origins: for each key that is new, the key in the source.
        dropped: the keys of the source that are left out.
        warnings: what a user should know of these keys.
        before: the entries as the checkpoint has them, once `tensors` are as they are asked for.
        order: the keys of the optimizers' parameters, where the user gives them.
        around: where the state dict lies.
        model_type: returns what the config next to the checkpoint calls its model, or "".
        counts_of_heads: returns how many heads the config says that attentions have.
        layers: the layers of its tensors; None where no pattern asks for them.
    """

    source: str
    tensors: tuple[TensorInfo, ...]
    outside: tuple[TensorInfo, ...] = ()
    optimizers: tuple[Optimizer, ...] = ()
    spared: Mapping[str, Spared] | None = None
    reshapes: Reshapes = field(default_factory=dict)
    heads: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    before: tuple[TensorInfo, ...] = ()
    order: tuple[str, ...] | None = None
    around: Surroundings = ALONE
    model_type: Callable[[], str] = str
    counts_of_heads: Callable[[], HeadCounts] = HeadCounts
    layers: Layers | None = None


def as_asked(
    entries: Entries, request: Request, heads: Heads, version: int = RESIZE_VERSION
) -> Entries:
    """Return entries with the dtypes and shapes that they are to have.

    Args:
        entries: as the checkpoint has them.
        request: what is asked for.
        heads: the tensors of a head with the number of classes that is asked for.
        version: that of resizing, which a record may name.

    Raises:
        UnknownNameError: the dtype is not one of floats.
        RuleError: a rename, a resize or what else is asked for of keys cannot be obeyed.
    """
    before = entries.tensors
    if request.selects:
        entries, heads = _selected(entries, request, heads)
    tensors, idle = cast(entries.source, entries.tensors, request, entries.outside, entries.layers)
    tensors = untied(tensors) if request.untie else tensors
    resized = reshaped(entries.source, tensors, resizes_of(request.resize), version, entries.layers)
    tensors, of_heads = to_shapes(resized.tensors, heads, {})
    return replace(
        entries,
        tensors=tensors,
        # A weight is quantized, and has scales, whatever dtype it is cast to; rules alone ask.
        spared=left_alone_of(entries.tensors) if request.rules else {},
        reshapes={**resized.reshapes, **of_heads},
        heads=tuple(heads),
        warnings=(*entries.warnings, *idle, *resized.notes),
        before=before,
    )


def _selected(entries: Entries, request: Request, heads: Heads) -> tuple[Entries, Heads]:
    """Return the entries that are taken, and a new head, under their new names."""
    keys = [tensor.key for tensor in entries.tensors]
    selection = selection_of(entries.source, keys, request, entries.layers)
    tensors = tuple(
        tensor if name == tensor.key else replace(tensor, key=name)
        for tensor in entries.tensors
        if (name := selection.names.get(tensor.key)) is not None
    )
    if _have_tensors(entries.tensors) and not _have_tensors(tensors):
        # A file without one holds no state dict, and could not be read again.
        raise RuleError(entries.source, f"no tensor of {entries.source} is left")
    selected = replace(
        entries,
        tensors=tensors,
        origins=selection.origins,
        dropped=selection.dropped,
        warnings=selection.warnings,
        layers=RenamedLayers.of(entries.layers, selection.origins),
    )
    names = selection.names
    return selected, {names[key]: shape for key, shape in heads.items() if key in names}


def _have_tensors(entries: Sequence[TensorInfo]) -> bool:
    return not all(entry.is_no_tensor for entry in entries)


def untied(tensors: Sequence[TensorInfo]) -> tuple[TensorInfo, ...]:
    """Return tensors of which none shares its memory with another."""
    ties = tied_groups(tuple(tensors))
    return tuple(
        replace(tensor, storage=None, offset=0, stride=None) if tensor.key in ties else tensor
        for tensor in tensors
    )
