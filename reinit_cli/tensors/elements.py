"""Hold elements of tensors in arrays of numpy, which knows fewer dtypes than torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.tensors.dtype import DTYPES, MOVED

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]
else:
    np = LazyModule("numpy")
    Array = Any

_UNKNOWN_TO_NUMPY = frozenset({"bfloat16", "complex32"})


def stored_dtype(dtype: str) -> np.dtype[Any]:
    """Return the dtype of arrays that hold a dtype, which is named as torch names it.

    Floats of 8 bits, bfloat16, complex32 and what is only moved are held as unsigned integers
    of their size.
    """
    import numpy as np

    if dtype in MOVED:
        return np.dtype("u1")
    known = DTYPES[dtype]
    if dtype in _UNKNOWN_TO_NUMPY or (known.kind == "float" and known.nbits == 8):
        return np.dtype(f"<u{known.nbits // 8}")
    return np.dtype(dtype).newbyteorder("<")


@dataclass(frozen=True, slots=True, eq=False)
class Elements:
    """Some elements of a tensor, as they are stored.

    Attributes:
        array: of any shape, in the `stored_dtype` of their dtype.
        dtype: torch's name of their dtype.
    """

    array: Array
    dtype: str

    @property
    def numel(self) -> int:
        """How many there are."""
        return self.array.size

    @property
    def nbytes(self) -> int:
        """Their bytes."""
        return self.array.nbytes

    @property
    def flat(self) -> Elements:
        """The same in one dimension, in row-major order."""
        return Elements(self.array.reshape(-1), self.dtype)
