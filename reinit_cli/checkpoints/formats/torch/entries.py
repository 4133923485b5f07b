"""List the entries of a state dict, as `state_dict()` of a module would have them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from reinit_cli.checkpoints.formats.torch.budget import MAX_DEPTH, Budget
from reinit_cli.checkpoints.formats.torch.pickle_records import Dict, Instance, pairs_of
from reinit_cli.checkpoints.formats.torch.record_kinds import (
    attributes_of,
    is_module_record,
    members_of,
)


# A named tuple: a file may have a hundred thousand, and dataclasses take four times as long.
class Entry(NamedTuple):
    """An entry of a state dict.

    Attributes:
        key: its whole key.
        value: its record.
        holder: the dictionary that holds it; None where a module does.
        at: the number of its pair in the dictionary; 0 where there is none.
    """

    key: str
    value: Any
    holder: Dict | Instance | None = None
    at: int = 0


def entries_of(record: Any, budget: Budget) -> Iterator[Entry]:
    """Yield what `state_dict()` of a record would have."""
    if is_module_record(record, budget):
        yield from _module_entries(record, "", 0, budget)
        return
    for at, (key, value) in enumerate(pairs_of(record, budget)):
        if isinstance(key, str):
            yield Entry(key, value, record, at)
        elif type(key) is int:
            yield Entry(budget.text_of(key), value, record, at)


def _module_entries(record: Any, prefix: str, depth: int, budget: Budget) -> Iterator[Entry]:
    state = attributes_of(record, budget)
    left_out = _fleeting(state.get("_non_persistent_buffers_set"), budget)
    for group in ("_parameters", "_buffers"):
        for name, value in members_of(state.get(group), budget).items():
            if value is not None and not (group == "_buffers" and name in left_out):
                budget.spend(1 + depth // 4)  # it is yielded by every module around it
                yield Entry(budget.made(prefix + name), value)
    if depth < MAX_DEPTH:
        for name, module in members_of(state.get("_modules"), budget).items():
            if module is not None:
                inner = budget.made(f"{prefix}{name}.")
                yield from _module_entries(module, inner, depth + 1, budget)


def _fleeting(record: Any, budget: Budget) -> set[str]:
    """Return the names of the buffers that a state dict leaves out."""
    lists = [getattr(record, "items", ())]
    lists += (each for each in getattr(record, "args", ()) or () if isinstance(each, list))
    budget.spend(1 + sum(map(len, lists)))
    return {item for items in lists for item in items if isinstance(item, str)}
