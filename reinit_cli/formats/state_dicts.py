"""What a pickle of torch's holds: the state dict in it, and its tensors' places in storages.

torch pickles a tensor as a call that would rebuild it from a storage, an offset, a size and
a stride (torch/_utils.py, torch 2.15); the storage is a persistent id:

    ("storage", torch.FloatStorage, key, location, numel)        zip
    (..., view_metadata)                                         legacy: six items

The numel of `torch.storage.UntypedStorage` counts bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple, NoReturn

from reinit_cli.dtypes import DTYPES
from reinit_cli.errors import MalformedFileError, RootError
from reinit_cli.formats.allowed_names import ALLOWED
from reinit_cli.formats.pickles import (
    Dict,
    Global,
    Instance,
    Long,
    Persistent,
    Pickle,
    Set,
    pairs_of,
)
from reinit_cli.optimizers import Optimizer, ParameterId
from reinit_cli.tensors import TensorInfo
from reinit_cli.text import near

ROOTS = ("state_dict", "model_state_dict", "model", "module")
"""Where training checkpoints keep the state dict, in the order in which they are tried."""

MAX_DEPTH = 100

_MOST_PAIRS = 64
"""The keys and values of an optimizer's state at most: it has two, or a few more."""

_STORAGE_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "QUInt8Storage": "quint8",
    "QInt8Storage": "qint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "uint8",
}

_ITEMSIZES = {
    **{name: dtype.nbits // 8 for name, dtype in DTYPES.items()},
    "quint8": 1,
    "qint8": 1,
    "qint32": 4,
    "quint4x2": 1,
    "quint2x4": 1,
    "float8_e8m0fnu": 1,
    "float4_e2m1fn_x2": 1,
}


# A named tuple: a file may have a hundred thousand, and dataclasses take four times as long.
class Storage(NamedTuple):
    """A storage that a pickle names.

    Attributes:
        key: its name in the file.
        dtype: torch's name of its elements; bytes for an untyped one.
        numel: the number of its elements.
        nbytes: their bytes.
    """

    key: str
    dtype: str
    numel: int
    nbytes: int


@dataclass(slots=True)
class Contents:
    """What a pickle holds.

    Attributes:
        root: the path of the state dict; "" for the whole.
        tensors: the state dict's entries.
        outside: the tensors beside it, by their whole path and a remark.
        rest: paths of what is no tensor, or lies outside, each with what it is.
        attributes: names of what is set on the state dict itself.
        storages: every storage that was met, by key.
        notes: what a user should know.
        optimizers: the optimizers' states beside it.
    """

    root: str = ""
    tensors: list[TensorInfo] = field(default_factory=list)
    outside: list[TensorInfo] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)
    storages: dict[str, Storage] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    optimizers: list[Optimizer] = field(default_factory=list)


def contents_of(pickle: Pickle, path: str, root: str | None) -> Contents:
    """Find the state dict in a pickle, and its tensors.

    Args:
        pickle: what was read.
        path: the file, for messages.
        root: the path of the state dict as the user names it, or None to look for it.

    Raises:
        RootError: there is no state dict, or not where the user says.
        MalformedFileError: a tensor in it is not what torch writes.
    """
    reading = _Reading(path)
    chosen, record = _named_root(pickle.top, root, path) if root else _root(pickle.top, path)
    found = Contents(chosen, storages=reading.storages)
    seen = set()
    own = set()  # the records of its tensors
    for key, value in _entries(record):
        if key in seen:
            raise MalformedFileError(path, f"its state dict has the key {key!r} twice")
        seen.add(key)
        info = reading.info(key, value)
        found.tensors.append(info)
        if id(value) in reading.closed or _is_tensor(value):
            own.add(id(value))
        if info.carried and not isinstance(value, Instance):
            found.rest.append(f"{key} ({_kind(value)})")
    reading.walk(pickle.top, record, own, found)
    found.rest = [*_beside_root(pickle.top, chosen), *found.rest]
    if _is_module(record):
        found.rest.append(f"{chosen or 'the whole'} ({_kind(record)})")
    else:
        found.attributes = [name for name, _ in _state_members(record)]
    for name in _ema_copies(pickle.top, chosen):
        found.notes.append(f"there is another copy of the weights at {name!r}: --root {name}")
    return found


def unknown_names(pickle: Pickle) -> tuple[str, ...]:
    """Return what a pickle would import that torch does not allow."""
    return tuple(str(name) for name in pickle.names if str(name) not in ALLOWED)


def starts_of(tensors: Sequence[TensorInfo], offsets: Mapping[str, int]) -> dict[str, int]:
    """Return where in the file the first byte of each tensor lies.

    Args:
        tensors: the entries.
        offsets: where each storage starts.
    """
    return {
        tensor.key: offsets[str(tensor.storage)] + tensor.start
        for tensor in tensors
        if tensor.storage is not None
    }


# Roots


def _root(top: Any, path: str) -> tuple[str, Any]:
    """Return the path of the state dict and the state dict."""
    names: list[str] = []
    record = top
    while not _has_tensors(record) and len(names) < MAX_DEPTH:
        members = dict(_string_members(record))
        name = next((name for name in ROOTS if _may_hold_tensors(members.get(name))), None)
        if name is None:
            break
        names.append(name)
        record = members[name]
    else:
        # A state dict may have entries with these names; only what holds others is a root.
        members = dict(_string_members(record))
        inner = [name for name in ROOTS if _has_tensors(members.get(name))]
        if inner:
            return ".".join((*names, inner[0])), members[inner[0]]
        return ".".join(names), record
    candidates = list(_candidates(top))
    if len(candidates) == 1:
        return candidates[0]
    if _is_dict(record) and not list(_entries(record)) and record is not top:
        return ".".join(names), record
    raise RootError(path, None, tuple(name for name, _ in candidates[:10]))


def _named_root(top: Any, root: str, path: str) -> tuple[str, Any]:
    """Follow the names of a root; a name may hold dots itself."""

    def follow(record: Any, left: str) -> Any:
        members = dict(_string_members(record))
        if left in members:
            return members[left]
        for name, member in members.items():
            if left.startswith(f"{name}.") and (found := follow(member, left[len(name) + 1 :])):
                return found
        return None

    record = top if root == "." else follow(top, root)
    if record is None or not (_is_dict(record) or _is_module(record)):
        known = tuple(name for name, _ in _candidates(top))
        raise RootError(path, root, tuple(near(root, known)) or known[:10])
    return "" if root == "." else root, record


def _candidates(top: Any) -> Iterator[tuple[str, Any]]:
    """Yield every dictionary that holds tensors, with its path."""
    seen = set()
    waiting = [("", top, 0)]
    while waiting:
        name, record, depth = waiting.pop()
        if id(record) in seen or depth > MAX_DEPTH:
            continue
        seen.add(id(record))
        if _has_tensors(record):
            yield name, record
            continue
        inner = [
            (f"{name}.{key}" if name else key, member, depth + 1)
            for key, member in _string_members(record)
            if _is_dict(member) or _is_module(member)
        ]
        waiting += inner[::-1]


def _ema_copies(top: Any, chosen: str) -> Iterator[str]:
    for key, member in _string_members(top):
        if "ema" in key.lower().replace("-", "_").split("_") and key != chosen:
            for name, _ in _candidates(member):
                yield f"{key}.{name}" if name else key


def _string_members(record: Any) -> Iterator[tuple[str, Any]]:
    if _is_dict(record):
        yield from ((key, value) for key, value in pairs_of(record) if isinstance(key, str))


def _has_tensors(record: Any) -> bool:
    if _is_module(record):
        return True
    return _is_dict(record) and any(_is_tensor(value) for _, value in pairs_of(record))


def _may_hold_tensors(record: Any) -> bool:
    return _is_dict(record) or _is_module(record)


def _is_dict(record: Any) -> bool:
    if isinstance(record, Dict):
        return True
    return isinstance(record, Instance) and record.calls(
        "collections", "OrderedDict", "defaultdict"
    )


def _is_module(record: Any) -> bool:
    state = dict(_state_members(record))
    return "_parameters" in state and "_modules" in state


def _state_members(record: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that BUILD would set."""
    for state in record.state if isinstance(record, Instance) else ():
        # (state, slots) is how objects with slots are pickled.
        for part in state if isinstance(state, tuple) else (state,):
            yield from _string_members(part)


def _entries(record: Any) -> Iterator[tuple[str, Any]]:
    """Yield what `state_dict()` of a record would have."""
    if _is_module(record):
        yield from _module_entries(record, "", 0)
        return
    for key, value in pairs_of(record):
        if isinstance(key, str):
            yield key, value
        elif type(key) is int:
            yield str(key), value


def _module_entries(record: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    state = dict(_state_members(record))
    fleeting = state.get("_non_persistent_buffers_set")
    left_out = {item for item in getattr(fleeting, "items", ()) if isinstance(item, str)}
    left_out |= {
        item
        for items in getattr(fleeting, "args", ()) or ()
        if isinstance(items, list)
        for item in items
        if isinstance(item, str)
    }
    for group in ("_parameters", "_buffers"):
        for name, value in _string_members(state.get(group)):
            if value is not None and not (group == "_buffers" and name in left_out):
                yield prefix + name, value
    if depth < MAX_DEPTH:
        for name, module in _string_members(state.get("_modules")):
            if module is not None:
                yield from _module_entries(module, f"{prefix}{name}.", depth + 1)


# Tensors

_COMPOSED = (Dict, Instance, Set, list, tuple, Persistent)

_UTILS, _TENSOR = "torch._utils", "torch._tensor"
_PARAMETERS = ("_rebuild_parameter", "_rebuild_parameter_with_state")
_WITH_DTYPE = "_rebuild_tensor_v3"
_PLAIN = frozenset(("_rebuild_tensor", "_rebuild_tensor_v2", _WITH_DTYPE))
_CARRIED = {
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_qtensor": "a quantised tensor",
    "_rebuild_meta_tensor_no_storage": "a meta tensor, which has no values",
    "_rebuild_wrapper_subclass": "a tensor subclass",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_device_tensor_from_numpy": "a tensor of another device",
    "_rebuild_device_tensor_from_cpu_tensor": "a tensor of another device",
}
_OWN_TYPES = frozenset(
    ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
)


def _is_tensor(record: Any) -> bool:
    if not isinstance(record, Instance):
        return False
    return (
        _is_plain(record)
        or record.calls(_UTILS, *_PARAMETERS, *_CARRIED)
        or record.calls(_TENSOR, "_rebuild_from_type_v2")
    )


def _is_plain(record: Instance) -> bool:
    function = record.function
    return isinstance(function, Global) and function.name in _PLAIN and function.module == _UTILS


def _is_closed(record: Instance) -> bool:
    """Whether a plain tensor holds nothing but its storage: no hooks, no metadata."""
    args = record.args
    if len(args) != 6:
        return len(args) <= 4
    needs_grad, hooks = args[4:]
    if type(needs_grad) is not bool or not isinstance(hooks, Instance):
        return False
    is_empty = not (hooks.args or hooks.pairs or hooks.items or hooks.state)
    return is_empty and hooks.calls("collections", "OrderedDict")


class _Reading:
    """What is learnt of a file's storages on the way through its tensors."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.storages: dict[str, Storage] = {}
        self.layouts: dict[tuple[int, int], _Layout | None] = {}
        self.closed: set[int] = set()  # records of tensors that hold nothing more

    def info(self, key: str, record: Any) -> TensorInfo:
        """Return what is known of an entry.

        Raises:
            MalformedFileError: it calls itself a tensor and is none.
        """
        carried = ""
        for depth in range(MAX_DEPTH):
            if not isinstance(record, Instance):
                break
            args = record.args
            if _is_plain(record):
                if depth == 0 and _is_closed(record):
                    self.closed.add(id(record))
                return self._plain(key, record, carried)
            if record.calls(_UTILS, *_PARAMETERS) and args:
                record = args[0]
            elif (
                record.calls(_TENSOR, "_rebuild_from_type_v2")
                and len(args) >= 3
                and isinstance(args[2], tuple)
            ):
                if str(args[1]) not in _OWN_TYPES:
                    carried = f"a tensor subclass ({args[1]})"
                record = Instance(args[0], args[2])
            elif record.calls(_UTILS, *_CARRIED):
                assert isinstance(record.function, Global)
                return self._carried(key, record, carried or _CARRIED[record.function.name])
            else:
                break
        kind = _kind(record)
        return TensorInfo(key, kind, (), 0, carried=f"not a tensor but {kind}")

    def _plain(self, key: str, record: Instance, carried: str) -> TensorInfo:
        args = record.args
        if len(args) < 4 or not isinstance(args[0], Persistent):
            self._refuse(key)
        storage = self.storage(key, args[0])
        offset = args[1]
        layout = self.layout(args[2], args[3])
        dtype = storage.dtype
        metadata = args[6] if len(args) > 6 else None
        if record.function.name == _WITH_DTYPE:
            named = args[6] if len(args) > 6 else None
            if not isinstance(named, Global) or named.module != "torch":
                self._refuse(key)
            dtype = named.name
            metadata = args[7] if len(args) > 7 else None
        if layout is None or type(offset) is not int or offset < 0:
            self._refuse(key)
        shape, stride, numel, reach = layout
        if metadata is not None and list(pairs_of(metadata)):
            carried = carried or "a conjugated or negated view"
        itemsize = _ITEMSIZES.get(dtype)
        if itemsize is None:
            return TensorInfo(key, dtype, shape, 0, carried=carried or f"of the dtype {dtype}")
        if numel and (offset + reach) * itemsize > storage.nbytes:
            raise MalformedFileError(self.path, f"the tensor {key!r} reaches beyond its storage")
        return TensorInfo(
            key, dtype, shape, numel * itemsize, storage.key, offset, stride, carried or None
        )

    def layout(self, shape: Any, stride: Any) -> _Layout | None:
        """Return what follows from a shape and strides; None where they are none.

        Most tensors of a file share theirs, down to the record, which stays while it is read.
        """
        place = (id(shape), id(stride))
        if place not in self.layouts:
            self.layouts[place] = _layout(shape, stride)
        return self.layouts[place]

    def _carried(self, key: str, record: Instance, why: str) -> TensorInfo:
        args = record.args
        shape: tuple[int, ...] | None = None
        dtype = "tensor"
        nbytes = 0
        if record.calls(_UTILS, "_rebuild_qtensor") and len(args) > 3:
            if isinstance(args[0], Persistent):
                storage = self.storage(key, args[0])
                dtype, nbytes = storage.dtype, storage.nbytes
            shape = _dims(args[2])
            why = f"a quantised tensor ({dtype})"
        elif record.calls(_UTILS, "_rebuild_meta_tensor_no_storage") and len(args) > 1:
            dtype = args[0].name if isinstance(args[0], Global) else dtype
            shape = _dims(args[1])
        elif record.calls(_UTILS, "_rebuild_sparse_tensor") and len(args) > 1:
            parts = args[1] if isinstance(args[1], tuple) else ()
            values = next((part for part in parts[1:3] if _is_tensor(part)), None)
            dtype = self.info(key, values).dtype if values is not None else dtype
            shape = next((dims for dims in map(_dims, parts) if dims is not None), None)
        return TensorInfo(key, dtype, shape or (), nbytes, carried=why)

    def storage(self, key: str, record: Persistent) -> Storage:
        """Return the storage of a persistent id.

        Raises:
            MalformedFileError: it is none, or says another thing than before.
        """
        parts = record.id
        if not isinstance(parts, tuple) or len(parts) not in (5, 6) or parts[0] != "storage":
            self._refuse(key)
        kind, name, numel = parts[1], parts[2], parts[4]
        if len(parts) == 6 and parts[5] is not None:
            raise MalformedFileError(self.path, f"{key!r} lies in a view of a storage")
        dtype = _STORAGE_DTYPES.get(kind.name) if isinstance(kind, Global) else None
        if dtype is None or not isinstance(name, str) or type(numel) is not int or numel < 0:
            self._refuse(key)
        known = self.storages.get(name)
        if known is not None and known.dtype == dtype and known.numel == numel:
            return known
        storage = Storage(name, dtype, numel, numel * _ITEMSIZES[dtype])
        known = self.storages.setdefault(name, storage)
        if known.nbytes != storage.nbytes:
            raise MalformedFileError(self.path, f"the storage {name!r} has two sizes")
        return storage

    def _refuse(self, key: str) -> NoReturn:
        raise MalformedFileError(self.path, f"the tensor {key!r} is not what torch writes")

    def walk(self, top: Any, root: Any, own: AbstractSet[int], found: Contents) -> None:
        """Meet everything once, and note the tensors that are no entries of the root.

        Args:
            top: what the pickle stands for.
            root: the state dict.
            own: the identities of the records of its tensors.
            found: where to note them.
        """
        is_module = _is_module(root)
        seen = set(self.closed)
        waiting = [("", top, 0, False)]
        while waiting:
            name, record, depth, is_known = waiting.pop()
            if id(record) in seen or not isinstance(record, _COMPOSED):
                continue
            seen.add(id(record))
            if depth > MAX_DEPTH:
                problem = f"its pickle is nested deeper than {MAX_DEPTH}"
                raise MalformedFileError(self.path, problem)
            if isinstance(record, Persistent):
                self._note_storage(name, record)
                continue
            is_tensor = _is_tensor(record)
            if is_tensor and not is_known and id(record) not in own:
                found.outside.append(self.info(_outside(name), record))
            # What a tensor is made of is no tensor of its own.
            is_known = is_known or is_tensor
            parts = [each for each in _parts(name, record) if isinstance(each[1], _COMPOSED)]
            if _is_optimizer(record):
                found.optimizers.append(self.optimizer(name, record))
            if _is_dict(record) and record is not root and not is_module:
                # One tensor object may be an entry of several dictionaries.
                found.outside += [
                    self.info(_outside(path), part) for path, part in parts if id(part) in own
                ]
            inner = [
                (path, part, depth + 1, is_known) for path, part in parts if id(part) not in seen
            ]
            waiting += inner[::-1]

    def optimizer(self, name: str, record: Any) -> Optimizer:
        """Return what is known of an optimizer's state."""
        members = dict(_string_members(record))
        groups = [dict(_string_members(group)) for group in members["param_groups"]]
        ids = tuple(tuple(group["params"]) for group in groups)
        names = [group.get("param_names") for group in groups]
        are_named = all(
            isinstance(each, list) and len(each) == len(of)
            for each, of in zip(names, ids, strict=True)
        )
        slots: dict[ParameterId, dict[str, TensorInfo]] = {}
        numbers: dict[ParameterId, tuple[str, ...]] = {}
        for parameter, state in pairs_of(members["state"]):
            if isinstance(parameter, (int, str)):
                path = f"{name}.state.{parameter}" if name else f"state.{parameter}"
                held = dict(_string_members(state))
                slots[parameter] = {
                    slot: self.info(_outside(f"{path}.{slot}"), value)
                    for slot, value in held.items()
                    if _is_tensor(value)
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

    def _note_storage(self, name: str, record: Persistent) -> None:
        parts = record.id
        if isinstance(parts, tuple) and parts and parts[0] == "storage":
            self.storage(name, record)


def _is_optimizer(record: Any) -> bool:
    """Whether something is what `Optimizer.state_dict()` gives."""
    if not isinstance(record, Dict) or len(record.pairs) > _MOST_PAIRS:
        return False
    members = dict(_string_members(record))
    groups = members.get("param_groups")
    return (
        isinstance(groups, list)
        and bool(groups)
        and _is_dict(members.get("state"))
        and all(_is_group(group) for group in groups)
    )


def _is_group(record: Any) -> bool:
    params = dict(_string_members(record)).get("params")
    return isinstance(params, list) and all(isinstance(each, (int, str)) for each in params)


def _outside(path: str) -> str:
    return f"{path} (outside the state dict)"


def _beside_root(top: Any, root: str) -> list[str]:
    """Return the members beside the root, of every dictionary on the way to it."""
    beside = []
    prefix = ""
    record = top
    left = root
    while record is not None and left:
        inner = None
        for key, member in pairs_of(record):
            name = str(key)
            if inner is None and (left == name or left.startswith(f"{name}.")):
                inner, taken = member, name
            else:
                beside.append(f"{prefix}{name} ({_kind(member)})")
        if inner is None:
            break
        prefix += f"{taken}."
        left = left[len(taken) + 1 :]
        record = inner
    return beside


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


def _kind(record: Any) -> str:
    """Return what something is, for people."""
    match record:
        case Instance():
            return "a tensor" if _is_tensor(record) else str(_name_of(record.function))
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


def _name_of(function: Any) -> str:
    match function:
        case Persistent(id=("module", Global() as named, *_)):  # a class, before torch 1.6
            return str(named)
        case Global():
            is_known = function.module in ("builtins", "collections")
            return function.name if is_known else str(function)
    return "an object"


def _dims(record: Any) -> tuple[int, ...] | None:
    """Return a size: a tuple, or torch.Size of one."""
    if isinstance(record, Instance) and record.calls("torch", "Size") and record.args:
        record = record.args[0]
    return tuple(record) if _are_sizes(record) else None


_Layout = tuple[tuple[int, ...], tuple[int, ...] | None, int, int]
"""Shape; strides, or None where elements lie without gap in row-major order; the number of
elements; how many lie from the first to the last."""


def _layout(shape: Any, stride: Any) -> _Layout | None:
    dims = _dims(shape)
    if dims is None or not _are_sizes(stride) or len(dims) != len(stride):
        return None
    reach = 1 + sum((dim - 1) * step for dim, step in zip(dims, stride, strict=True))
    return dims, None if _is_contiguous(dims, stride) else stride, prod(dims), reach


def _are_sizes(record: Any) -> bool:
    return isinstance(record, tuple) and all(
        type(item) is int and 0 <= item < 2**63 for item in record
    )


def _is_contiguous(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether elements lie without gap in row-major order; strides of single steps are free."""
    if 0 in shape:
        return True
    expected = 1
    for dim, step in zip(reversed(shape), reversed(stride), strict=True):
        if dim != 1 and step != expected:
            return False
        expected *= dim
    return True
