"""List the entries of a state dict: its tensors at any depth, their keys joined by dots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Any, NamedTuple

from reinit_cli.checkpoints.formats.torch.contents.holders import Holders
from reinit_cli.checkpoints.formats.torch.contents.parts import (
    MODULE_GROUPS,
    Fields,
    Part,
    fields_of,
    is_mapping,
)
from reinit_cli.checkpoints.formats.torch.pickles.budget import MAX_DEPTH, Budget, has_text
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import (
    attributes_of,
    is_dict,
    is_module_record,
    is_tensor_record,
    kind_of,
)
from reinit_cli.checkpoints.formats.torch.pickles.records import Instance
from reinit_cli.errors import MalformedFileError
from reinit_cli.lazy import dataclass

LONE = "tensor"
"""The key of a tensor that is all that a file holds."""


# A named tuple: a file may have a hundred thousand, and dataclasses take four times as long.
class Entry(NamedTuple):
    """An entry of a state dict.

    Attributes:
        key: its whole key.
        value: its record.
        holder: the dictionary, list or tuple that holds it; None of a lone tensor.
        at: the number of its pair or item there.
        is_buffer: whether a module has it as a buffer; None where no module holds it.
    """

    key: str
    value: Any
    holder: Any = None
    at: int = 0
    is_buffer: bool | None = None


@dataclass(slots=True)
class Surplus:
    """What the entries of a state dict leave out of it.

    Attributes:
        rest: paths of what is not an entry, or is more than its entries, each with what it is.
        attributes: names of what is set on its dictionaries.
        inside: the identities of the containers that it is made of.
    """

    rest: list[str] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)
    inside: set[int] = field(default_factory=set)


def entries_of(
    root: Any, budget: Budget, holders: Holders | None = None, surplus: Surplus | None = None
) -> Iterator[Entry]:
    """Yield what `state_dict()` of a record would have.

    Dictionaries, lists, tuples, objects and modules below it are part of it. What is not a
    tensor is an entry only where it lies in a dictionary next to tensors.

    Args:
        root: the record.
        budget: what is left of the file's.
        holders: the containers with tensors in them.
        surplus: where to note what is left out.

    Raises:
        MalformedFileError: it is nested too deeply.
    """
    if is_tensor_record(root):
        yield Entry(LONE, root)
        return
    walk = _Walk(budget, holders or Holders(budget), surplus or Surplus())
    levels = [walk.level(root, "")]
    while levels:
        level = levels[-1]
        prefix = level.prefix
        for key, value, at, holder, pair in level.fields:
            if is_tensor_record(value) and has_text(key):
                name = key if type(key) is str else budget.text_of(key)
                whole = budget.made(prefix + name) if prefix else name
                is_buffer = holder is level.buffers if level.is_module else None
                yield Entry(whole, value, holder, pair, is_buffer)
                continue
            part = Part(key, value, at, holder, pair)
            inner = walk.inside(level, part)
            if inner is not None:
                levels.append(inner)
                break
            if walk.is_entry(level, part):
                whole = budget.made(prefix + budget.text_of(key))
                yield Entry(whole, value, holder, pair)
        else:
            walk.leave(levels.pop())


@dataclass(frozen=True, slots=True)
class _Level:
    """A container on the way.

    Attributes:
        record: the container itself.
        fields: its parts that were not met yet.
        prefix: what its keys start with.
        is_module: whether it is a module.
        takes_all: whether what is not a tensor is an entry too.
        depth: how many containers it lies in.
        buffers: the dictionary of the buffers of a module.
    """

    record: Any
    fields: Iterator[Fields]
    prefix: str
    is_module: bool
    takes_all: bool
    depth: int
    buffers: Any = None


class _Walk:
    """The way through the containers of a state dict."""

    def __init__(self, budget: Budget, holders: Holders, surplus: Surplus) -> None:
        self._budget = budget
        self._holders = holders
        self._surplus = surplus
        self._open: set[int] = set()

    def level(self, record: Any, prefix: str, outer: _Level | None = None) -> _Level:
        """Return a container to walk through, with what its keys start with."""
        budget = self._budget
        is_module = is_module_record(record, budget)
        takes_all = is_module or (is_mapping(record) and _has_tensors(record, budget))
        self._note(record, prefix, is_named=not (outer and outer.is_module))
        fields = iter(fields_of(record, budget))
        depth = outer.depth + 1 if outer else 0
        self._open.add(id(record))
        buffers = attributes_of(record, budget).get("_buffers") if is_module else None
        return _Level(record, fields, prefix, is_module, takes_all, depth, buffers)

    def leave(self, level: _Level) -> None:
        """Note that a container was walked through."""
        self._open.remove(id(level.record))

    def inside(self, level: _Level, part: Part) -> _Level | None:
        """Return a part to walk through; None where it has no tensors, or holds what holds it.

        Raises:
            MalformedFileError: it is nested too deeply.
        """
        if id(part.value) in self._open or not self._holders.opens(part):
            return None
        if level.depth >= MAX_DEPTH:
            problem = f"its pickle is nested deeper than {MAX_DEPTH}"
            raise MalformedFileError(self._budget.path, problem)
        prefix = self._budget.made(f"{level.prefix}{self._budget.text_of(part.key)}.")
        return self.level(part.value, prefix, level)

    def is_entry(self, level: _Level, part: Part) -> bool:
        """Whether what has no tensors is an entry all the same; what is not is noted."""
        if level.is_module:
            return not is_module_record(part.value, self._budget)
        if level.takes_all and has_text(part.key):
            return True
        name = self._budget.text_of(part.key)
        self._budget.spend(1)
        said = f"{level.prefix}{name} ({kind_of(part.value)})"
        self._surplus.rest.append(self._budget.made(said))
        return False

    def _note(self, record: Any, prefix: str, *, is_named: bool) -> None:
        """Note a container, and what of it no entry shows."""
        self._budget.spend(_CONTAINER_WORK, _CONTAINER_NBYTES)
        self._surplus.inside.add(id(record))
        if not isinstance(record, Instance):
            return
        self._surplus.inside.update(map(id, _state_dicts(record, self._budget)))
        if is_dict(record):
            names = attributes_of(record, self._budget)
            self._surplus.attributes += (self._budget.made(prefix + name) for name in names)
        elif prefix and is_named:
            self._surplus.rest.append(self._budget.made(f"{prefix[:-1]} ({kind_of(record)})"))


_CONTAINER_WORK = 30
"""The opcodes that take as long as the way into a container."""

_CONTAINER_NBYTES = 100


def _state_dicts(record: Instance, budget: Budget) -> Iterator[Any]:
    """Yield the dictionaries that hold what an object or a module is made of."""
    for state in record.state:
        yield from state if isinstance(state, tuple) else (state,)
    if is_module_record(record, budget):
        attributes = attributes_of(record, budget)
        yield from (attributes.get(group) for group in MODULE_GROUPS)


def _has_tensors(record: Any, budget: Budget) -> bool:
    return any(is_tensor_record(fields[1]) for fields in fields_of(record, budget))
