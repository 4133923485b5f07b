"""Spell records in the lines of an outline: their kinds, and values that fit in a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.numpy_records import array_of, number_of
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import (
    is_dict,
    is_encoded,
    is_optimizer,
    is_tensor_record,
    members_of,
    name_of,
)
from reinit_cli.checkpoints.formats.torch.pickles.records import (
    COMPOSED,
    Dict,
    Global,
    Instance,
    Long,
    Persistent,
    Set,
)
from reinit_cli.text import nbytes, plural, quoted, shortened

LONGEST_NAME = 80
"""The most characters of a key, or of a class."""

_LONGEST_TEXT = 200
"""The most characters of a value."""

_MOST_ITEMS = 8
"""The most items of a list that are shown in a line."""

_MOST_DIGITS = 100

_NESTED = 2
"""How deep lists within a line may be."""

_RECONSTRUCTORS = ("copy_reg", "copyreg")


def summary_of(top: Any, budget: Budget) -> str:
    """Return what a pickle holds as a whole, for a sentence."""
    if is_optimizer(top, budget):
        return "the state of an optimizer"
    if {"last_epoch", "_step_count"} <= members_of(top, budget).keys():
        return "the state of a learning-rate scheduler"
    kind = kind_in_outline(top)
    count = count_of(top)
    if kind == "None":
        return kind
    return f"{_article(kind)} {kind}" + (f" of {count}" if count else "")


def _article(word: str) -> str:
    return "an" if word[:1].lower() in "aeiou" else "a"


def class_of(record: Any) -> str:
    """Return the name of an object's class, or of what would be called to make it."""
    function = record.function if isinstance(record, Instance) else record
    is_rebuilt = isinstance(record, Instance) and any(
        record.calls(module, "_reconstructor", "__newobj__") for module in _RECONSTRUCTORS
    )
    if is_rebuilt and record.args:
        function = record.args[0]
    return shortened(name_of(function), LONGEST_NAME)


def kind_in_outline(record: Any) -> str:
    """Return what kind of thing a record is."""
    match record:
        case Instance() if is_encoded(record):
            return "bytes"
        case Instance():
            if array_of(record) is not None:
                return "array"
            number = number_of(record)
            if number is not None:
                return f"numpy.{number[0]}"
            return "tensor" if is_tensor_record(record) else class_of(record)
        case Global():
            return "name"
        case Persistent():
            return "storage"
        case Long():
            return "bytes"
        case Dict() | Set():
            return type(record).__name__.lower()
        case None:
            return "None"
    return type(record).__name__


def count_of(record: Any) -> str:
    """Return how much a container holds."""
    match record:
        case Dict():
            return plural(len(record.pairs) // 2, "member")
        case Instance() if is_dict(record):
            return plural(len(record.pairs) // 2, "member")
        case list() | tuple():
            return plural(len(record), "item")
        case Set():
            return plural(len(record.items), "item")
    return ""


def inline(record: Any, budget: Budget) -> str | None:
    """Return the value of what fits in a line: numbers, texts, short lists of them; or None."""
    budget.spend(1)
    text = _inline(record, _NESTED, budget)
    return None if text is None else shortened(budget.made(text), _LONGEST_TEXT)


def _inline(record: Any, depth: int, budget: Budget) -> str | None:
    match record:
        case bool() | float():
            return repr(record)
        case None:
            return ""
        case int():
            is_short = record.bit_length() <= 3 * _MOST_DIGITS
            return str(record) if is_short else f"an integer of {record.bit_length():,} bits"
        case str():
            return quoted(record[: 2 * _LONGEST_TEXT])
        case bytes():
            return nbytes(len(record))
        case Long():
            return nbytes(record.nbytes)
        case Global():
            return shortened(str(record), 2 * LONGEST_NAME)
        case list() | tuple() if depth:
            brackets = "[]" if isinstance(record, list) else "()"
            items = _items(record, depth, budget)
            return None if items is None else f"{brackets[0]}{items}{brackets[1]}"
        case Set() if depth:
            items = _items(record.items, depth, budget)
            return None if items is None else f"{{{items}}}"
        case Instance() if is_encoded(record):
            return _nbytes_of(record)
        case Instance() if (number := number_of(record)) is not None:
            return repr(number[1])
        case Instance() if depth and not is_tensor_record(record):
            return _call(record, depth, budget)
    return None


def _items(items: Sequence[Any], depth: int, budget: Budget) -> str | None:
    budget.spend(1 + len(items) // 4)
    shown = [_inline(item, depth - 1, budget) for item in items[:_MOST_ITEMS]]
    if None in shown or any(isinstance(item, COMPOSED) for item in items[_MOST_ITEMS:]):
        return None
    texts = [text or "None" for text in shown if text is not None]
    left = len(items) - _MOST_ITEMS
    return ", ".join(texts) + (f", and {left:,} more" if left > 0 else "")


def _nbytes_of(encoded: Instance) -> str | None:
    text = encoded.args[0] if encoded.args else None
    return (
        nbytes(len(text) if isinstance(text, str) else text.nbytes)
        if (isinstance(text, (str, Long)))
        else None
    )


def _call(record: Instance, depth: int, budget: Budget) -> str | None:
    """Return the arguments of what holds nothing else: a device, a member of an enumeration."""
    if record.state or record.pairs or record.items or is_dict(record) or not record.args:
        return None
    if record.calls("builtins", *_SETS) or record.calls("__builtin__", *_SETS):
        held = record.args[0]
        items = _items(held, depth, budget) if isinstance(held, (list, tuple)) else None
        return None if items is None else f"{{{items}}}"
    items = _items(record.args, depth, budget)
    return None if items is None else f"({items})"


_SETS = ("set", "frozenset")
