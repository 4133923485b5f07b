"""Look into containers: dictionaries, lists, tuples, objects and modules, one level at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, repeat, starmap
from typing import Any, NamedTuple

from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import (
    attributes_of,
    is_dict,
    is_module_record,
    is_plain_tensor,
    is_tensor_record,
)
from reinit_cli.checkpoints.formats.torch.pickles.records import Dict, Instance, pairs_of


# A named tuple: a file may have a hundred thousand, and dataclasses take four times as long.
class Part(NamedTuple):
    """A part of a container.

    Attributes:
        key: its key, index or name there, whatever that is.
        value: its record.
        at: its number.
        holder: the dictionary, list or tuple that holds it, which for an object or a module is
            not the container itself.
        pair: its number there.
    """

    key: Any
    value: Any
    at: int
    holder: Any = None
    pair: int = 0


MODULE_GROUPS = ("_parameters", "_buffers", "_modules")
"""The attributes of a module that its state dict is made of."""

CONTAINERS = (Dict, Instance, list, tuple)
"""The records that may be containers."""


def is_mapping(record: Any) -> bool:
    """Whether a record has keys and values: a dictionary of any kind, those of users included."""
    return is_dict(record) or (isinstance(record, Instance) and bool(record.pairs))


def is_sequence(record: Any) -> bool:
    """Whether a record has numbered parts: a list, a tuple, a queue."""
    if isinstance(record, Instance):
        return bool(record.items) and not record.pairs
    return isinstance(record, (list, tuple))


def is_leaf(record: Any) -> bool:
    """Whether a record has no parts: a number, a text, a tensor."""
    return not isinstance(record, CONTAINERS) or is_tensor_record(record)


def is_object(record: Any) -> bool:
    """Whether a record is an object of a class that torch does not know."""
    return isinstance(record, Instance) and not (is_dict(record) or is_tensor_record(record))


Fields = tuple[Any, Any, int, Any, int]
"""Those of a part, which are cheaper than parts where there are many."""


def parts_of(record: Any, budget: Budget) -> Iterable[Part]:
    """Return the parts of a container, as `state_dict()` and Python's own indices name them."""
    return starmap(Part, fields_of(record, budget))


def fields_of(record: Any, budget: Budget) -> Iterable[Fields]:
    """Return the fields of the parts of a container."""
    if isinstance(record, (list, tuple)):
        return _numbered(record, record, budget)
    if is_leaf(record):
        return ()
    if is_mapping(record):
        budget.spend(1 + len(record.pairs) // 4)
        return zip(record.pairs[::2], record.pairs[1::2], count(), repeat(record), count())
    if record.items:
        return _numbered(record, record.items, budget)
    if is_module_record(record, budget):
        return _module_parts(record, budget)
    return attribute_parts(record, budget)


def inner_parts(record: Any, budget: Budget) -> Iterator[Part]:
    """Yield the parts that are containers themselves."""
    for fields in fields_of(record, budget):
        value = fields[1]
        # Most parts of a state dict are plain tensors.
        if not (type(value) is Instance and is_plain_tensor(value)) and not is_leaf(value):
            yield Part(*fields)


def attribute_parts(record: Any, budget: Budget) -> Iterator[Part]:
    """Return the attributes of an object."""
    attributes = attributes_of(record, budget)
    places = {
        name: (holder, pair)
        for state in record.state
        for holder in (state if isinstance(state, tuple) else (state,))
        for pair, name, _ in _named(holder, budget)
    }
    return (
        Part(name, value, at, *places.get(name, (None, 0)))
        for at, (name, value) in enumerate(attributes.items())
    )


def _numbered(record: Any, items: Sequence[Any], budget: Budget) -> Iterator[Fields]:
    budget.spend(1 + len(items) // 2)
    return zip(count(), items, count(), repeat(record), count())


def _named(record: Any, budget: Budget) -> Iterator[tuple[int, str, Any]]:
    """Yield the members of a dictionary whose keys are texts, each with its number."""
    if is_dict(record):
        for pair, (name, value) in enumerate(pairs_of(record, budget)):
            if isinstance(name, str):
                yield pair, name, value


def _module_parts(record: Any, budget: Budget) -> Iterator[Part]:
    """Yield the parameters of a module, the buffers that are saved, and its modules."""
    state = attributes_of(record, budget)
    left_out = _fleeting(state.get("_non_persistent_buffers_set"), budget)
    at = 0
    for group in MODULE_GROUPS:
        for pair, name, value in _named(state.get(group), budget):
            is_saved = not (group == "_buffers" and name in left_out)
            if group == "_modules":
                is_saved = is_module_record(value, budget)
            if value is not None and is_saved:
                yield Part(name, value, at, state.get(group), pair)
            at += 1


def _fleeting(record: Any, budget: Budget) -> set[str]:
    """Return the names of the buffers that a state dict leaves out."""
    lists = [getattr(record, "items", ())]
    lists += (each for each in getattr(record, "args", ()) or () if isinstance(each, list))
    budget.spend(1 + sum(map(len, lists)))
    return {item for items in lists for item in items if isinstance(item, str)}
