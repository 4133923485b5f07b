"""Tell whether a call, or a state that is set, leaves the values of tensors as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reinit_cli.checkpoints.formats.torch.pickles.old_tensors import is_unset
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import TENSOR, UTILS, is_dict
from reinit_cli.checkpoints.formats.torch.pickles.records import Global, Instance

_SETTERS = frozenset(("data", "real", "imag"))
"""The attributes of a tensor that give it other values where they are set."""

_FROM_TYPE = "_rebuild_from_type_v2"

_WITH_STATE = frozenset((_FROM_TYPE, "_rebuild_parameter_with_state"))
"""Both take the state as their fourth argument."""

_ALIASING = frozenset(
    ("Parameter", "Variable", "_rebuild_parameter", "_rebuild_parameter_with_state")
)
"""They give another tensor of the same values."""

_MOST_ATTRIBUTES = 1_000

_MOST_CALLS = 4
"""Of `_rebuild_from_type_v2` through itself, which torch writes nowhere."""

_TENSOR_MODULES = frozenset(
    (
        UTILS,
        TENSOR,
        "torch",
        "torch.cuda",
        "torch.cuda.sparse",
        "torch.nn.parameter",
        "torch.sparse",
        "torch.storage",
    )
)


def keeps_values(function: Any, args: tuple[Any, ...], pay: Callable[[int], None]) -> bool:
    """Whether a call sets nothing that gives a tensor other values.

    The call is looked at when it is made: its result may be an older tensor, which the call
    changes wherever in the pickle its result ends up.

    Args:
        function: what is called.
        args: its arguments.
        pay: takes the number of keys and values that are looked at.
    """
    for _ in range(_MOST_CALLS):
        if not isinstance(function, Global):
            return True
        if function.name in _ALIASING and args and is_unset(args[0]):
            return False  # what is set later is not that of the alias
        if function.name not in _WITH_STATE:
            return True
        if len(args) > 3 and not is_plain_state(args[3], pay):
            return False
        if function.name != _FROM_TYPE or len(args) < 3:
            return True
        if not isinstance(args[2], tuple):
            return False
        function, args = args[0], args[2]
    return False


def is_plain_state(state: Any, pay: Callable[[int], None]) -> bool:
    """Whether a tensor on which a state is set keeps its values.

    Args:
        state: a dictionary of attributes, None, or (state, slots), as objects with slots have it.
        pay: takes the number of keys and values that are looked at.
    """
    parts = state if isinstance(state, tuple) else (state,)
    return len(parts) <= 2 and all(part is None or _is_plain_part(part, pay) for part in parts)


def _is_plain_part(part: Any, pay: Callable[[int], None]) -> bool:
    # A Counter, or whatever else a call gives, may have items that its record does not show.
    if not is_dict(part) or len(part.pairs) > 2 * _MOST_ATTRIBUTES:
        return False
    pay(len(part.pairs))
    names = part.pairs[::2]
    return all(isinstance(name, str) for name in names) and _SETTERS.isdisjoint(names)


def is_of_tensors(record: Instance) -> bool:
    """Whether a record may be a tensor or a storage, whose items are numbers in a file."""
    return isinstance(record.function, Global) and record.function.module in _TENSOR_MODULES


def is_rebuilt(record: Instance) -> bool:
    """Whether a record is a tensor that torch rebuilds with one call, and no state after it."""
    return isinstance(record.function, Global) and record.function.module in (UTILS, TENSOR)
