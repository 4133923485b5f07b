"""Locate the tensors of a state dict in a pickle's storages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple, NoReturn

from reinit_cli.checkpoints.formats.base import Located, Place
from reinit_cli.checkpoints.formats.torch.allowed_names import ALLOWED
from reinit_cli.checkpoints.formats.torch.record_kinds import (
    CARRIED,
    OWN_TYPES,
    PARAMETERS,
    TENSOR,
    UTILS,
    WITH_DTYPE,
    is_closed_tensor,
    is_dict,
    is_module_record,
    is_optimizer,
    is_plain_tensor,
    is_tensor_record,
    kind_of,
    state_members,
    string_members,
)
from reinit_cli.checkpoints.formats.torch.records import (
    Dict,
    Global,
    Instance,
    Persistent,
    Pickle,
    Set,
    pairs_of,
)
from reinit_cli.checkpoints.formats.torch.roots import (
    MAX_DEPTH,
    beside_root,
    ema_copies,
    entries_of,
    find_named_root,
    find_root,
)
from reinit_cli.errors import MalformedFileError
from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.optimizer import Optimizer, ParameterId

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
"""The suffixes of what `torch.save` writes, in either format."""

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

    def located(self, format_: str, offsets: Mapping[str, int], pickle: Pickle) -> Located:
        """Return what a file holds.

        Args:
            format_: the name of its format.
            offsets: where each storage starts in it.
            pickle: its pickle.
        """
        return Located(
            format_,
            tuple(self.tensors),
            _places_of((*self.tensors, *self.outside), offsets),
            framework="pt",
            root=self.root,
            outside=tuple(self.outside),
            rest=tuple(self.rest),
            attributes=tuple(self.attributes),
            unknown_names=_unknown_names(pickle),
            notes=tuple(self.notes),
            optimizers=tuple(self.optimizers),
        )


def contents_of(pickle: Pickle, path: str, root: str | None) -> Contents:
    """Find the state dict in a pickle, and its tensors.

    Args:
        pickle: what was read.
        path: the file, for messages.
        root: the path of the state dict as the user names it, or None to look for it.

    Raises:
        UnsupportedFormatError: there is no state dict.
        UnknownNameError: there is none where the user says.
        MalformedFileError: a tensor in it is not what torch writes.
    """
    reading = _Reading(path)
    chosen, record = (
        find_named_root(pickle.top, root, path) if root else find_root(pickle.top, path)
    )
    found = Contents(chosen, storages=reading.storages)
    seen = set()
    own = set()  # the records of its tensors
    for key, value in entries_of(record):
        if key in seen:
            raise MalformedFileError(path, f"its state dict has the key {key!r} twice")
        seen.add(key)
        info = reading.info(key, value)
        found.tensors.append(info)
        if id(value) in reading.closed or is_tensor_record(value):
            own.add(id(value))
        if info.carried and not isinstance(value, Instance):
            found.rest.append(f"{key} ({kind_of(value)})")
    reading.walk(pickle.top, record, own, found)
    found.rest = [*beside_root(pickle.top, chosen), *found.rest]
    if is_module_record(record):
        found.rest.append(f"{chosen or 'the whole'} ({kind_of(record)})")
    else:
        found.attributes = [name for name, _ in state_members(record)]
    for name in ema_copies(pickle.top, chosen):
        found.notes.append(f"there is another copy of the weights at {name!r}: --root {name}")
    return found


def _unknown_names(pickle: Pickle) -> tuple[str, ...]:
    """Return what a pickle would import that torch does not allow."""
    return tuple(str(name) for name in pickle.names if str(name) not in ALLOWED)


def _places_of(
    tensors: Sequence[TensorInfo], offsets: Mapping[str, int]
) -> dict[str, tuple[Place, ...]]:
    """Return where the bytes of each tensor lie, from its first element to its last."""
    places: dict[str, tuple[Place, ...]] = {}
    for tensor in tensors:
        if tensor.storage is not None:
            first, end = tensor.extent
            places[tensor.key] = (Place("", offsets[str(tensor.storage)] + first, end - first),)
    return places


# Tensors

_COMPOSED = (Dict, Instance, Set, list, tuple, Persistent)


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
            if is_plain_tensor(record):
                if depth == 0 and is_closed_tensor(record):
                    self.closed.add(id(record))
                return self._plain(key, record, carried)
            if record.calls(UTILS, *PARAMETERS) and args:
                record = args[0]
            elif (
                record.calls(TENSOR, "_rebuild_from_type_v2")
                and len(args) >= 3
                and isinstance(args[2], tuple)
            ):
                if str(args[1]) not in OWN_TYPES:
                    carried = f"a tensor subclass ({args[1]})"
                record = Instance(args[0], args[2])
            elif record.calls(UTILS, *CARRIED):
                assert isinstance(record.function, Global)
                return self._carried(key, record, carried or CARRIED[record.function.name])
            else:
                break
        kind = kind_of(record)
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
        if record.function.name == WITH_DTYPE:
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
        if record.calls(UTILS, "_rebuild_qtensor") and len(args) > 3:
            if isinstance(args[0], Persistent):
                storage = self.storage(key, args[0])
                dtype, nbytes = storage.dtype, storage.nbytes
            shape = _dims(args[2])
            why = f"a quantised tensor ({dtype})"
        elif record.calls(UTILS, "_rebuild_meta_tensor_no_storage") and len(args) > 1:
            dtype = args[0].name if isinstance(args[0], Global) else dtype
            shape = _dims(args[1])
        elif record.calls(UTILS, "_rebuild_sparse_tensor") and len(args) > 1:
            parts = args[1] if isinstance(args[1], tuple) else ()
            values = next((part for part in parts[1:3] if is_tensor_record(part)), None)
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
        is_module = is_module_record(root)
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
            is_tensor = is_tensor_record(record)
            if is_tensor and not is_known and id(record) not in own:
                found.outside.append(self.info(_outside(name), record))
            # What a tensor is made of is no tensor of its own.
            is_known = is_known or is_tensor
            parts = [each for each in _parts(name, record) if isinstance(each[1], _COMPOSED)]
            if is_optimizer(record):
                found.optimizers.append(self.optimizer(name, record))
            if is_dict(record) and record is not root and not is_module:
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
        members = dict(string_members(record))
        groups = [dict(string_members(group)) for group in members["param_groups"]]
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
                held = dict(string_members(state))
                slots[parameter] = {
                    slot: self.info(_outside(f"{path}.{slot}"), value)
                    for slot, value in held.items()
                    if is_tensor_record(value)
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


def _outside(path: str) -> str:
    return f"{path} (outside the state dict)"


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
