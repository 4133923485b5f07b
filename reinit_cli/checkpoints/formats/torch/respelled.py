"""Spell the pickle of a torch file again, with entries of other dtypes, shapes or keys.

A tensor that changes gets a storage of its own, which tied keys share; it keeps the name of
its old one where nothing else lies there. Whatever does not change (the optimizer, the epoch,
objects, other tensors of the same storage) is written by the bytes that wrote it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, NamedTuple

from reinit_cli.checkpoints.formats.respelling import NewEntry, Respelling
from reinit_cli.checkpoints.formats.torch.budget import Budget
from reinit_cli.checkpoints.formats.torch.entries import Entry
from reinit_cli.checkpoints.formats.torch.key_edits import key_edits
from reinit_cli.checkpoints.formats.torch.optimizer_numbers import Renumbering, slot_entries
from reinit_cli.checkpoints.formats.torch.pickle_edits import Replacement, edited
from reinit_cli.checkpoints.formats.torch.pickle_records import (
    Dict,
    Instance,
    Persistent,
    Pickle,
    Set,
    pairs_of,
)
from reinit_cli.checkpoints.formats.torch.pickle_spans import Spans
from reinit_cli.checkpoints.formats.torch.span_machine import read_spans
from reinit_cli.checkpoints.formats.torch.state_dict import Contents, contents_of
from reinit_cli.checkpoints.formats.torch.tensor_call import Span
from reinit_cli.checkpoints.formats.torch.tensor_edits import changed_tensor
from reinit_cli.checkpoints.formats.torch.tensor_records import Storage
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Literal, Segment
from reinit_cli.tensors.info import TensorInfo


@dataclass(frozen=True, slots=True)
class Respelled:
    """A pickle and its storages after a change.

    Attributes:
        pickle: its bytes.
        storages: for the name of each storage that is new or changes, its bytes.
        numels: the number of elements of each of them.
        before: the storages that there were, by name.
        gone: the names of those that nothing uses any more.
    """

    pickle: Sequence[Segment]
    storages: Mapping[str, Sequence[Segment]]
    numels: Mapping[str, int]
    before: Mapping[str, Storage]
    gone: AbstractSet[str]


def respelled(file: Reader, where: Renumbering, changes: Respelling) -> Respelled:
    """Return the pickle of a file after some changes.

    Args:
        file: the file.
        where: where its pickle lies, and the state dict in it.
        changes: what becomes of the entries of its state dict.

    Raises:
        UnsupportedFormatError: its pickle shares what changes in a way that cannot be kept.
    """
    budget = Budget(file.path)
    spans = read_spans(file, where.start, where.end, budget)
    found = contents_of(Pickle(spans.top, spans.end, (), ()), budget, where.root or ".")
    own = {entry.key for entry in found.entries}
    slots = slot_entries(found, changes.entries.keys() - own, budget)
    entries = [*found.entries, *slots]
    places = _places_of(spans, entries, changes.entries, budget)
    replaced = {
        (id(place.entry.holder), place.entry.at)
        for key, place in places.items()
        if _is_replaced(changes.entries[key])
    }
    used = _names_used(spans.top, replaced, budget)
    names = _names_of(found, changes.entries, used)
    replacements = dict(_replacements(spans, places, changes.entries, names))
    keys = {
        key: new.key if new is not None else None
        for key, new in changes.entries.items()
        if key in own and (new is None or new.key != key)
    }
    if keys:
        replacements |= key_edits(spans, found.record, found.entries, keys, budget)
    for slot in slots:
        if changes.entries[slot.key] is None:
            pair = spans.pairs(slot.holder)[slot.at]
            replacements |= dict.fromkeys(pair.whole, b"")
    for at, number in changes.edits.get("", {}).items():
        if where.start <= at < where.end:
            assert isinstance(number, Literal)
            replacements[at, at + number.nbytes] = bytes(number.data)
    return Respelled(
        edited(file, where.start, where.end, spans, replacements),
        {names[share]: data for share, data in changes.data.items()},
        {
            names[str(new.tensor.storage)]: new.tensor.numel
            for new in changes.entries.values()
            if new is not None and new.tensor is not None
        },
        found.storages,
        found.storages.keys() - used - set(names.values()),
    )


class _Place(NamedTuple):
    """Where an entry lies.

    Attributes:
        entry: the entry.
        value: the bytes of its value.
    """

    entry: Entry
    value: Span


def _is_replaced(new: NewEntry | None) -> bool:
    return new is None or new.tensor is not None


def _places_of(
    spans: Spans,
    entries: Sequence[Entry],
    changes: Mapping[str, NewEntry | None],
    budget: Budget,
) -> dict[str, _Place]:
    """Return where the entries that change lie."""
    pairs: dict[int, list[Any]] = {}
    places = {}
    for entry in entries:
        if entry.key not in changes:
            continue
        if entry.key in places:
            spans.refuse(f"{entry.key!r} lies in two places")
        budget.spend(4, _PLACE_NBYTES)
        if isinstance(entry.holder, (list, tuple)):
            value = spans.items(entry.holder)[entry.at]
            places[entry.key] = _Place(entry, value)
        elif entry.holder is None:
            places[entry.key] = _Place(entry, _lone(spans, entry))
        else:
            held = pairs.get(id(entry.holder))
            if held is None:
                held = pairs[id(entry.holder)] = spans.pairs(entry.holder)
            places[entry.key] = _Place(entry, held[entry.at].value)
    _check_shared(spans, entries, changes)
    return places


_PLACE_NBYTES = 400


def _lone(spans: Spans, entry: Entry) -> Span:
    """Return the bytes of a tensor that is all that a file holds."""
    if entry.value is not spans.top:
        spans.refuse("its tensor is shared with what holds it")
    return spans.of(entry.value)


def _check_shared(
    spans: Spans, entries: Sequence[Entry], changes: Mapping[str, NewEntry | None]
) -> None:
    """Refuse to change a dictionary or list that lies under several keys under one of them."""
    met: dict[tuple[int, int], Entry] = {}
    for entry in entries:
        first = met.setdefault((id(entry.holder), entry.at), entry)
        if first is entry:
            continue
        ours, theirs = (_change_of(each.key, changes) for each in (entry, first))
        if ours != theirs:
            spans.refuse(f"{first.key!r} and {entry.key!r} are one object, and change otherwise")


def _change_of(key: str, changes: Mapping[str, NewEntry | None]) -> object:
    """Return what happens to an entry, where its key does not matter."""
    if key not in changes:
        return TensorInfo
    new = changes[key]
    if new is None:
        return None
    return new.tensor and replace(new.tensor, key=""), new.key == key


_COMPOSED = (Dict, Instance, Set, list, tuple, Persistent)

_VISIT_NBYTES = 120


def _parts(record: Any, budget: Budget) -> Iterator[tuple[int, Any]]:
    """Yield what a record is made of, pairs and items with their numbers, the rest with -1."""
    if isinstance(record, (list, tuple, Set)):
        items = record.items if isinstance(record, Set) else record
        budget.spend(len(items) // 4)
        yield from enumerate(items)
        return
    if isinstance(record, Persistent):
        yield -1, record.id
    for at, (key, value) in enumerate(pairs_of(record, budget)):
        yield at, value
        if isinstance(key, _COMPOSED):
            yield -1, key
    if isinstance(record, Instance):
        budget.spend(len(record.items) // 4)
        yield from ((-1, part) for part in (record.args, record.function))
        yield from ((-1, part) for part in (*record.state, *record.items))


def _names_used(top: Any, replaced: AbstractSet[tuple[int, int]], budget: Budget) -> set[str]:
    """Return the names of the storages that lie in something that is not replaced."""
    used: set[str] = set()
    seen: set[int] = set()
    waiting = [top]
    while waiting:
        record = waiting.pop()
        if id(record) in seen:
            continue
        seen.add(id(record))
        if isinstance(record, Persistent) and isinstance(record.id, tuple) and len(record.id) > 2:
            used.add(str(record.id[2]))
        for at, part in _parts(record, budget):
            if isinstance(part, _COMPOSED) and (id(record), at) not in replaced:
                budget.spend(1, _VISIT_NBYTES)
                waiting.append(part)
    return used


def _names_of(
    found: Contents, changes: Mapping[str, NewEntry | None], used: AbstractSet[str]
) -> dict[str, str]:
    """Return the name of each new storage, by what the changed tensors call it."""
    old = {tensor.key: str(tensor.storage) for tensor in (*found.tensors, *found.outside)}
    numbers = [int(name) for name in found.storages if name.isdecimal() and len(name) <= 20]
    fresh = count(max(numbers, default=-1) + 1)
    names: dict[str, str] = {}
    taken = set(used)
    for key, new in changes.items():
        if new is None or new.tensor is None or new.tensor.storage in names:
            continue
        name = old[key]
        if name in taken:
            name = next(text for text in map(str, fresh) if text not in found.storages)
        taken.add(name)
        names[str(new.tensor.storage)] = name
    return names


def _replacements(
    spans: Spans,
    places: Mapping[str, _Place],
    changes: Mapping[str, NewEntry | None],
    names: Mapping[str, str],
) -> Iterator[tuple[Span, Replacement]]:
    """Yield what replaces the values of entries."""
    for key, place in places.items():
        new = changes[key]
        if new is not None and new.tensor is not None:
            tensor = replace(new.tensor, storage=names[str(new.tensor.storage)])
            yield place.value, changed_tensor(spans, place.entry.value, tensor)
