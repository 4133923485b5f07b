"""Describe the dtypes of checkpoints without importing torch."""

from __future__ import annotations

import re
from typing import Literal

from reinit_cli.errors import UnknownNameError
from reinit_cli.lazy import dataclass

Kind = Literal["float", "integer", "bool", "complex", "packed"]


@dataclass(frozen=True, slots=True)
class Dtype:
    """One dtype.

    Attributes:
        name: torch's name without "torch.".
        nbits: bits of one element.
        kind: "packed" is carried and never filled.
        largest: the largest finite value of a float or integer dtype.
        smallest: the smallest value; -largest for floats.
        has_infinity: whether it has infinities; where it has none they would become NaN.
    """

    name: str
    nbits: int
    kind: Kind
    largest: float = 0
    smallest: float = 0
    has_infinity: bool = False


def _float(name: str, nbits: int, largest: float, *, has_infinity: bool = True) -> Dtype:
    return Dtype(name, nbits, "float", largest, -largest, has_infinity)


def _integer(nbits: int, *, signed: bool) -> Dtype:
    if signed:
        return Dtype(f"int{nbits}", nbits, "integer", 2 ** (nbits - 1) - 1, -(2 ** (nbits - 1)))
    return Dtype(f"uint{nbits}", nbits, "integer", 2**nbits - 1, 0)


FLOAT64_MAX = (2 - 2**-52) * 2.0**1023
FLOAT32_MAX = (2 - 2**-23) * 2.0**127

_ALL = (
    _float("float64", 64, FLOAT64_MAX),
    _float("float32", 32, FLOAT32_MAX),
    _float("float16", 16, 65504.0),
    _float("bfloat16", 16, (2 - 2**-7) * 2.0**127),
    _float("float8_e4m3fn", 8, 448.0, has_infinity=False),
    _float("float8_e5m2", 8, 57344.0),
    _float("float8_e4m3fnuz", 8, 240.0, has_infinity=False),
    _float("float8_e5m2fnuz", 8, 57344.0, has_infinity=False),
    *(_integer(nbits, signed=True) for nbits in (8, 16, 32, 64)),
    *(_integer(nbits, signed=False) for nbits in (8, 16, 32, 64)),
    Dtype("bool", 8, "bool", 1, 0),
    Dtype("complex32", 32, "complex", 65504.0, -65504.0, has_infinity=True),
    Dtype("complex64", 64, "complex", FLOAT32_MAX, -FLOAT32_MAX, has_infinity=True),
    Dtype("complex128", 128, "complex", FLOAT64_MAX, -FLOAT64_MAX, has_infinity=True),
)

DTYPES = {dtype.name: dtype for dtype in _ALL}
"""The dtypes that can be filled. Any other name is carried as it is."""

MOVED = frozenset({"float8_e8m0fnu", "float4_e2m1fn_x2"})
"""Those whose elements are moved, each a byte, and never read as numbers."""

FLOATS = tuple(dtype for dtype in _ALL if dtype.kind == "float")


_SAME = {
    **dict.fromkeys(("float", "single", "fp32", "f32"), "float32"),
    **dict.fromkeys(("half", "fp16", "f16"), "float16"),
    **dict.fromkeys(("bf16", "bfloat"), "bfloat16"),
    **dict.fromkeys(("double", "fp64", "f64"), "float64"),
    **dict.fromkeys(("e4m3", "e4m3fn"), "float8_e4m3fn"),
    "e5m2": "float8_e5m2",
    **{f"f8e{kind}fnuz": f"float8_e{kind}fnuz" for kind in ("4m3", "5m2")},
    **{f"{start}8{kind}": f"float8_{kind}" for start in ("fp", "f") for kind in ("e5m2", "e4m3fn")},
    **dict.fromkeys(("fp8e4m3", "f8e4m3", "float8e4m3"), "float8_e4m3fn"),
    **dict.fromkeys(("long", "i64"), "int64"),
    **dict.fromkeys(("int", "i32"), "int32"),
    **dict.fromkeys(("short", "i16"), "int16"),
    **dict.fromkeys(("char", "i8"), "int8"),
    **dict.fromkeys(("byte", "u8"), "uint8"),
    **{f"u{nbits}": f"uint{nbits}" for nbits in (16, 32, 64)},
    "boolean": "bool",
    **dict.fromkeys(("chalf", "c32"), "complex32"),
    **dict.fromkeys(("cfloat", "complex", "c64"), "complex64"),
    **dict.fromkeys(("cdouble", "c128"), "complex128"),
}
"""Other names with one meaning: torch's aliases, those of safetensors, of cards and of papers."""

_MAYBE = {
    **dict.fromkeys(("fp8", "f8", "float8"), ("float8_e4m3fn", "float8_e5m2")),
    "tf32": ("float32",),
    "16": ("float16", "bfloat16"),
    "32": ("float32",),
    "64": ("float64",),
    "auto": ("bfloat16", "float32"),
}
"""Names of no dtype, and what may be meant."""

_PREFIX = re.compile(r"(?:torch|np|numpy|jnp|tf)\.")


def dtype_named(name: str) -> Dtype:
    """Return the dtype of that name, or the only one that it can mean: `bf16`, `half`, `F32`.

    Raises:
        UnknownNameError: none has it.
    """
    if name in DTYPES:
        return DTYPES[name]
    plain = _PREFIX.sub("", name.strip().strip("\"'").lower(), count=1)
    folded = re.sub(r"[-_ ]", "", plain)
    found = DTYPES.get(_SAME.get(folded, plain)) or _BY_FOLDED.get(folded)
    if found is None:
        raise UnknownNameError(name, known=_MAYBE.get(folded, DTYPES), kind="dtype")
    return found


_BY_FOLDED = {name.replace("_", ""): dtype for name, dtype in DTYPES.items()}


def has_itemsize(dtype: str) -> bool:
    """Whether the elements of a dtype can be told apart, by its name."""
    return dtype in DTYPES or dtype in MOVED


def itemsize_of(dtype: str) -> int:
    """Return the bytes of one element of a dtype that can be filled or moved, by its name."""
    return 1 if dtype in MOVED else DTYPES[dtype].nbits // 8
