"""Find the state dict in a pickle, its tensors, and what else the pickle holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import field, replace
from typing import Any

from reinit_cli.checkpoints.formats.base import Located, Neighbor, Place
from reinit_cli.checkpoints.formats.torch.contents.entries import Entry, Surplus, entries_of
from reinit_cli.checkpoints.formats.torch.contents.optimizer_records import Optimizers, outside_name
from reinit_cli.checkpoints.formats.torch.contents.parts import Part, is_object
from reinit_cli.checkpoints.formats.torch.contents.places import Node, rest_around
from reinit_cli.checkpoints.formats.torch.contents.roots import Search
from reinit_cli.checkpoints.formats.torch.pickles.allowed_names import ALLOWED
from reinit_cli.checkpoints.formats.torch.pickles.budget import MAX_DEPTH, Budget, Path
from reinit_cli.checkpoints.formats.torch.pickles.dictionary_keys import refuse_twice
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import (
    is_dict,
    is_tensor_record,
    kind_of,
)
from reinit_cli.checkpoints.formats.torch.pickles.records import (
    COMPOSED,
    Instance,
    Persistent,
    Pickle,
    inside_of,
)
from reinit_cli.checkpoints.formats.torch.pickles.tensor_records import Reading, Storage
from reinit_cli.errors import MalformedFileError
from reinit_cli.lazy import dataclass
from reinit_cli.tensors.info import TensorInfo, tied_groups
from reinit_cli.tensors.optimizer import Optimizer


@dataclass(slots=True)
class Contents:
    """What a pickle holds.

    Attributes:
        root: the path of the state dict; "" for the whole.
        tensors: the state dict's entries.
        entries: their records, in the same order.
        record: that of the state dict.
        way: the containers on the way to it, each with the part that was taken.
        outside: the tensors outside it, by their whole path and a remark.
        rest: paths of what is not a tensor, or lies outside, each with what it is.
        attributes: names of what is set on the state dict itself.
        storages: every storage that was met, by key.
        notes: what a user should know.
        optimizers: the optimizers' states outside it.
        optimizer_records: the records of these.
        neighbors: the networks next to it.
    """

    root: str = ""
    tensors: list[TensorInfo] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    record: Any = None
    way: tuple[tuple[Any, Part], ...] = ()
    outside: list[TensorInfo] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)
    storages: dict[str, Storage] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    optimizers: list[Optimizer] = field(default_factory=list)
    optimizer_records: list[Any] = field(default_factory=list)
    neighbors: list[Neighbor] = field(default_factory=list)

    def located(self, format_: str, offsets: Mapping[str, int], pickle: Pickle) -> Located:
        """Return what a file holds.

        Args:
            format_: the name of its format.
            offsets: where each storage starts in it.
            pickle: its pickle.
        """
        return Located(
            format_,
            tuple(self.tensors),
            _places_of((*self.tensors, *self.outside), offsets),
            framework="pt",
            root=self.root,
            outside=tuple(self.outside),
            rest=tuple(self.rest),
            attributes=tuple(self.attributes),
            unknown_names=_unknown_names(pickle),
            notes=tuple(self.notes),
            optimizers=tuple(self.optimizers),
            neighbors=tuple(self.neighbors),
        )


def contents_of(pickle: Pickle, budget: Budget, root: str | None) -> Contents:
    """Find the state dict in a pickle, and its tensors.

    Args:
        pickle: what was read.
        budget: what is left of the file's.
        root: the path of the state dict as the user names it, or None to look for it.

    Raises:
        UnsupportedFormatError: there is no state dict.
        UnknownNameError: there is none where the user says.
        MalformedFileError: a tensor in it is not what torch writes.
    """
    reading = Reading(budget)
    search = Search(pickle.top, reading)
    node = search.named(root) if root else search.found()
    found = Contents(node.path, record=node.record, way=node.way, storages=reading.storages)
    surplus = Surplus()
    own = _note_entries(reading, search, node, surplus, found)
    seen = _walk(reading, pickle.top, own, surplus.inside, found)
    if node.in_training:
        found.optimizers, found.optimizer_records = [], []  # their tensors are the state dict
    _check_dropped(reading, pickle.dropped, seen)
    _pay_for_ties(found, budget)
    found.rest = [*rest_around(node, budget), *found.rest, *surplus.rest]
    if is_object(node.record):
        found.rest.append(f"{node.path or 'the whole'} ({kind_of(node.record)})")
    found.attributes = surplus.attributes
    storages = {str(info.storage) for info in found.tensors if info.storage is not None}
    found.neighbors = list(search.neighbors(node, storages))
    return found


def training_of(pickle: Pickle, budget: Budget) -> Contents:
    """Find the optimizers in a pickle whose state dict is in another file.

    Args:
        pickle: what was read.
        budget: what is left of the file's.

    Raises:
        MalformedFileError: a tensor in it is not what torch writes.
    """
    reading = Reading(budget)
    found = Contents(storages=reading.storages)
    seen = _walk(reading, pickle.top, set(), set(), found)
    _check_dropped(reading, pickle.dropped, seen)
    _pay_for_ties(found, budget)
    return found


def _note_entries(
    reading: Reading, search: Search, node: Node, surplus: Surplus, found: Contents
) -> set[int]:
    """Note the entries of the state dict; return the identities of the records of its tensors."""
    budget = reading.budget
    seen = set()
    own = set()
    for entry in entries_of(node.record, budget, search.holders, surplus):
        key, value = entry.key, entry.value
        if key in seen:
            search.refuse_twice(key, node)
        seen.add(key)
        info = reading.info(key, value)
        if entry.is_buffer is not None:
            info = replace(info, is_buffer=entry.is_buffer)
        found.tensors.append(info)
        found.entries.append(entry)
        if id(value) in reading.closed or is_tensor_record(value):
            own.add(id(value))
        if info.is_no_tensor:
            found.rest.append(budget.made(f"{key} ({kind_of(value)})"))
    return own


def _pay_for_ties(found: Contents, budget: Budget) -> None:
    """Pay for keys of one tensor: a plan names with each of them all the others."""
    tensors = (*found.tensors, *found.outside)
    groups = tied_groups(tensors) if len(tensors) > len(found.storages) else {}
    for keys in {id(keys): keys for keys in groups.values()}.values():
        each = _TIE_NBYTES * len(keys) + sum(map(len, keys))
        budget.spend(len(keys) ** 2 // 2, each * len(keys))


_TIE_NBYTES = 40
"""What a key takes where it is named among the ties of another."""


def _unknown_names(pickle: Pickle) -> tuple[str, ...]:
    """Return what a pickle would import that torch does not allow."""
    return tuple(str(name) for name in pickle.names if str(name) not in ALLOWED)


def _places_of(
    tensors: Sequence[TensorInfo], offsets: Mapping[str, int]
) -> dict[str, tuple[Place, ...]]:
    """Return where the bytes of each tensor lie, from its first element to its last."""
    places: dict[str, tuple[Place, ...]] = {}
    for tensor in tensors:
        if tensor.storage is not None:
            first, end = tensor.extent
            places[tensor.key] = (Place("", offsets[str(tensor.storage)] + first, end - first),)
    return places


_VISIT_NBYTES = 120
"""What a part takes that waits to be visited."""


def _walk(
    reading: Reading,
    top: Any,
    own: AbstractSet[int],
    inside: AbstractSet[int],
    found: Contents,
) -> set[int]:
    """Meet everything once, and note the tensors that are not entries of the root.

    Args:
        reading: collects the storages.
        top: what the pickle stands for.
        own: the identities of the records of the tensors of the state dict.
        inside: those of the containers that it is made of.
        found: where to note them.

    Returns:
        The identities of the records that were met.
    """
    budget = reading.budget
    seen = reading.closed & own
    optimizers = Optimizers(reading)
    waiting: list[tuple[Path, Any, int, bool]] = [(None, top, 0, False)]
    while waiting:
        path, record, depth, is_known = waiting.pop()
        if id(record) in seen or not isinstance(record, COMPOSED):
            continue
        seen.add(id(record))
        if depth > MAX_DEPTH:
            problem = f"its pickle is nested deeper than {MAX_DEPTH}"
            raise MalformedFileError(reading.path, problem)
        if isinstance(record, Persistent):
            reading.note_storage(budget.path_of(path), record)
        is_tensor = is_tensor_record(record)
        if is_tensor and not is_known and id(record) not in own:
            of_slot = optimizers.met(record)
            found.outside.append(
                of_slot or reading.info(outside_name(reading, budget.path_of(path)), record)
            )
        # What a tensor is made of is not another tensor.
        is_known = is_known or is_tensor
        optimizers.look(path, record)
        if is_dict(record):
            refuse_twice(record, budget)
        is_other = is_dict(record) and id(record) not in inside
        inner: list[tuple[Path, Any, int, bool]] = []
        for _, key, part in inside_of(record, budget):
            if not isinstance(part, COMPOSED):
                continue
            longer = path if key is None else (path, key)
            if is_other and id(part) in own:
                # One tensor object may be an entry of several dictionaries.
                info = reading.info(outside_name(reading, budget.path_of(longer)), part)
                found.outside.append(info)
            if id(part) not in seen:
                inner.append((longer, part, depth + 1, is_known))
        budget.spend(1 + len(inner), _VISIT_NBYTES * len(inner))
        waiting += inner[::-1]
    found.optimizers, found.optimizer_records = optimizers.found, optimizers.records
    return seen


def _check_dropped(reading: Reading, dropped: Sequence[Any], seen: set[int]) -> None:
    """Refuse calls whose results the pickle drops: torch makes them, whatever they do.

    Storages that are dropped count too: of one key torch keeps the first dtype.
    """
    budget = reading.budget
    waiting = list(dropped)
    while waiting:
        record = waiting.pop()
        if id(record) in seen or not isinstance(record, COMPOSED):
            continue
        seen.add(id(record))
        if isinstance(record, Persistent):
            reading.note_storage("what the pickle drops", record)
        elif isinstance(record, Instance) and not is_dict(record):
            problem = "its pickle calls something and drops what it gives"
            raise MalformedFileError(reading.path, problem)
        parts = [part for _, _, part in inside_of(record, budget)]
        budget.spend(1 + len(parts), 8 * len(parts))
        waiting += parts
