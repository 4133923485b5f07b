"""Read tensors and parameters as torch wrote them before 1.0.

torch 0.4         Parameter(tensor, requires_grad)
torch 0.2 to 0.3  Parameter(tensor) or Variable(tensor), and the state
                  (requires_grad, volatile, hooks)
before that       FloatTensor(), and the state (storage, offset, size, stride);
                  Parameter(), and the state (tensor, gradient, hooks, requires_grad, volatile)

torch still reads all of them: `Tensor.__setstate__` tells the states apart by their lengths.
"""

from __future__ import annotations

from typing import Any

from reinit_cli.checkpoints.formats.torch.pickles.records import (
    Dict,
    Global,
    Instance,
    Persistent,
)

_WRAPPERS = frozenset(
    (
        "torch.nn.parameter.Parameter",
        "torch.autograd.variable.Variable",
        "torch.autograd.Variable",
    )
)

_MODULES = frozenset(("torch", "torch.cuda"))

_STORAGES = {
    f"{kind}Tensor": f"{kind}Storage"
    for kind in ("Double", "Float", "Half", "Long", "Int", "Short", "Char", "Byte")
}
"""The classes of tensors before 0.4, and those of their storages."""

_REBUILD = Global("torch._utils", "_rebuild_tensor")


_CALLED = frozenset(("torch._utils", "torch._tensor", *_MODULES))


def is_old(record: Instance) -> bool:
    """Whether a record is a tensor or a parameter that torch wrote before 1.0."""
    inner = inner_of(record)
    return isinstance(inner, Instance) and (
        isinstance(inner.function, Global) and inner.function.module in _CALLED
    )


def is_unset(record: Any) -> bool:
    """Whether a record is a tensor of such a class that has got no values yet."""
    return isinstance(record, Instance) and _storage_of(record) is not None and not record.state


def inner_of(record: Instance) -> Any:
    """Return the tensor that such a record stands for, as torch writes it now, or None."""
    function = record.function
    if not isinstance(function, Global) or record.pairs or record.items:
        return None
    if str(function) in _WRAPPERS:
        return _wrapped(record)
    storage = _storage_of(record)
    if storage is None or len(record.state) != 1 or record.args:
        return None
    state = record.state[0]
    if not isinstance(state, tuple) or len(state) != 4 or not _is_of(state[0], storage):
        return None
    return Instance(_REBUILD, state)


def _wrapped(record: Instance) -> Any:
    """Return the tensor of a parameter."""
    args, states = record.args, record.state
    if len(args) in (1, 2) and (not states or (len(states) == 1 and _is_plain(states[0]))):
        return args[0] if args[1:] in ((), (True,), (False,)) else None
    if not args and len(states) == 1 and isinstance(states[0], tuple) and len(states[0]) == 5:
        tensor, _, *state = states[0]
        return tensor if _is_plain((*state[1:], state[0])) else None
    return None


def _is_plain(state: Any) -> bool:
    """Whether a state is two booleans, and hooks of which there are none."""
    if not isinstance(state, tuple) or len(state) != 3:
        return False
    hooks = state[2]
    has_none = hooks is None or (
        isinstance(hooks, (Dict, Instance))
        and not hooks.pairs
        and (isinstance(hooks, Dict) or hooks.calls("collections", "OrderedDict"))
    )
    return type(state[0]) is bool and type(state[1]) is bool and has_none


def _storage_of(record: Instance) -> str | None:
    """Return the name of the storages of such a class, or None of anything else."""
    function = record.function
    if not isinstance(function, Global) or function.module not in _MODULES:
        return None
    return _STORAGES.get(function.name)


def _is_of(storage: Any, name: str) -> bool:
    if not isinstance(storage, Persistent) or not isinstance(storage.id, tuple):
        return False
    kind = storage.id[1] if len(storage.id) > 1 else None
    return isinstance(kind, Global) and kind.name == name
