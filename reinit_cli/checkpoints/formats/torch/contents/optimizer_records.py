"""Read the states of optimizers that pickle records stand for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget, Path
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import (
    is_dict,
    is_optimizer,
    is_tensor_record,
    members_of,
)
from reinit_cli.checkpoints.formats.torch.pickles.records import Dict, pairs_of
from reinit_cli.checkpoints.formats.torch.pickles.tensor_records import Reading
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.optimizer import Group, Optimizer, ParameterId, ParameterNumber, State

_WRAPPED = "optimizer_state_dict"
_MASTERS = "fp32_from_fp16"
"""The members of what apex.fp16_utils.FP16_Optimizer saves, a list of tensors for each group."""

_COPIES = ("fp32_", "single_partition_of_fp32")
"""How names of copies in 32 bits start, in apex, Megatron and DeepSpeed."""

_MOST_PAIRS = 64
"""The keys and values of what it saves at most: it has six, and a few more."""

_STATE_NBYTES = 400
"""What the slots of a parameter take, without what is in them."""

_SLOT_NBYTES = 100

_ID_NBYTES = 60


class Optimizers:
    """The optimizers of a pickle, collected on the way through its records.

    Attributes:
        found: those that were met.
        records: what stands for each of them.
    """

    def __init__(self, reading: Reading) -> None:
        self.found: list[Optimizer] = []
        self.records: list[Any] = []
        self._reading = reading
        self._budget = reading.budget
        self._met: dict[int, TensorInfo] = {}
        self._masters: dict[int, Any] = {}
        self._copies: dict[int, str] = {}  # the names of copies that nobody knows

    def met(self, record: Any) -> TensorInfo | None:
        """Return what is known of a tensor that belongs to an optimizer."""
        return self._met.get(id(record))

    def look(self, path: Path, record: Any) -> None:
        """Note a record if it is an optimizer, or wraps one.

        Args:
            path: where it lies.
            record: what was met there; what holds an optimizer is met before it.
        """
        if is_optimizer(record, self._budget):
            self.found.append(self._optimizer(path, record))
            self.records.append(record)
        elif _may_wrap(record):
            members = members_of(record, self._budget)
            if _MASTERS in members and _WRAPPED in members:
                self._masters[id(members[_WRAPPED])] = (path, members[_MASTERS])
                return
            name = next(key for key in members if key.startswith(_COPIES))
            self._copies |= {id(member): name for member in members.values()}

    def _optimizer(self, path: Path, record: Any) -> Optimizer:
        members = members_of(record, self._budget)
        at, masters = self._masters.get(id(record), (None, None))
        groups = []
        for number, group in enumerate(members["param_groups"]):
            base = self._budget.path_of(((path, "param_groups"), number))
            copies = masters[number] if _has(masters, number) else ()
            place = self._budget.path_of(((at, _MASTERS), number)) if copies else ""
            groups.append(self._group(base, group, copies, place))
        ids = {each for group in groups for each in group.ids}
        states: dict[ParameterId, State] = {}
        for parameter, state in pairs_of(members["state"], self._budget):
            if isinstance(parameter, (int, str)) and is_dict(state):
                base = self._budget.path_of(((path, "state"), parameter))
                states[id_among(ids, parameter, self._budget)] = self._state(base, state)
        copies = self._copies.get(id(record), "")
        return Optimizer(self._budget.path_of(path), tuple(groups), states, copies)

    def _group(self, base: str, record: Any, copies: Any, place: str) -> Group:
        members = members_of(record, self._budget)
        ids = tuple(id_of(each, self._budget) for each in members["params"])
        names = members.get("param_names")
        if not isinstance(names, list) or len(names) != len(ids):
            names = None
        self._budget.spend(len(copies))
        masters = [
            self._tensor(f"{place}.{number}", copy)
            for number, copy in enumerate(copies)
            if is_tensor_record(copy)
        ]
        return Group(
            ids,
            None if names is None else tuple(map(self._budget.text_of, names)),
            self._state(base, record),
            tuple(masters),
        )

    def _state(self, base: str, record: Any) -> State:
        held = members_of(record, self._budget)
        self._budget.spend(2 + 2 * len(held), _STATE_NBYTES + _SLOT_NBYTES * len(held))
        tensors: dict[str, TensorInfo] = {}
        numbers: dict[str, int | float] = {}
        others: list[str] = []
        for slot, value in held.items():
            if is_tensor_record(value):
                tensors[slot] = self._tensor(f"{base}.{slot}", value)
            elif type(value) in (int, float):
                numbers[slot] = value
            elif value is not None:
                others.append(slot)
        return State(tensors, numbers, tuple(others))

    def _tensor(self, path: str, record: Any) -> TensorInfo:
        """Return what is known of a tensor; one that several parameters share has one name."""
        known = self._met.get(id(record))
        if known is None:
            known = self._reading.info(outside_name(self._reading, path), record)
            self._met[id(record)] = known
        return known


def _may_wrap(record: Any) -> bool:
    """Whether something is a small dictionary with copies of parameters."""
    is_small = isinstance(record, Dict) and len(record.pairs) <= _MOST_PAIRS
    keys = record.pairs[::2] if is_small else ()
    return any(isinstance(key, str) and key.startswith(_COPIES) for key in keys)


def _has(masters: Any, number: int) -> bool:
    return (
        isinstance(masters, list)
        and number < len(masters)
        and isinstance(masters[number], (list, tuple))
    )


def id_of(parameter: int | str, budget: Budget) -> ParameterId:
    """Return the id of a parameter."""
    budget.spend(1, _ID_NBYTES)
    if isinstance(parameter, str):
        return parameter
    return ParameterNumber(budget.text_of(int(parameter)))


def id_among(ids: Collection[ParameterId], parameter: int | str, budget: Budget) -> ParameterId:
    """Return the id of a parameter that has state.

    torch.distributed.checkpoint makes texts of the numbers that are keys.

    Args:
        ids: those in the groups.
        parameter: its key in the state.
        budget: what is left of the file's.
    """
    id_ = id_of(parameter, budget)
    if isinstance(id_, str) and id_ not in ids and ParameterNumber(id_) in ids:
        return ParameterNumber(id_)
    return id_


def outside_name(reading: Reading, path: str) -> str:
    """Return the name of a tensor there; what lies under keys without names shares a path."""
    count = reading.outside[path] = reading.outside.get(path, 0) + 1
    number = f", number {count}" if count > 1 else ""
    return reading.budget.made(f"{path} (outside the state dict{number})")
