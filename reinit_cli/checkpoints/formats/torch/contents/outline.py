"""Outline what a pickle holds: what people would say of it, in a few lines.

Tensors are summed up where they lie together: in a state dict, in a module, in the slots of
an optimizer. Everything is bounded: levels, lines, and the characters of a line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from reinit_cli.checkpoints.formats.base import Located
from reinit_cli.checkpoints.formats.outline import Part
from reinit_cli.checkpoints.formats.torch.contents.outline_optimizers import optimizer_lines
from reinit_cli.checkpoints.formats.torch.contents.outline_sums import (
    MOST_NAMED,
    Member,
    Tensors,
    members_in,
    names_text,
    nbytes_of,
    path_text,
)
from reinit_cli.checkpoints.formats.torch.contents.outline_texts import (
    class_of,
    count_of,
    inline,
    kind_in_outline,
)
from reinit_cli.checkpoints.formats.torch.contents.parts import Part as Held
from reinit_cli.checkpoints.formats.torch.contents.training_state import is_training_state
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget, Path
from reinit_cli.checkpoints.formats.torch.pickles.numpy_records import PLAIN_ARRAY
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import (
    is_module_record,
    is_tensor_record,
    members_of,
)
from reinit_cli.checkpoints.formats.torch.pickles.records import Dict
from reinit_cli.text import plural, shape

MAX_PARTS = 300
"""The most lines."""

MAX_LEVELS = 5
"""The most levels below the whole."""

MOST_MEMBERS = 30
"""The members of a dictionary or an object that get a line each, where they hold others."""

MOST_VALUES = 200
"""The members that do in all: a program may have as many options."""

MOST_ITEMS = 6
"""The items of a list that do: most often they are alike."""

_MOST_OWN_LINES = 3
"""The tensors among other members that get a line each."""

_Above = tuple[tuple[int, str], ...]
"""The identities of what a record lies in, each with its path: it may hold itself."""

_LEAST_ALIKE = 4
"""How many dictionaries of the same keys get one line together."""


def outline_of(top: Any, budget: Budget, located: Located | None) -> tuple[Part, ...]:
    """Return what a pickle holds, the whole first, and each part before what is in it.

    Args:
        top: what the pickle stands for.
        budget: what is left of the file's.
        located: what was found in the file; None where it holds no state dict.

    Raises:
        MalformedFileError: a tensor is not what torch writes, or the pickle costs too much.
    """
    tensors = Tensors(budget)
    parts: list[Part] = []
    waiting: list[Part | tuple[Path, Any, _Above]] = [(None, top, ())]
    while waiting:
        each = waiting.pop()
        if len(parts) == MAX_PARTS:
            parts.append(Part("", "more", "what follows is left out"))
            break
        if isinstance(each, Part):
            parts.append(each)
            continue
        path, record, above = each
        here = path_text(path, budget)
        outer = dict(above).get(id(record))
        if outer is not None:
            parts.append(Part(here, kind_in_outline(record), f"the same as {outer or 'the whole'}"))
            continue
        is_root = located is not None and here == located.root
        found = optimizer_lines(record, path, tensors)
        if located is not None and is_root:
            parts.append(_state_dict(record, located, budget))
        else:
            parts.append(found.pop(0) if found else _part(here, record, tensors))
        shown = [*found, *_inside(record, path, tensors, is_root=is_root, is_known=bool(found))]
        longer = (*above, (id(record), here))
        below = [one if isinstance(one, Part) else (*one, longer) for one in shown]
        waiting += reversed(below if len(above) < MAX_LEVELS else [])
    return tuple(parts)


def _state_dict(record: Any, located: Located, budget: Budget) -> Part:
    """Return the line of the state dict."""
    infos = [info for info in located.tensors if not info.is_no_tensor]
    text = plural(len(infos), "tensor")
    text += f", {class_of(record)}" if is_module_record(record, budget) else ""
    return Part(located.root, "state dict", text, len(infos), nbytes_of(infos))


def _part(here: str, record: Any, tensors: Tensors) -> Part:
    """Return the line of a record."""
    budget = tensors.budget
    kind = kind_in_outline(record)
    if is_tensor_record(record):
        info = tensors.info(record)
        text = f"{shape(info.shape)} {info.dtype}"
        text += f", {info.carried}" if info.carried and info.carried != PLAIN_ARRAY else ""
        return Part(here, kind, text, 1, info.nbytes)
    if is_module_record(record, budget):
        infos = tensors.below(record)
        text = f"{plural(len(infos), 'tensor')}, {class_of(record)}"
        return Part(here, "module", text, len(infos), nbytes_of(infos.values()))
    value = inline(record, budget)
    if value is not None:
        return Part(here, kind, value)
    own = [(key, value) for key, value in members_in(record, budget) if is_tensor_record(value)]
    if own and _are_summed(record, own, budget):
        infos = {id(value): tensors.info(value) for _, value in own}
        names = f": {names_text(key for key, _ in own)}" if len(own) <= MOST_NAMED else ""
        text = plural(len(own), "tensor") + names
        return Part(here, kind, text, len(own), nbytes_of(infos.values()))
    if _are_alike(record, budget):
        infos = tensors.below(record)
        keys = sorted(members_of(record.pairs[1], budget))[:MOST_NAMED]
        text = f"{count_of(record)}: {names_text(keys)}"
        return Part(here, kind, text, len(infos), nbytes_of(infos.values()))
    return Part(here, kind, count_of(record))


def _first(members: Sequence[Member], budget: Budget, *, is_list: bool) -> list[Member]:
    """Return the members that get lines: as many as there is room for."""
    few: list[Member] = []
    nested = 0
    for member in members[: MOST_ITEMS if is_list else MOST_VALUES]:
        nested += inline(member[1], budget) is None
        if nested > MOST_MEMBERS:
            break
        few.append(member)
    return few


def _are_alike(record: Any, budget: Budget) -> bool:
    """Whether a dictionary holds many dictionaries of the same keys, as an optimizer's state."""
    if not isinstance(record, Dict) or len(record.pairs) < 2 * _LEAST_ALIKE:
        return False
    first = members_of(record.pairs[1], budget).keys()
    budget.spend(len(record.pairs))
    return bool(first) and all(
        isinstance(each, Dict)
        and len(each.pairs) == 2 * len(first)
        and members_of(each, budget).keys() == first
        for each in record.pairs[1::2]
    )


def _is_part(key: Any, value: Any, budget: Budget) -> bool:
    """Whether a member of a state dict is a part of it, and not of the training."""
    return not is_training_state(Held(key, value, 0), budget)


def _are_summed(record: Any, own: Sequence[Member], budget: Budget) -> bool:
    """Whether the tensors in a record get one line together."""
    members = sum(1 for _ in members_in(record, budget))
    return len(own) > _MOST_OWN_LINES or (len(own) == members and len(own) > 1)


def _inside(
    record: Any, path: Path, tensors: Tensors, *, is_root: bool, is_known: bool
) -> Iterator[Part | tuple[Path, Any]]:
    """Yield the members of a record that get lines of their own.

    Args:
        record: what may hold others.
        path: where it lies.
        tensors: those of the file.
        is_root: whether it is the state dict.
        is_known: whether it is an optimizer, whose state and groups have their lines.
    """
    budget = tensors.budget
    is_leaf = is_tensor_record(record) or is_module_record(record, budget)
    if is_leaf or inline(record, budget) is not None or _are_alike(record, budget):
        return
    if is_known and not isinstance(record, Dict):
        return
    members = list(members_in(record, budget))
    own = [member for member in members if is_tensor_record(member[1])]
    if is_root or _are_summed(record, own, budget):
        members = [member for member in members if not is_tensor_record(member[1])]
    if is_known:
        members = [member for member in members if member[0] not in ("state", "param_groups")]
    few = _first(members, budget, is_list=isinstance(record, (list, tuple)))
    for key, value in few:
        is_part = is_root and value is not record and _is_part(key, value, budget)
        infos = tensors.below(value) if is_part else {}
        if infos:
            here = path_text((path, key), budget)
            text = plural(len(infos), "tensor")
            yield Part(here, kind_in_outline(value), text, len(infos), nbytes_of(infos.values()))
        else:
            yield (path, key), value
    left = len(members) - len(few)
    if left > 0:
        yield Part(path_text(path, budget), "more", f"{left:,} more")
