"""Tell what a pickle record stands for: a dictionary, a module, a tensor, an optimizer."""

from __future__ import annotations

from typing import Any

from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.numpy_records import array_of
from reinit_cli.checkpoints.formats.torch.pickles.old_tensors import is_old
from reinit_cli.checkpoints.formats.torch.pickles.records import (
    Dict,
    Global,
    Instance,
    Long,
    Persistent,
    Set,
    pairs_of,
)

_MOST_PAIRS = 64
"""The keys and values of an optimizer's state at most: it has two, or a few more."""


def members_of(record: Any, budget: Budget) -> dict[str, Any]:
    """Return the members of a dictionary whose keys are texts; of what is none, nothing."""
    if not is_dict(record):
        return {}
    return {key: value for key, value in pairs_of(record, budget) if isinstance(key, str)}


def has_tensors(record: Any, budget: Budget) -> bool:
    """Whether a record is a module, or a dictionary with tensors in it."""
    if is_module_record(record, budget):
        return True
    pairs = pairs_of(record, budget) if is_dict(record) else ()
    return any(is_tensor_record(value) for _, value in pairs)


def may_hold_tensors(record: Any, budget: Budget) -> bool:
    """Whether a record is a dictionary or a module."""
    return is_dict(record) or is_module_record(record, budget)


def is_dict(record: Any) -> bool:
    """Whether a record is a dictionary of any kind."""
    if isinstance(record, Dict):
        return True
    return isinstance(record, Instance) and record.calls(
        "collections", "OrderedDict", "defaultdict"
    )


def is_module_record(record: Any, budget: Budget) -> bool:
    """Whether a record is a pickled nn.Module."""
    state = attributes_of(record, budget)
    return "_parameters" in state and "_modules" in state


def attributes_of(record: Any, budget: Budget) -> dict[str, Any]:
    """Return the attributes that BUILD would set."""
    found: dict[str, Any] = {}
    for state in record.state if isinstance(record, Instance) else ():
        found |= state_of(state, budget)
    return found


def state_of(state: Any, budget: Budget) -> dict[str, Any]:
    """Return the attributes of a state; (state, slots) is how objects with slots have it."""
    parts = state if isinstance(state, tuple) else (state,)
    budget.spend(1 + len(parts))
    found: dict[str, Any] = {}
    for part in parts:
        found |= members_of(part, budget)
    return found


UTILS, TENSOR = "torch._utils", "torch._tensor"


PARAMETERS = ("_rebuild_parameter", "_rebuild_parameter_with_state")


WITH_DTYPE = "_rebuild_tensor_v3"


_PLAIN = frozenset(("_rebuild_tensor", "_rebuild_tensor_v2", WITH_DTYPE))


CARRIED = {
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_qtensor": "a quantized tensor",
    "_rebuild_meta_tensor_no_storage": "a meta tensor, which has no values",
    "_rebuild_wrapper_subclass": "a tensor subclass",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_device_tensor_from_numpy": "a tensor of another device",
    "_rebuild_device_tensor_from_cpu_tensor": "a tensor of another device",
}


OWN_TYPES = frozenset(("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"))


def is_tensor_record(record: Any) -> bool:
    """Whether a record is a tensor, of any kind that torch pickles."""
    if not isinstance(record, Instance):
        return False
    return (
        is_plain_tensor(record)
        or record.calls(UTILS, *PARAMETERS, *CARRIED)
        or record.calls(TENSOR, "_rebuild_from_type_v2")
        or array_of(record) is not None
        or is_old(record)
    )


def is_plain_tensor(record: Instance) -> bool:
    """Whether a record is a dense tensor over a storage."""
    function = record.function
    return isinstance(function, Global) and function.name in _PLAIN and function.module == UTILS


def is_closed_tensor(record: Instance) -> bool:
    """Whether a plain tensor holds nothing but its storage: no hooks, no metadata."""
    args = record.args
    if len(args) != 6:
        return len(args) <= 4
    needs_grad, hooks = args[4:]
    if type(needs_grad) is not bool or not isinstance(hooks, Instance):
        return False
    is_empty = not (hooks.args or hooks.pairs or hooks.items or hooks.state)
    return is_empty and hooks.calls("collections", "OrderedDict")


def is_optimizer(record: Any, budget: Budget) -> bool:
    """Whether something is what `Optimizer.state_dict()` gives."""
    if not isinstance(record, Dict) or len(record.pairs) > _MOST_PAIRS:
        return False
    members = members_of(record, budget)
    groups = members.get("param_groups")
    return (
        isinstance(groups, list)
        and bool(groups)
        and is_dict(members.get("state"))
        and all(_is_group(group, budget) for group in groups)
    )


def _is_group(record: Any, budget: Budget) -> bool:
    params = members_of(record, budget).get("params")
    if not isinstance(params, list):
        return False
    budget.spend(2 + len(params) // 8)
    return all(isinstance(each, (int, str)) for each in params)


def kind_of(record: Any) -> str:
    """Return what something is, for people."""
    match record:
        case Instance() if is_encoded(record):
            return "bytes"
        case Instance():
            if array_of(record) is not None:
                return "a NumPy array"
            return "a tensor" if is_tensor_record(record) else name_of(record.function)
        case Dict():
            return "dict"
        case Set():
            return "set"
        case Long():
            return "bytes"
        case None:
            return "None"
        case _:
            return type(record).__name__


def is_encoded(record: Instance) -> bool:
    """Whether a call makes bytes of a text, which is how protocol 2 spells them."""
    return record.calls("_codecs", "encode")


def name_of(function: Any) -> str:
    """Return the name of what would be called, for people."""
    match function:
        case Persistent(id=("module", Global() as named, *_)):  # a class, before torch 1.6
            return str(named)
        case Global():
            is_known = function.module in ("builtins", "__builtin__", "collections")
            return function.name if is_known else str(function)
    return "an object"
