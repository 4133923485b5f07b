"""List the entries of a state dict: its tensors at any depth, their keys joined by dots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reinit_cli.checkpoints.formats.torch.budget import MAX_DEPTH, Budget, has_text
from reinit_cli.checkpoints.formats.torch.holders import Holders
from reinit_cli.checkpoints.formats.torch.parts import (
    MODULE_GROUPS,
    Part,
    is_leaf,
    is_mapping,
    parts_of,
)
from reinit_cli.checkpoints.formats.torch.pickle_records import Instance
from reinit_cli.checkpoints.formats.torch.record_kinds import (
    attributes_of,
    is_dict,
    is_module_record,
    is_tensor_record,
    kind_of,
)
from reinit_cli.errors import MalformedFileError

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
    """

    key: str
    value: Any
    holder: Any = None
    at: int = 0


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
        MalformedFileError: it is nested too deeply, as what holds itself is.
    """
    if is_tensor_record(root):
        yield Entry(LONE, root)
        return
    walk = _Walk(budget, holders or Holders(budget), surplus or Surplus())
    waiting = [walk.level(root, "")]
    while waiting:
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
        elif isinstance(found, Entry):
            yield found
        elif len(waiting) > MAX_DEPTH:
            problem = f"its pickle is nested deeper than {MAX_DEPTH}"
            raise MalformedFileError(budget.path, problem)
        else:
            record, prefix, of_module = found
            waiting.append(walk.level(record, prefix, of_module=of_module))


_Level = tuple[Any, str, bool]
"""A container, what its keys start with, and whether it is a part of a module."""


class _Walk:
    """The way through the containers of a state dict."""

    def __init__(self, budget: Budget, holders: Holders, surplus: Surplus) -> None:
        self._budget = budget
        self._holders = holders
        self._surplus = surplus

    def level(
        self, record: Any, prefix: str, *, of_module: bool = False
    ) -> Iterator[Entry | _Level]:
        """Yield the entries of one container, and the containers in it.

        Args:
            record: the container.
            prefix: what its keys start with.
            of_module: whether it is a part of a module.
        """
        budget = self._budget
        holder = record if is_mapping(record) else None
        is_module = is_module_record(record, budget)
        takes_all = is_module or (holder is not None and _has_tensors(record, budget))
        self._note(record, prefix, is_named=not of_module)
        for part in parts_of(record, budget):
            key, value = part.key, part.value
            if type(key) is not str and not has_text(key):
                self._leave(prefix, part)
                continue
            is_entry = takes_all or is_tensor_record(value)
            if not is_leaf(value):
                if self._holders.opens(part):
                    yield value, budget.made(f"{prefix}{budget.text_of(key)}."), is_module
                    continue
                # A module without tensors has no entries.
                is_entry = is_entry and not (is_module and is_module_record(value, budget))
            if is_entry:
                name = budget.text_of(key)
                key = budget.made(prefix + name) if prefix else name
                yield Entry(key, value, part.holder, part.pair)
            elif not is_module:
                self._leave(prefix, part)

    def _leave(self, prefix: str, part: Part) -> None:
        name = self._budget.text_of(part.key)
        self._budget.spend(1)
        self._surplus.rest.append(self._budget.made(f"{prefix}{name} ({kind_of(part.value)})"))

    def _note(self, record: Any, prefix: str, *, is_named: bool) -> None:
        """Note a container, and what of it no entry shows."""
        self._budget.spend(1, _CONTAINER_NBYTES)
        self._surplus.inside.add(id(record))
        if not isinstance(record, Instance):
            return
        self._surplus.inside.update(map(id, _state_dicts(record, self._budget)))
        if is_dict(record):
            names = attributes_of(record, self._budget)
            self._surplus.attributes += (self._budget.made(prefix + name) for name in names)
        elif prefix and is_named:
            self._surplus.rest.append(self._budget.made(f"{prefix[:-1]} ({kind_of(record)})"))


_CONTAINER_NBYTES = 100


def _state_dicts(record: Instance, budget: Budget) -> Iterator[Any]:
    """Yield the dictionaries that hold what an object or a module is made of."""
    for state in record.state:
        yield from state if isinstance(state, tuple) else (state,)
    if is_module_record(record, budget):
        attributes = attributes_of(record, budget)
        yield from (attributes.get(group) for group in MODULE_GROUPS)


def _has_tensors(record: Any, budget: Budget) -> bool:
    return any(is_tensor_record(part.value) for part in parts_of(record, budget))
