"""Describe the state of an optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from reinit_cli.tensors.info import TensorInfo


class ParameterNumber(NamedTuple):
    """The number of a parameter, as text.

    Files choose it, and whoever chooses integers can choose thousands with one hash.
    """

    digits: str


ParameterId = ParameterNumber | str


@dataclass(frozen=True, slots=True)
class Optimizer:
    """The state of an optimizer, as `Optimizer.state_dict()` has it.

    Attributes:
        path: where it lies in the file.
        groups: the ids of the parameters of each group, in order.
        names: the names of the parameters in the same order, where the groups have them.
        slots: for each parameter that has state, its tensors by the names of their slots.
        numbers: the same for entries that are not tensors, such as the step of older versions.
    """

    path: str
    groups: tuple[tuple[ParameterId, ...], ...]
    names: tuple[str, ...] | None
    slots: Mapping[ParameterId, Mapping[str, TensorInfo]]
    numbers: Mapping[ParameterId, tuple[str, ...]]
