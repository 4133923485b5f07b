"""Replace numbers in the states of optimizers, each by one that takes as many bytes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from reinit_cli.checkpoints.formats.base import Edits, Files
from reinit_cli.checkpoints.formats.torch.contents.entries import Entry
from reinit_cli.checkpoints.formats.torch.contents.optimizer_records import id_among
from reinit_cli.checkpoints.formats.torch.contents.state_dict import (
    Contents,
    contents_of,
    training_of,
)
from reinit_cli.checkpoints.formats.torch.edits.number_opcodes import LONGEST, respelled
from reinit_cli.checkpoints.formats.torch.edits.span_machine import read_spans
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import members_of
from reinit_cli.checkpoints.formats.torch.pickles.records import Pickle, pairs_of
from reinit_cli.lazy import dataclass
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Literal as Bytes
from reinit_cli.storage.segments import Segment
from reinit_cli.tensors.optimizer import NewNumber, NumberAt, ParameterId


class _Held(NamedTuple):
    """What an optimizer keeps for a parameter, or a group.

    Attributes:
        optimizer: the path of the optimizer.
        of: the id of the parameter, or the position of the group.
        holder: the dictionary that holds it.
    """

    optimizer: str
    of: ParameterId | int
    holder: Any


@dataclass(frozen=True, slots=True)
class Renumbering:
    """Where the numbers of the optimizers of a file are.

    Attributes:
        start: where its pickle starts.
        end: the offset after it.
        root: the path of the state dict in what it holds; "" for the whole.
        has_root: whether it holds a state dict.
    """

    start: int
    end: int
    root: str
    has_root: bool = True

    def __call__(self, files: Files, numbers: Sequence[NewNumber]) -> Edits:
        """Return what replaces numbers.

        Args:
            files: the file.
            numbers: those that become others.

        Raises:
            UnsupportedFormatError: one is not written as torch writes it.
        """
        return {"": _edits(files[""], self, numbers)}


def _edits(file: Reader, where: Renumbering, numbers: Sequence[NewNumber]) -> dict[int, Segment]:
    """Return what replaces numbers, by the offset in the file."""
    budget = Budget(file.path)
    spans = read_spans(file, where.start, where.end, budget)
    values = {each.at: each.value for each in numbers}
    holders = {(at.optimizer, at.of) for at in values}
    edits: dict[int, Segment] = {}
    pickle = Pickle(spans.top, spans.end, (), ())
    has_root = where.has_root
    found = (
        contents_of(pickle, budget, where.root or ".") if has_root else training_of(pickle, budget)
    )
    for held in _held(found, budget):
        if (held.optimizer, held.of) not in holders:
            continue
        keys = (key for key, _ in pairs_of(held.holder, budget))
        for slot, pair in zip(keys, spans.pairs(held.holder), strict=True):
            at = NumberAt(held.optimizer, held.of, slot)
            if isinstance(slot, str) and at in values:
                first, last = pair.value
                old = file.read(first, min(last - first, LONGEST + 1))
                new = respelled(old, values[at])
                if not new:
                    spans.refuse("a number of its optimizer is written in an unusual way")
                edits[first] = Bytes(new)
    if len(edits) != len(values):
        spans.refuse("its optimizers do not hold the numbers that are reset")
    return edits


def slot_entries(found: Contents, keys: Collection[str], budget: Budget) -> list[Entry]:
    """Return where tensors lie that optimizers keep for single parameters.

    Args:
        found: what a pickle holds.
        keys: those of the tensors.
        budget: what is left of the file's.
    """
    states = {each.path: each.states for each in found.optimizers}
    entries = []
    for held in _held(found, budget) if keys else ():
        state = None if isinstance(held.of, int) else states[held.optimizer].get(held.of)
        for at, (slot, value) in enumerate(pairs_of(held.holder, budget)):
            known = None if state is None else state.tensors.get(slot)
            if known is not None and known.key in keys:
                budget.spend(1, _ENTRY_NBYTES)
                entries.append(Entry(known.key, value, held.holder, at))
    return entries


_ENTRY_NBYTES = 120


def _held(found: Contents, budget: Budget) -> Iterator[_Held]:
    """Yield what the optimizers of a pickle keep."""
    for optimizer, record in zip(found.optimizers, found.optimizer_records, strict=True):
        members = members_of(record, budget)
        for number, group in enumerate(members["param_groups"]):
            yield _Held(optimizer.path, number, group)
        ids = frozenset(optimizer.ids)
        for parameter, state in pairs_of(members["state"], budget):
            if isinstance(parameter, (int, str)):
                yield _Held(optimizer.path, id_among(ids, parameter, budget), state)
