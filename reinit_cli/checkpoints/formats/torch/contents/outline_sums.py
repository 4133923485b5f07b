"""Sum up the tensors of a pickle, each read once, and list what its records hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from reinit_cli.checkpoints.formats.torch.contents.outline_texts import LONGEST_NAME
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget, Path
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import (
    attributes_of,
    is_dict,
    is_tensor_record,
)
from reinit_cli.checkpoints.formats.torch.pickles.records import Dict, Instance, Set, pairs_of
from reinit_cli.checkpoints.formats.torch.pickles.tensor_records import Reading
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import shortened

MOST_NAMED = 8
"""The tensors, slots or groups that are named in the line that sums them up."""

_VISIT_NBYTES = 120

Member = tuple[Any, Any]
"""A key and what it stands for."""


class Tensors:
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
            inner = [value for _, value in members_in(part, self.budget)]
            self.budget.spend(1 + len(inner) // 2, _VISIT_NBYTES + 8 * len(inner))
            waiting += inner
        return found


def nbytes_of(infos: Collection[TensorInfo]) -> int:
    """Return the bytes of tensors, of tied ones once."""
    # Places as text: files choose the numbers, and integers can be chosen with one hash.
    places = {
        f"{each.storage} {each.dtype} {each.offset} {each.shape} {each.stride}": each.nbytes
        for each in infos
        if each.storage is not None
    }
    return sum(places.values()) + sum(each.nbytes for each in infos if each.storage is None)


def path_text(path: Path, budget: Budget) -> str:
    """Return a path as a line shows it."""
    return shortened(budget.path_of(path), 2 * LONGEST_NAME)


def names_text(keys: Iterable[Any]) -> str:
    """Return the keys of what a line sums up."""
    return ", ".join(shortened(str(key), LONGEST_NAME) for key in keys)


def members_in(record: Any, budget: Budget) -> Iterator[Member]:
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
