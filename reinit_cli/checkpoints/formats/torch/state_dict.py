"""Find the state dict in a pickle, its tensors, and what else the pickle holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from reinit_cli.checkpoints.formats.base import Located, Place
from reinit_cli.checkpoints.formats.torch.allowed_names import ALLOWED
from reinit_cli.checkpoints.formats.torch.pickle_records import (
    Dict,
    Instance,
    Persistent,
    Pickle,
    Set,
    pairs_of,
)
from reinit_cli.checkpoints.formats.torch.record_kinds import (
    is_dict,
    is_module_record,
    is_optimizer,
    is_tensor_record,
    kind_of,
    state_members,
    string_members,
)
from reinit_cli.checkpoints.formats.torch.roots import (
    MAX_DEPTH,
    ema_copies,
    entries_of,
    find_named_root,
    find_root,
    outside_root,
)
from reinit_cli.checkpoints.formats.torch.tensor_records import Reading, Storage
from reinit_cli.errors import MalformedFileError
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.optimizer import Optimizer, ParameterId

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
"""The suffixes of what `torch.save` writes, in either format."""


@dataclass(slots=True)
class Contents:
    """What a pickle holds.

    Attributes:
        root: the path of the state dict; "" for the whole.
        tensors: the state dict's entries.
        outside: the tensors outside it, by their whole path and a remark.
        rest: paths of what is not a tensor, or lies outside, each with what it is.
        attributes: names of what is set on the state dict itself.
        storages: every storage that was met, by key.
        notes: what a user should know.
        optimizers: the optimizers' states outside it.
    """

    root: str = ""
    tensors: list[TensorInfo] = field(default_factory=list)
    outside: list[TensorInfo] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)
    storages: dict[str, Storage] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    optimizers: list[Optimizer] = field(default_factory=list)

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
        )


def contents_of(pickle: Pickle, path: str, root: str | None) -> Contents:
    """Find the state dict in a pickle, and its tensors.

    Args:
        pickle: what was read.
        path: the file, for messages.
        root: the path of the state dict as the user names it, or None to look for it.

    Raises:
        UnsupportedFormatError: there is no state dict.
        UnknownNameError: there is none where the user says.
        MalformedFileError: a tensor in it is not what torch writes.
    """
    reading = Reading(path)
    chosen, record = (
        find_named_root(pickle.top, root, path) if root else find_root(pickle.top, path)
    )
    found = Contents(chosen, storages=reading.storages)
    seen = set()
    own = set()  # the records of its tensors
    for key, value in entries_of(record):
        if key in seen:
            raise MalformedFileError(path, f"its state dict has the key {key!r} twice")
        seen.add(key)
        info = reading.info(key, value)
        found.tensors.append(info)
        if id(value) in reading.closed or is_tensor_record(value):
            own.add(id(value))
        if info.carried and not isinstance(value, Instance):
            found.rest.append(f"{key} ({kind_of(value)})")
    _walk(reading, pickle.top, record, own, found)
    found.rest = [*outside_root(pickle.top, chosen), *found.rest]
    if is_module_record(record):
        found.rest.append(f"{chosen or 'the whole'} ({kind_of(record)})")
    else:
        found.attributes = [name for name, _ in state_members(record)]
    for name in ema_copies(pickle.top, chosen):
        found.notes.append(f"there is another copy of the weights at {name!r}: --root {name}")
    return found


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


_COMPOSED = (Dict, Instance, Set, list, tuple, Persistent)


def _walk(reading: Reading, top: Any, root: Any, own: AbstractSet[int], found: Contents) -> None:
    """Meet everything once, and note the tensors that are not entries of the root.

    Args:
        reading: collects the storages.
        top: what the pickle stands for.
        root: the state dict.
        own: the identities of the records of its tensors.
        found: where to note them.
    """
    is_module = is_module_record(root)
    seen = set(reading.closed)
    waiting = [("", top, 0, False)]
    while waiting:
        name, record, depth, is_known = waiting.pop()
        if id(record) in seen or not isinstance(record, _COMPOSED):
            continue
        seen.add(id(record))
        if depth > MAX_DEPTH:
            problem = f"its pickle is nested deeper than {MAX_DEPTH}"
            raise MalformedFileError(reading.path, problem)
        if isinstance(record, Persistent):
            reading.note_storage(name, record)
            continue
        is_tensor = is_tensor_record(record)
        if is_tensor and not is_known and id(record) not in own:
            found.outside.append(reading.info(_outside(name), record))
        # What a tensor is made of is not another tensor.
        is_known = is_known or is_tensor
        parts = [each for each in _parts(name, record) if isinstance(each[1], _COMPOSED)]
        if is_optimizer(record):
            found.optimizers.append(_optimizer(reading, name, record))
        if is_dict(record) and record is not root and not is_module:
            # One tensor object may be an entry of several dictionaries.
            found.outside += [
                reading.info(_outside(path), part) for path, part in parts if id(part) in own
            ]
        inner = [(path, part, depth + 1, is_known) for path, part in parts if id(part) not in seen]
        waiting += inner[::-1]


def _optimizer(reading: Reading, name: str, record: Any) -> Optimizer:
    """Return what is known of an optimizer's state."""
    members = dict(string_members(record))
    groups = [dict(string_members(group)) for group in members["param_groups"]]
    ids = tuple(tuple(group["params"]) for group in groups)
    names = [group.get("param_names") for group in groups]
    are_named = all(
        isinstance(each, list) and len(each) == len(of) for each, of in zip(names, ids, strict=True)
    )
    slots: dict[ParameterId, dict[str, TensorInfo]] = {}
    numbers: dict[ParameterId, tuple[str, ...]] = {}
    for parameter, state in pairs_of(members["state"]):
        if isinstance(parameter, (int, str)):
            path = f"{name}.state.{parameter}" if name else f"state.{parameter}"
            held = dict(string_members(state))
            slots[parameter] = {
                slot: reading.info(_outside(f"{path}.{slot}"), value)
                for slot, value in held.items()
                if is_tensor_record(value)
            }
            numbers[parameter] = tuple(
                slot for slot, value in held.items() if isinstance(value, (int, float))
            )
    return Optimizer(
        name,
        ids,
        tuple(str(each) for of in names for each in of or ()) if are_named else None,
        slots,
        numbers,
    )


def _outside(path: str) -> str:
    return f"{path} (outside the state dict)"


def _parts(name: str, record: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a record is made of, each part with its path."""
    if isinstance(record, (list, tuple)):
        yield from ((f"{name}.{at}" if name else str(at), item) for at, item in enumerate(record))
        return
    if isinstance(record, Set):
        yield from ((f"{name}.{at}", item) for at, item in enumerate(record.items))
        return
    for key, value in pairs_of(record):
        yield (
            (f"{name}.{key}" if name else str(key)) if isinstance(key, (str, int)) else name,
            value,
        )
        if isinstance(key, (tuple, Instance)):
            yield name, key
    if isinstance(record, Instance):
        yield name, record.args
        yield name, record.function
        yield from ((name, item) for item in (*record.state, *record.items))
