"""Describe the state of an optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import NamedTuple

from reinit_cli.lazy import dataclass
from reinit_cli.tensors.info import TensorInfo

STATE_FILES = ("optimizer.pt", "optimizer.bin")
"""The files in which transformers and accelerate save the state of an optimizer."""


class ParameterNumber(NamedTuple):
    """The number of a parameter, as text.

    Files choose it, and whoever chooses integers can choose thousands with one hash.
    """

    digits: str


ParameterId = ParameterNumber | str

Number = int | float
"""A number that lies in the pickle itself, such as the step of older versions."""


@dataclass(frozen=True, slots=True)
class State:
    """What an optimizer keeps for one parameter, or for a whole group.

    Attributes:
        tensors: by the names of their slots.
        numbers: the same of numbers.
        others: the names of what is neither, such as lists.
    """

    tensors: Mapping[str, TensorInfo] = field(default_factory=dict)
    numbers: Mapping[str, Number] = field(default_factory=dict)
    others: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.tensors or self.numbers or self.others)


@dataclass(frozen=True, slots=True)
class Group:
    """A group of parameters with options of their own.

    Attributes:
        ids: those of its parameters, in order.
        names: the names of its parameters in the same order, where the group has them.
        shared: its options, and what the optimizer keeps for all of its parameters together.
        masters: copies in 32 bits of its first parameters, where a wrapper keeps some.
    """

    ids: tuple[ParameterId, ...]
    names: tuple[str, ...] | None = None
    shared: State = field(default_factory=State)
    masters: tuple[TensorInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class Optimizer:
    """The state of an optimizer, as `Optimizer.state_dict()` has it.

    Attributes:
        path: where it lies in the file.
        groups: of its parameters, in order.
        states: what is kept for each parameter that has state.
        copies: the name of copies of its parameters next to it, in a form that is not known; or "".
        order: the keys of the state dict in their order, where the source has them in another.
    """

    path: str
    groups: tuple[Group, ...]
    states: Mapping[ParameterId, State] = field(default_factory=dict)
    copies: str = ""
    order: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[ParameterId, ...]:
        """The ids of all parameters, group after group."""
        return tuple(each for group in self.groups for each in group.ids)

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of all parameters in the same order; None unless every group has them."""
        names = [group.names for group in self.groups]
        return tuple(each for of in names for each in of or ()) if None not in names else None


class NumberAt(NamedTuple):
    """Where a number lies in the state of an optimizer.

    Attributes:
        optimizer: the path of the optimizer.
        of: the id of a parameter, or the position of a group.
        slot: the name of the number.
    """

    optimizer: str
    of: ParameterId | int
    slot: str

    @property
    def path(self) -> str:
        """The whole path, for people."""
        within = (
            f"param_groups.{self.of}" if isinstance(self.of, int) else f"state.{_text(self.of)}"
        )
        return ".".join(filter(None, (self.optimizer, within, self.slot)))


def _text(id_: ParameterId) -> str:
    return id_ if isinstance(id_, str) else id_.digits


@dataclass(frozen=True, slots=True)
class NewNumber:
    """A number in the state of an optimizer that becomes another.

    Attributes:
        at: where it is.
        was: what it is.
        value: what it becomes.
    """

    at: NumberAt
    was: Number
    value: Number
