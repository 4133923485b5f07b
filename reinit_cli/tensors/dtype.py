"""Describe the dtypes of checkpoints without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reinit_cli.errors import UnknownNameError

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

FLOATS = tuple(dtype for dtype in _ALL if dtype.kind == "float")


def dtype_named(name: str) -> Dtype:
    """Return the dtype of that name.

    Raises:
        UnknownNameError: none has it.
    """
    found = DTYPES.get(name.removeprefix("torch."))
    if found is None:
        raise UnknownNameError(name, known=DTYPES, kind="dtype")
    return found


def itemsize_of(dtype: str) -> int:
    """Return the bytes of one element of a dtype that can be filled, by its name."""
    return DTYPES[dtype].nbits // 8
