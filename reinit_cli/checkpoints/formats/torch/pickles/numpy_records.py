"""Read the NumPy arrays and numbers that pickle records stand for.

An array is a call of `_reconstruct` whose state holds its shape, its dtype, its order and its
bytes, or since protocol 5 a call of `_frombuffer` with the same. NumPy 2 moved both from
`numpy.core` to `numpy._core`. Protocol 2, which torch writes, has no bytes: they are a text, one
character for each, and UTF-8 in the file; so nothing can be filled there.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from reinit_cli.checkpoints.formats.torch.pickles.records import Global, Instance, Long

_CORES = ("numpy.core", "numpy._core")

_ARRAYS = frozenset(f"{core}.multiarray" for core in _CORES)

_BUFFERS = frozenset(f"{core}.numeric" for core in _CORES)

_DTYPES = {
    "b1": "bool",
    **{f"i{size}": f"int{8 * size}" for size in (1, 2, 4, 8)},
    **{f"u{size}": f"uint{8 * size}" for size in (1, 2, 4, 8)},
    **{f"f{size}": f"float{8 * size}" for size in (2, 4, 8, 16)},
    **{f"c{size}": f"complex{8 * size}" for size in (8, 16, 32)},
}
"""What NumPy's codes of kind and size are in torch's words."""

_FORMATS = {
    "b1": "?",
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
    "f2": "e",
    "f4": "f",
    "f8": "d",
}

_KINDS = {
    "O": "object",
    "S": "bytes",
    "a": "bytes",
    "U": "str",
    "V": "void",
    "M": "datetime64",
    "m": "timedelta64",
}

PLAIN_ARRAY = "a NumPy array"

_MOST_DIMS = 64
"""NumPy has no more."""


class Kind(NamedTuple):
    """A dtype of NumPy.

    Attributes:
        code: its kind and its size, as "f4".
        name: what torch or else NumPy calls it.
        nbytes: those of an element; 0 of objects, which have no bytes of their own.
        is_big: whether its most significant byte comes first.
    """

    code: str
    name: str
    nbytes: int
    is_big: bool


class Array(NamedTuple):
    """An array of NumPy.

    Attributes:
        dtype: torch's name of its elements, or NumPy's where torch has none.
        shape: its dimensions.
        nbytes: its bytes.
        remark: why it can only be copied.
    """

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    remark: str


def array_of(record: Instance) -> Array | None:
    """Return what is known of an array of NumPy; None of anything else."""
    function = record.function
    if not isinstance(function, Global):
        return None
    if function.name == "_reconstruct" and function.module in _ARRAYS:
        return _reconstructed(record)
    if function.name == "_frombuffer" and function.module in _BUFFERS:
        return _from_buffer(record)
    return None


def _reconstructed(record: Instance) -> Array | None:
    if len(record.state) != 1 or not isinstance(record.state[0], tuple):
        return None
    state = record.state[0][-4:]  # the first of five is a version
    if len(state) < 4 or not record.args or not isinstance(record.args[0], Global):
        return None
    shape, dtype, is_fortran, data = state
    kind = _kind_of(dtype)
    if kind is None or not _fits(shape, kind, data):
        return None
    owner = str(record.args[0])
    subclass = "" if owner == "numpy.ndarray" else f" ({owner})"
    return _array(shape, kind, subclass, is_fortran=bool(is_fortran))


def _from_buffer(record: Instance) -> Array | None:
    if len(record.args) != 4 or record.state:
        return None
    data, dtype, shape, order = record.args
    kind = _kind_of(dtype)
    if kind is None or not _fits(shape, kind, data):
        return None
    return _array(shape, kind, "", is_fortran=order == "F")


def _array(shape: tuple[int, ...], kind: Kind, subclass: str, *, is_fortran: bool) -> Array:
    remark = PLAIN_ARRAY + subclass
    if kind.name == "object":
        remark += " of objects"
    elif kind.is_big:
        remark += " of big-endian numbers"
    elif is_fortran and len(shape) > 1:
        remark += " in Fortran order"
    return Array(kind.name, tuple(shape), prod(shape) * kind.nbytes, remark)


def _kind_of(record: Any) -> Kind | None:
    """Return the dtype that a record stands for."""
    if not isinstance(record, Instance) or not record.calls("numpy", "dtype") or not record.args:
        return None
    named = record.args[0]
    order = _order_of(record.state)
    if isinstance(named, Global):  # of ml_dtypes, such as bfloat16
        nbytes = _EXTENSIONS.get(named.name, 0)
        return Kind(named.name, named.name, nbytes, order == ">") if nbytes else None
    if not isinstance(named, str) or len(named) > _LONGEST_CODE:
        return None
    code = named.lstrip("<>|=")
    if code[:1] in _KINDS:
        is_sized = code[0] in "SaV" and code[1:].isascii() and code[1:].isdecimal()
        return Kind(code, _KINDS[code[0]], int(code[1:]) if is_sized else 0, order == ">")
    name = _DTYPES.get(code)
    is_big = order == ">" or named[0] == ">"
    return Kind(code, name, int(code[1:]), is_big) if name else None


_EXTENSIONS = {
    "bfloat16": 2,
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"), 1),
}

_LONGEST_CODE = 12


def _order_of(states: Sequence[Any]) -> str:
    state = states[-1] if states else ()
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else ""
    return order if isinstance(order, str) else ""


def _fits(shape: Any, kind: Kind, data: Any) -> bool:
    """Whether there may be as many bytes as a shape says."""
    if not isinstance(shape, tuple) or len(shape) > _MOST_DIMS:
        return False
    if not all(type(dim) is int and 0 <= dim < 2**63 for dim in shape):
        return False
    nbytes = prod(shape) * kind.nbytes
    if nbytes >= 2**63:
        return False
    least, most = _nbytes_of(data)
    return not kind.nbytes or least <= nbytes <= most


def _nbytes_of(data: Any) -> tuple[int, int]:
    """Return how many bytes there are at least, and at most."""
    if isinstance(data, Instance) and data.calls("_codecs", "encode") and data.args:
        text = data.args[0]
        if isinstance(text, Long):  # half of the characters may take two bytes of UTF-8
            return text.nbytes // 2, text.nbytes
        return (len(text), len(text)) if isinstance(text, str) else (0, 0)
    if isinstance(data, str):  # bytes of Python 2 that are UTF-8 by chance
        return len(data), 4 * len(data)
    if isinstance(data, Long):
        return data.nbytes, data.nbytes
    return (len(data), len(data)) if isinstance(data, bytes) else (0, 0)


def number_of(record: Any) -> tuple[str, bool | int | float] | None:
    """Return the dtype and the value of a number of NumPy; None of anything else."""
    if not isinstance(record, Instance) or not _is_scalar(record) or len(record.args) != 2:
        return None
    kind = _kind_of(record.args[0])
    data = record.args[1]
    if isinstance(data, Instance) and data.calls("_codecs", "encode") and data.args:
        data = data.args[0]
        data = data.encode("latin-1", "replace") if isinstance(data, str) else data
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    if kind is None or kind.code not in _FORMATS or not isinstance(data, bytes):
        return None
    if len(data) != kind.nbytes:
        return None
    (value,) = struct.unpack((">" if kind.is_big else "<") + _FORMATS[kind.code], data)
    return kind.name, value


def _is_scalar(record: Instance) -> bool:
    function = record.function
    return isinstance(function, Global) and function.name == "scalar" and function.module in _ARRAYS
