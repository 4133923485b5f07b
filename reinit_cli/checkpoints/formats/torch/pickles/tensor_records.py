"""Read the tensors that pickle records stand for, and the storages that they name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from reinit_cli.checkpoints.formats.torch.pickles.budget import MAX_DEPTH, Budget
from reinit_cli.checkpoints.formats.torch.pickles.numpy_records import array_of
from reinit_cli.checkpoints.formats.torch.pickles.old_tensors import inner_of, is_old
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import (
    CARRIED,
    OWN_TYPES,
    PARAMETERS,
    TENSOR,
    UTILS,
    WITH_DTYPE,
    is_closed_tensor,
    is_dict,
    is_plain_tensor,
    kind_of,
    name_of,
)
from reinit_cli.checkpoints.formats.torch.pickles.records import (
    Global,
    Instance,
    Persistent,
    pairs_of,
)
from reinit_cli.checkpoints.formats.torch.pickles.tensor_states import is_plain_state
from reinit_cli.errors import MalformedFileError
from reinit_cli.tensors.dtype import DTYPES, MOVED
from reinit_cli.tensors.info import TensorInfo

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


STORAGE_CLASSES = {
    dtype: class_ for class_, dtype in _STORAGE_DTYPES.items() if class_ != "UntypedStorage"
}
"""The dtypes that have a class of storages of their own, and its name."""


CLASSIC_DTYPES = frozenset(_STORAGE_DTYPES.values())
"""Those that have storages of their own, which torch needs in files of before 1.6."""


_ITEMSIZES = {
    **{name: dtype.nbits // 8 for name, dtype in DTYPES.items()},
    "quint8": 1,
    "qint8": 1,
    "qint32": 4,
    "quint4x2": 1,
    "quint2x4": 1,
    **dict.fromkeys(MOVED, 1),
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


_INFO_WORK = 10
"""The opcodes that take as long as the look at a tensor."""


_MOST_PARTS = 8
"""Of a sparse tensor: its indices, values and size, and the like."""


_INFO_NBYTES = 350
"""What is known of a tensor takes, and the place where it lies."""


_DIM_NBYTES = 16
"""What a dimension adds, as a number and as text."""


class Reading:
    """The storages of a file, collected on the way through its tensors."""

    def __init__(self, budget: Budget) -> None:
        self.path = budget.path
        self.budget = budget
        self.storages: dict[str, Storage] = {}
        self._layouts: dict[tuple[int, int], _Layout | None] = {}
        self.outside: dict[str, int] = {}  # how many tensors there have each path
        self.closed: set[int] = set()  # records of tensors that hold nothing more

    def info(self, key: str, record: Any) -> TensorInfo:
        """Return what is known of an entry.

        Raises:
            MalformedFileError: it claims to be a tensor and is not a valid one.
        """
        carried = ""
        self.budget.spend(_INFO_WORK, _INFO_NBYTES)
        for depth in range(MAX_DEPTH):
            if not isinstance(record, Instance):
                break
            args = record.args
            if is_plain_tensor(record):
                if depth == 0 and is_closed_tensor(record):
                    self.closed.add(id(record))
                return self._plain(key, record, carried)
            self.budget.spend(1)
            if record.calls(UTILS, *PARAMETERS) and args:
                self._check_state(key, record, args[3:4])
                record = args[0]
            elif (
                record.calls(TENSOR, "_rebuild_from_type_v2")
                and len(args) >= 3
                and isinstance(args[2], tuple)
            ):
                self._check_state(key, record, args[3:4])
                if not isinstance(args[1], Global) or str(args[1]) not in OWN_TYPES:
                    carried = self.budget.made(f"a tensor subclass ({name_of(args[1])})")
                record = Instance(args[0], args[2])
            elif record.calls(UTILS, *CARRIED):
                assert isinstance(record.function, Global)
                return self._carried(key, record, carried or CARRIED[record.function.name])
            elif is_old(record):
                record = inner_of(record)
            elif (array := array_of(record)) is not None:
                self.budget.spend(0, _DIM_NBYTES * len(array.shape))
                return TensorInfo(
                    key, array.dtype, array.shape, array.nbytes, carried=carried or array.remark
                )
            else:
                break
        kind = self.budget.made(kind_of(record))
        return TensorInfo(key, kind, (), 0, carried=f"not a tensor but {kind}")

    def _plain(self, key: str, record: Instance, carried: str) -> TensorInfo:
        args = record.args
        self._check_state(key, record)
        if len(args) < 4 or not isinstance(args[0], Persistent):
            self._refuse(key)
        storage = self.storage(key, args[0])
        offset = args[1]
        layout = self._layout(args[2], args[3])
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
        if metadata is not None and not is_dict(metadata):
            self._refuse(key)
        if any(True for _ in pairs_of(metadata, self.budget)):
            carried = carried or "a conjugated or negated view"
        itemsize = _ITEMSIZES.get(dtype)
        if itemsize is None:
            return TensorInfo(key, dtype, shape, 0, carried=carried or f"of the dtype {dtype}")
        if numel and (offset + reach) * itemsize > storage.nbytes:
            raise MalformedFileError(self.path, f"the tensor {key!r} reaches beyond its storage")
        return TensorInfo(
            key, dtype, shape, numel * itemsize, storage.key, offset, stride, carried or None
        )

    def _layout(self, shape: Any, stride: Any) -> _Layout | None:
        """Return what follows from a shape and strides; None where they are none.

        Most tensors of a file share theirs, down to the record, which stays while it is read.
        """
        place = (id(shape), id(stride))
        if place not in self._layouts:
            self._layouts[place] = self._layout_of(shape, stride)
        found = self._layouts[place]
        if found is not None:
            self.budget.spend(0, _DIM_NBYTES * len(found[0]))
        return found

    def _layout_of(self, shape: Any, stride: Any) -> _Layout | None:
        dims = self._dims(shape)
        if dims is None or not self._are_sizes(stride) or len(dims) != len(stride):
            return None
        numel = _numel(dims)
        if numel is None:
            return None
        reach = 1 + sum((dim - 1) * step for dim, step in zip(dims, stride, strict=True))
        return dims, None if _is_contiguous(dims, stride) else stride, numel, reach

    def _dims(self, record: Any) -> tuple[int, ...] | None:
        """Return a size: a tuple, or torch.Size of one."""
        if isinstance(record, Instance) and record.calls("torch", "Size") and record.args:
            record = record.args[0]
        return tuple(record) if self._are_sizes(record) else None

    def _are_sizes(self, record: Any) -> bool:
        if not isinstance(record, tuple):
            return False
        self.budget.spend(len(record) // 2)
        return all(type(item) is int and 0 <= item < 2**63 for item in record)

    def _check_state(self, key: str, record: Instance, states: Sequence[Any] = ()) -> None:
        """Refuse a tensor that gets other values after it is made."""
        if record.state or record.pairs or record.items:
            self._refuse(key)
        for state in states:
            if not is_plain_state(state, lambda count: self.budget.spend(1 + count // 8)):
                self._refuse(key)

    def _carried(self, key: str, record: Instance, why: str) -> TensorInfo:
        args = record.args
        shape: tuple[int, ...] | None = None
        dtype = "tensor"
        nbytes = 0
        if record.calls(UTILS, "_rebuild_qtensor") and len(args) > 3:
            if isinstance(args[0], Persistent):
                storage = self.storage(key, args[0])
                dtype, nbytes = storage.dtype, storage.nbytes
            shape = self._dims(args[2])
            why = f"a quantized tensor ({dtype})"
        elif record.calls(UTILS, "_rebuild_meta_tensor_no_storage") and len(args) > 1:
            dtype = args[0].name if isinstance(args[0], Global) else dtype
            shape = self._dims(args[1])
        elif record.calls(UTILS, "_rebuild_sparse_tensor") and len(args) > 1:
            parts = args[1][:_MOST_PARTS] if isinstance(args[1], tuple) else ()
            within = (part for part in parts[1:3] if isinstance(part, Instance))
            values = next((part for part in within if is_plain_tensor(part)), None)
            dtype = self._plain(key, values, "").dtype if values is not None else dtype
            shape = next((dims for dims in map(self._dims, parts) if dims is not None), None)
        self.budget.spend(0, _DIM_NBYTES * len(shape or ()))
        return TensorInfo(key, dtype, shape or (), nbytes, carried=self.budget.made(why))

    def storage(self, key: str, record: Persistent) -> Storage:
        """Return the storage of a persistent id.

        Raises:
            MalformedFileError: it is not a valid one, or contradicts an earlier one.
        """
        parts = record.id
        if not isinstance(parts, tuple) or len(parts) not in (5, 6) or parts[0] != "storage":
            self._refuse(key)
        kind, name, numel = parts[1], parts[2], parts[4]
        if len(parts) == 6 and parts[5] is not None:
            raise MalformedFileError(self.path, f"{key!r} lies in a view of a storage")
        dtype = _STORAGE_DTYPES.get(kind.name) if isinstance(kind, Global) else None
        is_named = isinstance(name, str) and isinstance(parts[3], str)  # by its key and device
        if dtype is None or not is_named or type(numel) is not int or numel < 0:
            self._refuse(key)
        known = self.storages.get(name)
        if known is not None and known.dtype == dtype and known.numel == numel:
            return known
        storage = Storage(name, dtype, numel, numel * _ITEMSIZES[dtype])
        known = self.storages.setdefault(name, storage)
        if known.nbytes != storage.nbytes:
            raise MalformedFileError(self.path, f"the storage {name!r} has two sizes")
        if known.dtype != storage.dtype:
            # torch gives all of them the first.
            raise MalformedFileError(self.path, f"the storage {name!r} has two dtypes")
        return storage

    def _refuse(self, key: str) -> NoReturn:
        raise MalformedFileError(self.path, f"the tensor {key!r} is not what torch writes")

    def note_storage(self, name: str, record: Persistent) -> None:
        """Collect a storage that no tensor has been met of."""
        parts = record.id
        if not isinstance(parts, tuple) or not parts:
            return
        # A tag that is not a text may still be one for torch, as bytes are.
        if parts[0] == "storage" or not isinstance(parts[0], str):
            self.storage(name, record)


_Layout = tuple[tuple[int, ...], tuple[int, ...] | None, int, int]
"""Shape; strides, or None where elements lie without gap in row-major order; the number of
elements; how many lie from the first to the last."""


def _numel(dims: Sequence[int]) -> int | None:
    """Return the number of elements; None where no 64 bits count those of the other dims."""
    numel = 1
    for dim in dims:
        numel *= dim or 1
        if numel >= 2**63:
            return None
    return 0 if 0 in dims else numel


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
