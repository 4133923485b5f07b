"""Refuse dictionaries that may have a key twice."""

from __future__ import annotations

from typing import Any

from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import (
    PARAMETERS,
    UTILS,
    has_tensors,
    is_plain_tensor,
    is_tensor_record,
)
from reinit_cli.checkpoints.formats.torch.pickles.records import Global, Instance, pairs_of
from reinit_cli.errors import MalformedFileError

_OTHER_WORK = 2
"""The opcodes that take as long as the look at a key that is not a text."""

_USUAL = 2**63

_MOST_PARTS = 100
"""Of a tuple that is a key."""


def refuse_twice(record: Any, budget: Budget) -> None:
    """Refuse a dictionary that has a key twice: of its values torch keeps the last."""
    texts: list[str] = []
    others: list[str] = []
    is_clear = True
    for key, _ in pairs_of(record, budget):
        if isinstance(key, str):
            texts.append(key)
        elif type(key) is int and -_USUAL < key < _USUAL:
            others.append(f"{key:x}")  # as `_spelled` has it, without a call for each
        elif (spelled := _spelled(key, budget)) is not None:
            others.append(spelled)
        else:
            is_clear = False
    budget.spend(_OTHER_WORK * len(others))
    for each in texts, others:
        if len(set(each)) != len(each):
            raise MalformedFileError(budget.path, "its pickle has a dictionary with a key twice")
    if not is_clear and len(record.pairs) > 2 and _holds_tensors(record, budget):
        problem = "its pickle has a dictionary of tensors with a key that may be there twice"
        raise MalformedFileError(budget.path, problem)


def _spelled(key: Any, budget: Budget) -> str | None:
    """Return a text that equal keys share; None for what only torch itself can compare.

    Files choose integers with one hash, and in a text there is Python's secret.
    """
    match key:
        case float() if not key.is_integer():
            return key.hex()
        case int() | float():  # True and 1.0 are 1
            number = int(key)
            budget.spend(number.bit_length() >> 8, number.bit_length() >> 2)
            return f"{number:x}"  # digits of ten would take time with their square
        case bytes():
            budget.spend(len(key) >> 8, 2 * len(key))
            return f"b {key.hex()}"
        case None:
            return "None"
        case Instance() if is_plain_tensor(key) or key.calls(UTILS, *PARAMETERS):
            return f"tensor {id(key)}"  # an optimizer's keys; each call makes another one
        case Global():
            return f"name {key.name}"  # modules have other names in Python 2
        case tuple() if len(key) <= _MOST_PARTS:
            return _spelled_tuple(key, budget)
    return None


def _spelled_tuple(key: tuple[Any, ...], budget: Budget) -> str | None:
    parts: list[str] = []
    budget.spend(_OTHER_WORK * len(key))
    for part in key:
        if isinstance(part, tuple):
            return None
        spelled = budget.made(repr(part)) if isinstance(part, str) else _spelled(part, budget)
        if spelled is None:
            return None
        parts.append(spelled)
    return budget.made(f"({', '.join(parts)})")


def _holds_tensors(record: Any, budget: Budget) -> bool:
    return any(
        is_tensor_record(value) or has_tensors(value, budget)
        for _, value in pairs_of(record, budget)
    )
