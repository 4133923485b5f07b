"""Rebuild the state dict that a folder was saved from, as records of a pickle.

The names in `.metadata` are those of leaves, and `planner_data` has the path of each. What a
file of `torch.save` holds is searched for a state dict, for optimizers and for everything
else; so is this, by the same code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reinit_cli.checkpoints.formats.dcp.metadata import Metadata, Stored
from reinit_cli.checkpoints.formats.torch.pickles.budget import MAX_DEPTH
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import UTILS, WITH_DTYPE
from reinit_cli.checkpoints.formats.torch.pickles.records import (
    Dict,
    Global,
    Instance,
    Persistent,
)
from reinit_cli.checkpoints.formats.torch.pickles.tensor_records import STORAGE_CLASSES
from reinit_cli.errors import MalformedFileError
from reinit_cli.tensors.dtype import has_itemsize, itemsize_of
from reinit_cli.tensors.slice import row_major

Leaves = Mapping[str, Any]
"""The records of leaves by their names."""

_Node = dict[str, Any]
"""The parts of a container: keys that are texts, and numbers after a mark."""

_NUMBER = "\0"


def tree_of(metadata: Metadata, objects: Leaves, path: str) -> Any:
    """Return the record of the whole state dict.

    Args:
        metadata: what the folder holds.
        objects: the records of what is not a tensor.
        path: that of `.metadata`, for errors.

    Raises:
        MalformedFileError: two leaves lie in one place, or one in another.
    """
    maker = _TensorMaker()
    top: _Node = {}
    for fqn, leaf in _leaves(metadata, objects, maker):
        keys = metadata.paths.get(fqn, (fqn,))
        if len(keys) > MAX_DEPTH:
            raise MalformedFileError(path, f"{fqn!r} is nested too deeply", "DCP metadata")
        node = top
        for key in keys[:-1]:
            inner = node.setdefault(_spelled(key), {})
            if type(inner) is not dict:
                raise MalformedFileError(path, f"{fqn!r} lies in another leaf", "DCP metadata")
            node = inner
        if node.setdefault(_spelled(keys[-1]), leaf) is not leaf:
            problem = f"{fqn!r} lies in the place of another"
            raise MalformedFileError(path, problem, "DCP metadata")
    return _record(top)


def _leaves(metadata: Metadata, objects: Leaves, maker: _TensorMaker) -> Iterator[tuple[str, Any]]:
    yield from ((fqn, maker.record(stored)) for fqn, stored in metadata.tensors.items())
    yield from objects.items()


def _spelled(key: str | int) -> str:
    # The file chooses the numbers, and could choose thousands with one hash.
    return key if type(key) is str else f"{_NUMBER}{key}"


def _record(top: _Node) -> Any:
    """Return the record of a container, those inside first."""
    done: dict[int, Any] = {}
    waiting: list[tuple[_Node, bool]] = [(top, False)]
    while waiting:
        node, is_ready = waiting.pop()
        if not is_ready:
            waiting.append((node, True))
            waiting += [(part, False) for part in node.values() if type(part) is dict]
            continue
        parts = [done[id(part)] if type(part) is dict else part for part in node.values()]
        done[id(node)] = _container(list(node), parts)
    return done[id(top)]


def _container(keys: list[str], parts: list[Any]) -> Any:
    """Return a list where all keys are numbers from 0 on; else a dictionary."""
    numbers = [int(key[1:]) if key.startswith(_NUMBER) else -1 for key in keys]
    if keys and sorted(numbers) == list(range(len(keys))):
        return [part for _, part in sorted(zip(numbers, parts, strict=True), key=_first)]
    names = zip(keys, numbers, strict=True)
    spelled = (key if number < 0 else number for key, number in names)
    return _in_state(Dict([each for pair in zip(spelled, parts, strict=True) for each in pair]))


def _first(pair: tuple[int, Any]) -> int:
    return pair[0]


def _in_state(record: Dict) -> Dict:
    """Return what an optimizer's flat state dict stands for; anything else as it is.

    torch.distributed.checkpoint.state_dict can flatten it, which torchtitan asks for:
    "state.layers.0.weight.exp_avg", "param_groups.layers.0.weight.lr".
    """
    keys = record.pairs[::2]
    names = [key for key in keys if isinstance(key, str) and key.startswith(_FLAT)]
    if not names or len(names) != len(keys):
        return record
    state: dict[str, list[Any]] = {}
    params: dict[str, None] = {}
    for key, value in zip(keys, record.pairs[1::2], strict=True):
        kind, _, rest = key.partition(".")
        name, dot, slot = rest.rpartition(".")
        if not dot:
            return record
        params.setdefault(name)
        if kind == "state":
            state.setdefault(name, []).extend((slot, value))
    states = [each for name, slots in state.items() for each in (name, Dict(slots))]
    group = Dict(["params", [*params]])
    return Dict(["state", Dict(states), "param_groups", [group]])


_FLAT = ("state.", "param_groups.")


class _TensorMaker:
    """Makes the records of tensors, whose sizes and classes many share."""

    def __init__(self) -> None:
        self._hooks = Instance(Global("collections", "OrderedDict"), ())
        self._plain = Global(UTILS, "_rebuild_tensor_v2")
        self._with_dtype = Global(UTILS, WITH_DTYPE)
        self._untyped = Global("torch", "UntypedStorage")
        self._classes = {dtype: Global("torch", name) for dtype, name in STORAGE_CLASSES.items()}
        self._dtypes: dict[str, Global] = {}
        self._strides: dict[int, tuple[int, ...]] = {}  # by the identity of sizes that stay

    def record(self, stored: Stored) -> Instance:
        """Return what `torch.save` would have written for a tensor alone in its storage."""
        fqn, dtype, shape, _ = stored
        stride = self._strides.get(id(shape))
        if stride is None:
            stride = self._strides[id(shape)] = row_major(shape)
        numel = 1
        for dim in shape:
            numel *= dim
        class_ = self._classes.get(dtype)
        if class_ is not None:
            storage = Persistent(("storage", class_, fqn, "cpu", numel))
            return Instance(self._plain, (storage, 0, shape, stride, False, self._hooks))
        named = self._dtypes.setdefault(dtype, Global("torch", dtype))
        itemsize = itemsize_of(dtype) if has_itemsize(dtype) else 1
        storage = Persistent(("storage", self._untyped, fqn, "cpu", numel * itemsize))
        args = (storage, 0, shape, stride, False, self._hooks, named)
        return Instance(self._with_dtype, args)
