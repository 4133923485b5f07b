"""Outline what a pickle holds: what people would say of it, in a few lines.

Tensors are summed up where they lie together: in a state dict, in a module, in the slots of
an optimizer. Everything is bounded: levels, lines, and the characters of a line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from reinit_cli.checkpoints.formats.base import Located
from reinit_cli.checkpoints.formats.outline import Part
from reinit_cli.checkpoints.formats.torch.budget import Budget, Path
from reinit_cli.checkpoints.formats.torch.numpy_records import PLAIN_ARRAY
from reinit_cli.checkpoints.formats.torch.outline_texts import (
    LONGEST_NAME,
    class_of,
    count_of,
    inline,
    kind_in_outline,
)
from reinit_cli.checkpoints.formats.torch.pickle_records import (
    Dict,
    Instance,
    Persistent,
    Set,
    pairs_of,
)
from reinit_cli.checkpoints.formats.torch.record_kinds import (
    attributes_of,
    is_dict,
    is_module_record,
    is_optimizer,
    is_tensor_record,
    members_of,
)
from reinit_cli.checkpoints.formats.torch.tensor_records import Reading
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import plural, shape, shortened

MAX_PARTS = 300
"""The most lines."""

_MAX_DEPTH = 5
"""The most levels below the whole."""

_MOST_MEMBERS = 30
"""The members of a dictionary or an object that get a line each."""

_MOST_ITEMS = 6
"""The items of a list that do: most often they are alike."""

_MOST_NAMED = 8
"""The tensors, or slots, that are named in the line that sums them up."""

_MOST_OWN_LINES = 3
"""The tensors among other members that get a line each."""

_VISIT_NBYTES = 120

_Member = tuple[Any, Any]
"""A key, or None for what has none, and what it stands for."""


def outline_of(top: Any, budget: Budget, located: Located | None) -> tuple[Part, ...]:
    """Return what a pickle holds, the whole first, and each part before what is in it.

    Args:
        top: what the pickle stands for.
        budget: what is left of the file's.
        located: what was found in the file; None where it holds no state dict.

    Raises:
        MalformedFileError: a tensor is not what torch writes, or the pickle costs too much.
    """
    tensors = _Tensors(budget)
    parts: list[Part] = []
    waiting: list[Part | tuple[Path, Any, int]] = [(None, top, 0)]
    while waiting:
        each = waiting.pop()
        if len(parts) == MAX_PARTS:
            parts.append(Part("", "more", "what follows is left out"))
            break
        if isinstance(each, Part):
            parts.append(each)
            continue
        path, record, depth = each
        here = _shown(path, budget)
        is_root = located is not None and here == located.root
        found = _optimizer(record, path, tensors) if is_optimizer(record, budget) else []
        if located is not None and is_root:
            parts.append(_state_dict(record, located, budget))
        else:
            parts.append(found.pop(0) if found else _part(here, record, tensors))
        shown = [*found, *_inside(record, path, tensors, is_root=is_root, is_known=bool(found))]
        below = [one if isinstance(one, Part) else (*one, depth + 1) for one in shown]
        waiting += reversed(below if depth < _MAX_DEPTH else [])
    return tuple(parts)


class _Tensors:
    """The tensors of a file that were summed up, each read once."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._reading = Reading(budget)
        self._infos: dict[int, TensorInfo] = {}

    def info(self, record: Any) -> TensorInfo:
        """Return what is known of a tensor."""
        if id(record) not in self._infos:
            self._infos[id(record)] = self._reading.info("", record)
        return self._infos[id(record)]

    def below(self, record: Any) -> dict[int, TensorInfo]:
        """Return every tensor in a record once, by its identity."""
        found: dict[int, TensorInfo] = {}
        seen: set[int] = set()
        waiting = [record]
        while waiting:
            part = waiting.pop()
            if id(part) in seen or not isinstance(part, (Dict, Instance, list, tuple)):
                continue
            seen.add(id(part))
            if is_tensor_record(part):
                found[id(part)] = self.info(part)
                continue
            inner = [value for _, value in _members(part, self.budget)]
            self.budget.spend(1 + len(inner) // 2, _VISIT_NBYTES + 8 * len(inner))
            waiting += inner
        return found


def _nbytes(infos: Collection[TensorInfo]) -> int:
    """Return the bytes of tensors, of tied ones once."""
    # Places as text: files choose the numbers, and integers can be chosen with one hash.
    places = {
        f"{each.storage} {each.dtype} {each.offset} {each.shape} {each.stride}": each.nbytes
        for each in infos
        if each.storage is not None
    }
    return sum(places.values()) + sum(each.nbytes for each in infos if each.storage is None)


def _shown(path: Path, budget: Budget) -> str:
    return shortened(budget.path_of(path), 2 * LONGEST_NAME)


def _state_dict(record: Any, located: Located, budget: Budget) -> Part:
    """Return the line of the state dict."""
    infos = [info for info in located.tensors if not info.is_no_tensor]
    text = plural(len(infos), "tensor")
    text += f", {class_of(record)}" if is_module_record(record, budget) else ""
    return Part(located.root, "state dict", text, len(infos), _nbytes(infos))


def _part(here: str, record: Any, tensors: _Tensors) -> Part:
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
        return Part(here, "module", text, len(infos), _nbytes(infos.values()))
    value = inline(record, budget)
    if value is not None:
        return Part(here, kind, value)
    own = [(key, value) for key, value in _members(record, budget) if is_tensor_record(value)]
    if own and _are_summed(record, own, budget):
        infos = {id(value): tensors.info(value) for _, value in own}
        names = f": {_named(key for key, _ in own)}" if len(own) <= _MOST_NAMED else ""
        text = plural(len(own), "tensor") + names
        return Part(here, kind, text, len(own), _nbytes(infos.values()))
    return Part(here, kind, count_of(record))


def _are_summed(record: Any, own: Sequence[_Member], budget: Budget) -> bool:
    """Whether the tensors in a record get one line together."""
    members = sum(1 for _ in _members(record, budget))
    return len(own) > _MOST_OWN_LINES or (len(own) == members and len(own) > 1)


def _named(keys: Iterable[Any]) -> str:
    return ", ".join(shortened(str(key), LONGEST_NAME) for key in keys)


def _inside(
    record: Any, path: Path, tensors: _Tensors, *, is_root: bool, is_known: bool
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
    if is_leaf or inline(record, budget) is not None:
        return
    members = list(_members(record, budget))
    own = [member for member in members if is_tensor_record(member[1])]
    if is_root or _are_summed(record, own, budget):
        members = [member for member in members if not is_tensor_record(member[1])]
    if is_known:
        members = [member for member in members if member[0] not in ("state", "param_groups")]
    most = _MOST_ITEMS if isinstance(record, (list, tuple)) else _MOST_MEMBERS
    for key, value in members[:most]:
        yield (path, key), value
    left = len(members) - most
    if left > 0:
        yield Part(_shown(path, budget), "more", f"{left:,} more")


def _members(record: Any, budget: Budget) -> Iterator[_Member]:
    """Yield what a record holds, as a user of it would list it."""
    if isinstance(record, (list, tuple, Set)):
        yield from enumerate(record.items if isinstance(record, Set) else record)
        return
    if not isinstance(record, (Dict, Instance)):
        return
    if isinstance(record, Instance) and not is_dict(record):
        yield from attributes_of(record, budget).items()
        yield from enumerate(record.items)
    for key, value in pairs_of(record, budget):
        yield budget.text_of(key), value


def _optimizer(record: Any, path: Path, tensors: _Tensors) -> list[Part]:
    """Return the lines of an optimizer's state: the whole, its slots, and each group."""
    budget = tensors.budget
    members = members_of(record, budget)
    groups = [members_of(group, budget) for group in members["param_groups"]]
    count = sum(len(group["params"]) for group in groups)
    text = f"{plural(count, 'parameter')} in {plural(len(groups), 'group')}"
    lines = [Part(_shown(path, budget), "optimizer", text)]
    lines.append(_slots(members["state"], (path, "state"), tensors))
    for at, group in enumerate(groups[:_MOST_NAMED]):
        here = _shown(((path, "param_groups"), at), budget)
        lines.append(Part(here, "dict", _group(group, budget)))
    if len(groups) > _MOST_NAMED:
        here = _shown((path, "param_groups"), budget)
        lines.append(Part(here, "more", f"{len(groups) - _MOST_NAMED:,} more"))
    return lines


def _slots(state: Any, path: Path, tensors: _Tensors) -> Part:
    """Return the line that sums up the slots of all parameters."""
    budget = tensors.budget
    names: dict[str, None] = {}
    count = 0
    for _, slots in pairs_of(state, budget):
        count += 1
        names |= dict.fromkeys(members_of(slots, budget))
    infos = tensors.below(state)
    named = sorted(names)
    budget.spend(len(named))
    text = plural(count, "parameter")
    if named:
        left = len(named) - _MOST_NAMED
        text += f": {_named(named[:_MOST_NAMED])}" + (f" and {left:,} more" if left > 0 else "")
    return Part(_shown(path, budget), "dict", text, len(infos), _nbytes(infos.values()))


def _group(group: dict[str, Any], budget: Budget) -> str:
    """Return what is known of a group: the number of its parameters, and its options."""
    texts = [plural(len(group["params"]), "parameter")]
    for name, value in group.items():
        text = inline(value, budget)
        if name not in ("params", "param_names") and text is not None and not _is_off(value):
            texts.append(f"{shortened(name, LONGEST_NAME)} {text}")
    return shortened(", ".join(texts[: _MOST_MEMBERS + 1]))


def _is_off(value: Any) -> bool:
    """Whether an option is one that is not used, as most of an optimizer's are."""
    return value is None or value is False or isinstance(value, Persistent)
