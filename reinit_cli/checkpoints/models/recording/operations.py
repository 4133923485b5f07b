"""Obey torch's operations, with draws noted rather than drawn, and followed through others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reinit_cli.checkpoints.models.recording.arithmetic import Change
from reinit_cli.checkpoints.models.recording.calls import Call
from reinit_cli.checkpoints.models.recording.fills import COMPUTED, Fill, Unknown
from reinit_cli.checkpoints.models.recording.memory import Memory, Piece, numel_of_storage
from reinit_cli.checkpoints.models.recording.operands import number_in, operands
from reinit_cli.initializers import Law
from reinit_cli.initializers.law import Constant, Normal, Uniform
from reinit_cli.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
else:
    np = LazyModule("numpy")
    torch = LazyModule("torch")


def obey(memory: Memory, call: Call) -> Any:
    """Do what an operation does, and note it."""
    if call.base in EMPTY:
        made = call.run()
        memory.note_empty(made)
        return made
    if call.base in ("resize", "resize_as"):
        return _resized(memory, call)
    if call.base in _BLIND or call.is_view:
        return call.run()
    if call.name in _DRAWS and call.args[0].is_floating_point():
        given = {name: value for name, value in call.kwargs.items() if name != "generator"}
        memory.note_draw(call.args[0], _DRAWS[call.name](*call.args[1:], **given))
        return call.args[0]
    if call.name in _MADE_DRAWS and call.kwargs.get("out") is None:
        made = _made_draw(memory, call)
        if made is not None:
            return made
    known = [each for each in call.tensors if memory.knows(each)]
    if not known:
        return _of_unknown_memory(memory, call)
    handler = _HANDLERS.get(call.base)
    done = handler(memory, call) if handler is not None else None
    return _computed(memory, call, known) if done is None else done


def _resized(memory: Memory, call: Call) -> Any:
    """Resize a tensor, whose storage may get more memory that nobody has filled."""
    before = numel_of_storage(call.args[0])
    done = call.run()
    memory.note_growth(call.args[0], before)
    return done


def _made_draw(memory: Memory, call: Call) -> Tensor | None:
    """Return memory for a new tensor that is drawn; None where its law is none of ours."""
    numbers = _MADE_DRAWS[call.name]
    layout = {name: call.kwargs[name] for name in _LAYOUT if call.kwargs.get(name) is not None}
    if call.name.endswith("_like"):
        made = torch.empty_like(call.args[0], **layout)
    elif call.name == "normal":
        if any(isinstance(each, torch.Tensor) for each in call.args):
            return None
        layout.pop("memory_format", None)
        made = torch.empty(call.args[2], **layout)
    else:
        made = torch.empty(call.args[0], **layout)
    if not made.is_floating_point():
        return None
    memory.note_draw(made, numbers(*call.args[:2]) if call.name == "normal" else numbers())
    return made


def _of_unknown_memory(memory: Memory, call: Call) -> Any:
    """Do what has nothing to do with noted memory, unless it draws."""
    done = call.run()
    if call.draws:
        for each in _tensors(done):
            memory.note_unknown(each, f"its constructor draws it by torch's {call.name}")
    return done


def _tensors(done: Any) -> list[Tensor]:
    from torch.utils._pytree import tree_leaves

    return [each for each in tree_leaves(done) if isinstance(each, torch.Tensor)]


def _computed(memory: Memory, call: Call, known: Sequence[Tensor]) -> Any:
    """Do what is computed from noted memory, whose bytes are made to mean something before."""
    outputs = call.changed if "out" in call.func._schema.overload_name else []
    read = [each for each in known if not any(each is other for other in outputs)]
    is_random = call.draws or any(map(memory.is_random, read))
    for each in known:
        memory.draw(each) if is_random else memory.settle(each)
    done = call.run()
    made = [each for each in _tensors(done) if not memory.knows(each)]
    if not is_random:
        for each in call.changed:
            if memory.knows(each):
                memory.note(each, COMPUTED)
        return done
    word = "draws" if call.draws and not any(map(memory.is_random, read)) else "computes"
    problem = f"its constructor {word} it by torch's {call.name}"
    for each in call.changed:
        changes = f"its constructor changes it by torch's {call.name}"
        memory.note_unknown(each, changes, read)
    for each in made:
        memory.note_unknown(each, problem, read, "norms" if call.base in _NORMS else "chance")
    return done


def _fill(memory: Memory, call: Call) -> Any:
    """Follow `fill_` and `zero_`."""
    target = call.args[0]
    value: Any = 0.0 if call.base == "zero" else call.args[1]
    if isinstance(value, torch.Tensor):
        value = number_in(memory, value)
    if not call.changes or value is None or isinstance(value, complex):
        return None
    value = float(value) if target.is_floating_point() else value
    if not memory.knows(target) or memory.is_drawn(target):
        target.fill_(value)
    if memory.knows(target):
        memory.note(target, Fill(Constant(value)))
    return target


def _copy(memory: Memory, call: Call) -> Any:
    """Follow `copy_`."""
    target, source = call.args[:2]
    if not call.changes or not _keeps_laws(memory, source, target):
        return None
    _give(memory, source, target)
    return target


def _clone(memory: Memory, call: Call) -> Any:
    """Follow `clone`, and `to` another dtype."""
    source = call.args[0]
    layout = {name: call.kwargs[name] for name in _LAYOUT if call.kwargs.get(name) is not None}
    made = torch.empty_like(source, **layout)
    if not _keeps_laws(memory, source, made):
        return None
    _give(memory, source, made)
    return made


def _keeps_laws(memory: Memory, source: Tensor, target: Tensor) -> bool:
    """Whether a copy has the law of what is copied: among floats, or where there is none."""
    if source.is_floating_point() and target.is_floating_point():
        return True
    pieces = memory.pieces(source)
    return memory.is_drawn(source) and all(isinstance(fill.law, Unknown) for _, fill in pieces)


def _give(memory: Memory, source: Tensor, target: Tensor) -> None:
    """Give a tensor what another has, as notes where that is enough."""
    if source.shape != target.shape:
        source = source.expand(target.shape)
    pieces = memory.pieces(source)
    is_drawn = memory.is_drawn(source)
    if is_drawn:
        memory.draw(target)
    if is_drawn or memory.is_drawn(target) or any(fill == COMPUTED for _, fill in pieces):
        memory.draw(source) if memory.is_drawn(target) else None
        target.copy_(source)
    memory.refill(target, pieces)
    if is_drawn:
        memory.mark_drawn(target)


def _joined(memory: Memory, call: Call) -> Any:
    """Follow `cat` and `stack`."""
    parts: Sequence[Tensor] = call.args[0]
    if call.changes or not all(each.is_floating_point() for each in parts):
        return None
    if not any(map(memory.is_random, parts)):
        return None
    dim = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", 0)
    shape = call.func([each.to("meta") for each in parts], *call.args[1:], **call.kwargs)
    made = torch.empty_like(shape, device=parts[0].device)
    memory.note_empty(made)
    if call.base == "stack":
        targets = made.unbind(dim)
    else:
        targets = torch.split(made, [each.shape[dim] for each in parts], dim)
    for part, target in zip(parts, targets, strict=True):
        _give(memory, part, target)
    return made


def _arithmetic(memory: Memory, call: Call) -> Any:
    """Follow arithmetic of a tensor with a number."""
    found = operands(memory, call)
    if found is None:
        return None
    tensor, changes = found
    is_own = not call.changes or tensor is call.args[0]
    if not (is_own and tensor.is_floating_point() and memory.is_random(tensor)):
        return None
    pieces = memory.pieces(tensor)
    changed = [each for each in (_changed(piece, changes) for piece in pieces) if each is not None]
    if len(changed) < len(pieces):
        return None
    needs_bytes = memory.is_drawn(tensor) or any(fill == COMPUTED for _, fill in pieces)
    made = call.run() if needs_bytes else tensor if call.changes else torch.empty_like(tensor)
    is_drawn = memory.is_drawn(tensor)
    memory.refill(made, changed)
    if is_drawn:
        memory.mark_drawn(made)
    return made


def _changed(piece: Piece, changes: Sequence[Change]) -> Piece | None:
    """Return what becomes of a piece; None where its law is none of ours."""
    region, fill = piece
    for change in changes:
        law = change.law(fill.law) if isinstance(fill.law, Law) else None
        if fill == COMPUTED:
            continue
        if law is None:
            return None
        fill = replace(fill, law=law, changes=(*fill.changes, change))
    return region, fill


def _normal(mean: float = 0.0, std: float = 1.0) -> Law:
    return Normal(mean, std)


def _uniform(*ends: float, **named: float) -> Law:
    low, high = (*ends, *(0.0, 1.0)[len(ends) :])
    return Uniform(named.get("from", low), named.get("to", high))


_DRAWS: Mapping[str, Callable[..., Law]] = {"normal_": _normal, "uniform_": _uniform}
"""The draws in place that are noted, as laws of their arguments."""

_MADE_DRAWS: Mapping[str, Callable[..., Law]] = {
    "rand": _uniform,
    "rand_like": _uniform,
    "randn": _normal,
    "randn_like": _normal,
    "normal": _normal,
}
"""The draws of new tensors that are noted."""

EMPTY = frozenset(
    ("empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided")
)
"""What gives memory that nobody has filled."""

_BLIND = frozenset(
    ("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "sym_size")
)
"""What looks at nothing but the shape and dtype of a tensor."""

_NORMS = frozenset(("norm", "linalg_vector_norm"))
"""What computes the norms that a layer with weight normalization holds."""

_LAYOUT = ("dtype", "layout", "device", "memory_format")

_HANDLERS: Mapping[str, Callable[[Memory, Call], Any]] = {
    "zero": _fill,
    "fill": _fill,
    "copy": _copy,
    "clone": _clone,
    "_to_copy": _clone,
    "cat": _joined,
    "stack": _joined,
    **dict.fromkeys(("mul", "div", "add", "sub", "rsub", "neg", "erfinv"), _arithmetic),
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max"), _arithmetic),
}
"""What follows an operation with noted memory; it returns None where it cannot."""
