"""Spell the pickle of a torch file again, with entries of other dtypes, shapes or keys.

A tensor that changes gets a storage of its own, which tied keys share; it keeps the name of
its old one where nothing else lies there. Whatever does not change (the optimizer, the epoch,
objects, other tensors of the same storage) is written by the bytes that wrote it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from itertools import count
from typing import Any, NamedTuple

from reinit_cli.checkpoints.formats.respelling import NewEntry, Respelling
from reinit_cli.checkpoints.formats.torch.contents.entries import Entry
from reinit_cli.checkpoints.formats.torch.contents.parts import is_mapping
from reinit_cli.checkpoints.formats.torch.contents.state_dict import Contents, contents_of
from reinit_cli.checkpoints.formats.torch.edits.key_edits import key_edits
from reinit_cli.checkpoints.formats.torch.edits.module_versions import metadata_edits
from reinit_cli.checkpoints.formats.torch.edits.optimizer_numbers import Renumbering, slot_entries
from reinit_cli.checkpoints.formats.torch.edits.pickle_edits import edited
from reinit_cli.checkpoints.formats.torch.edits.pieces import Joined
from reinit_cli.checkpoints.formats.torch.edits.replacements import Replacement
from reinit_cli.checkpoints.formats.torch.edits.shared_edits import (
    in_its_place,
    lies_alone,
    with_followers,
)
from reinit_cli.checkpoints.formats.torch.edits.span_machine import read_spans
from reinit_cli.checkpoints.formats.torch.edits.spans import Spans
from reinit_cli.checkpoints.formats.torch.edits.storage_names import Leaving, names_used
from reinit_cli.checkpoints.formats.torch.edits.tensor_edits import changed_tensor
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.machine import read_pickle
from reinit_cli.checkpoints.formats.torch.pickles.records import Pickle
from reinit_cli.checkpoints.formats.torch.pickles.tensor_call import Span
from reinit_cli.checkpoints.formats.torch.pickles.tensor_records import Storage
from reinit_cli.errors import UnsupportedFormatError
from reinit_cli.lazy import dataclass
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
    places = _places_of(spans, found.entries, changes.entries, budget)
    slot_places = _places_of(spans, slots, changes.entries, budget)
    root, way = found.record, found.way
    is_alone = lies_alone(spans, root, way, {place.value for place in places.values()})
    leaving = _leaving(places if is_alone else {}, slot_places, changes.entries)
    used = names_used((spans.top, *spans.dropped), root, leaving, budget)
    names = _names_of(found, changes.entries, used)
    changed = dict(_replacements(spans, places, changes.entries, names))
    others = {place.value for place in places.values()} - changed.keys()
    replacements = with_followers(spans, root, changed, others)
    keys = {
        key: new.key if new is not None else None
        for key, new in changes.entries.items()
        if key in own and (new is None or new.key != key)
    }
    if keys:
        replacements |= key_edits(spans, root, found.entries, keys, budget)
        left = {entry.key: keys.get(entry.key, entry.key) for entry in found.entries}
        kept = {key: new for key, new in left.items() if new is not None}
        replacements |= metadata_edits(spans, root, kept, budget)
    if not is_alone:
        replacements = in_its_place(spans, root, way, replacements)
    replacements |= _replacements(spans, slot_places, changes.entries, names)
    for slot in slots:
        if changes.entries[slot.key] is None:
            pair = spans.pairs(slot.holder)[slot.at]
            replacements |= dict.fromkeys(pair.whole, b"")
    for at, number in changes.edits.get("", {}).items():
        if where.start <= at < where.end:
            assert isinstance(number, Literal)
            replacements[at, at + number.nbytes] = bytes(number.data)
    pickle = edited(file, where.start, where.end, spans, _outermost(replacements))
    after = _storages_of(Joined(file.path, pickle), where, _expected(found, changes.entries, names))
    return Respelled(
        pickle,
        {names[share]: data for share, data in changes.data.items()},
        {
            names[str(new.tensor.storage)]: new.tensor.numel
            for new in changes.entries.values()
            if new is not None and new.tensor is not None
        },
        found.storages,
        found.storages.keys() - after,
    )


def _outermost(replacements: Mapping[Span, Replacement]) -> dict[Span, Replacement]:
    """Return replacements without those of values that are left out with what holds them.

    A tie that changes may be made where a key of it is dropped.
    """
    kept: dict[Span, Replacement] = {}
    reached = 0
    for start, end in sorted(replacements, key=lambda span: (span[0], -span[1])):
        if end <= reached:
            continue
        kept[start, end] = replacements[start, end]
        reached = end if replacements[start, end] == b"" else reached
    return kept


class _Place(NamedTuple):
    """Where an entry lies.

    Attributes:
        entry: the entry.
        value: the bytes of its value.
    """

    entry: Entry
    value: Span

    @property
    def where(self) -> tuple[int, int]:
        """Its place in what the records stand for."""
        return id(self.entry.holder), self.entry.at


def _stays(key: str, changes: Mapping[str, NewEntry | None]) -> bool:
    """Whether the value of an entry stays as it is."""
    new = changes.get(key, NewEntry(key))
    return new is not None and new.tensor is None


def _places_of(
    spans: Spans,
    entries: Sequence[Entry],
    changes: Mapping[str, NewEntry | None],
    budget: Budget,
) -> dict[str, _Place]:
    """Return where the entries that change lie, and others that are the same objects."""
    pairs: dict[int, list[Any]] = {}
    places = {}
    changing = {id(entry.value) for entry in entries if not _stays(entry.key, changes)}
    for entry in entries:
        if entry.key not in changes and id(entry.value) not in changing:
            continue
        if entry.key in places:
            spans.refuse(f"{entry.key!r} lies in two places")
        budget.spend(4, _PLACE_NBYTES)
        if entry.holder is None:
            places[entry.key] = _Place(entry, _lone(spans, entry))
        elif not is_mapping(entry.holder):
            places[entry.key] = _Place(entry, spans.items(entry.holder)[entry.at])
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


def _leaving(
    places: Mapping[str, _Place],
    slots: Mapping[str, _Place],
    changes: Mapping[str, NewEntry | None],
) -> Leaving:
    """Return what leaves a pickle where its entries change, and slots of optimizers."""
    return Leaving(
        frozenset(
            id(place.entry.value)
            for key, place in places.items()
            if (new := changes.get(key)) is not None and new.tensor is not None
        ),
        frozenset(place.where for key, place in places.items() if _stays(key, changes)),
        frozenset(
            place.where
            for key, place in (*places.items(), *slots.items())
            if (key in slots and not _stays(key, changes)) or changes.get(key, _KEPT) is None
        ),
    )


_KEPT = NewEntry("")


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
        new = changes.get(key)
        if new is not None and new.tensor is not None:
            tensor = replace(new.tensor, storage=names[str(new.tensor.storage)])
            yield place.value, changed_tensor(spans, place.entry.value, tensor)


def _expected(
    found: Contents, changes: Mapping[str, NewEntry | None], names: Mapping[str, str]
) -> dict[str, _Expected]:
    """Return what the state dict holds afterwards, by key."""
    expected = {}
    for tensor in found.tensors:
        new = changes.get(tensor.key, NewEntry(tensor.key))
        if new is None or tensor.is_no_tensor:
            continue
        what = new.tensor or tensor
        storage = names[str(what.storage)] if new.tensor else what.storage
        expected[new.key] = (what.dtype, what.shape, storage)
    return expected


_Expected = tuple[str, tuple[int, ...], object]
"""The dtype, the shape and the storage of a tensor."""


def _storages_of(
    pickle: Joined, where: Renumbering, expected: Mapping[str, _Expected]
) -> AbstractSet[str]:
    """Read a new pickle, and return the names of the storages in it.

    Raises:
        UnsupportedFormatError: it is not what was to be written.
    """
    budget = Budget(pickle.path)
    read = read_pickle(pickle, 0, pickle.nbytes, budget)
    if expected:  # without a tensor there is no state dict
        tensors = {
            tensor.key: (tensor.dtype, tensor.shape, tensor.storage)
            for tensor in contents_of(read, budget, where.root or ".").tensors
            if not tensor.is_no_tensor
        }
        if tensors != expected:
            raise UnsupportedFormatError(pickle.path, _OTHERWISE, kind="edit")
    return names_used((read.top, *read.dropped), None, Leaving(), budget)


_OTHERWISE = "it would not be read as what was asked for"
