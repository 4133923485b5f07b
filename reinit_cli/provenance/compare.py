"""Compare what would be written with the files that are there."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Self

from reinit_cli.checkpoints.formats.base import RECORD_NAME
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Range
from reinit_cli.storage.writer import Writer, nothing
from reinit_cli.tensors.elements import Array, Elements, stored_dtype
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.rounding import numbers
from reinit_cli.text import plural

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_MOST_ULPS = 2**16
"""The largest distance that is reported: between values of two signs, say, it means nothing."""


@dataclass(frozen=True, slots=True)
class Gap:
    """How far values are from those that were drawn again.

    Attributes:
        changed: how many values differ.
        max_abs: the largest difference; infinite if one of the values is not finite.
        max_ulps: the same in units in the last place of the dtype; None if it has none.
    """

    changed: int
    max_abs: float
    max_ulps: int | None

    def __add__(self, other: Gap) -> Gap:
        """Return that of both together."""
        known = [each for each in (self.max_ulps, other.max_ulps) if each is not None]
        return Gap(
            self.changed + other.changed,
            max(self.max_abs, other.max_abs),
            max(known) if known else None,
        )

    def __str__(self) -> str:
        """Say it in a few words."""
        is_near = self.max_ulps is not None and self.max_ulps <= _MOST_ULPS
        ulps = f", {self.max_ulps:,} ulp" if is_near else ""
        values = f"{plural(self.changed, 'value')} {'differs' if self.changed == 1 else 'differ'}"
        return f"{values} (max difference {self.max_abs:.3g}{ulps})"


class ComparingOutput:
    """Compares the files of an output, instead of writing them; see `Output`."""

    written: Sequence[str] = ()

    def __init__(
        self,
        files: Mapping[str, Reader],
        places: Mapping[str, Sequence[tuple[Range, TensorInfo]]],
    ) -> None:
        self._files = {name: file for name, file in files.items() if name != RECORD_NAME}
        self._places = places
        self.comparers: dict[str, Comparer] = {}
        self.unlike: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        """Nothing was written."""

    def file(self, name: str, nbytes: int) -> Writer:
        """Return what compares a file."""
        file = self._files.get(name)
        if file is None or file.nbytes != nbytes:
            self.unlike += [name] if name != RECORD_NAME else []
            return Nowhere()
        self.comparers[name] = Comparer(file, self._places.get(name, ()))
        return self.comparers[name]

    def file_at(self, destination: Destination, nbytes: int) -> Writer:
        """Return what takes a file elsewhere, which is not compared."""
        del destination, nbytes
        return Nowhere()

    def commit(self, check: Callable[[], object] = nothing) -> None:
        """Note the files that would not have been written."""
        check()
        self.unlike += self._files.keys() - self.comparers.keys() - set(self.unlike)


class Nowhere:
    """Takes everything and keeps nothing."""

    is_seekable = True

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Take it."""

    def copy_from(self, reader: Reader, start: int, offset: int, nbytes: int) -> int:
        """Take it, without a look."""
        del reader, start, offset
        return nbytes

    def clone(self, reader: Reader) -> bool:
        """Share nothing."""
        del reader
        return False

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return zeros: nothing is kept."""
        del offset
        return bytes(nbytes)

    def close(self) -> None:
        """Do nothing."""


class Comparer:
    """Compares what is written with what a file holds."""

    is_seekable = True

    def __init__(self, file: Reader, tensors: Sequence[tuple[Range, TensorInfo]]) -> None:
        """Compare with a file.

        Args:
            file: the file.
            tensors: where its tensors lie.
        """
        self.file = file
        self.gaps: dict[str, Gap] = {}
        self.other: int | None = None
        self._places = sorted(tensors, key=lambda each: each[0])
        self._starts = [span[0] for span, _ in self._places]
        self._lock = threading.Lock()

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Compare these bytes."""
        there = self.file.read(offset, len(data))
        written = bytes(data)
        if there == written:
            return
        with self._lock:
            self._note(offset, there, written)

    def _note(self, offset: int, there: bytes, written: bytes) -> None:
        """Note for each tensor how far it is, and the first other byte that differs."""
        end = offset + len(written)
        reached = offset
        at = max(0, bisect_right(self._starts, offset) - 1)
        for (start, stop), tensor in self._places[at:]:
            if start >= end:
                break
            first, last = max(start, offset), min(stop, end)
            if first >= last:
                continue
            self._note_other(reached, first, offset, there, written)
            # A piece may end within an element, which the next piece then reports.
            gap = _gap(
                there[first - offset : last - offset],
                written[first - offset : last - offset],
                tensor,
            )
            if gap is not None:
                known = self.gaps.get(tensor.key)
                self.gaps[tensor.key] = known + gap if known else gap
            reached = last
        self._note_other(reached, end, offset, there, written)

    def _note_other(self, first: int, last: int, offset: int, there: bytes, written: bytes) -> None:
        mine, theirs = (
            there[first - offset : last - offset],
            written[first - offset : last - offset],
        )
        if mine != theirs and self.other is None:
            self.other = first + next(
                at for at, (one, two) in enumerate(zip(mine, theirs, strict=True)) if one != two
            )

    def copy_from(self, reader: Reader, start: int, offset: int, nbytes: int) -> int:
        """Copy nothing: every byte is looked at."""
        del reader, start, offset, nbytes
        return 0

    def clone(self, reader: Reader) -> bool:
        """Share nothing: every byte is looked at."""
        del reader
        return False

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return what the file holds."""
        return self.file.read(offset, nbytes)

    def close(self) -> None:
        """Do nothing: all of it has been compared."""


# --- how far ---------------------------------------------------------------------------------


def _gap(there: bytes, drawn: bytes, tensor: TensorInfo) -> Gap | None:
    """Return how far the bytes of some elements are from others; None where they are equal."""
    if there == drawn:
        return None
    dtype = tensor.fillable_dtype
    itemsize = dtype.nbits // 8 if dtype is not None else 1
    if dtype is None or len(there) % itemsize:
        return Gap(sum(one != two for one, two in zip(there, drawn, strict=True)), 0.0, None)
    stored = [np.frombuffer(each, stored_dtype(dtype.name)) for each in (there, drawn)]
    bits = [np.frombuffer(each, np.uint8).reshape(-1, itemsize) for each in (there, drawn)]
    changed = int(np.count_nonzero((bits[0] != bits[1]).any(axis=1)))
    a, b = (_wide(numbers(Elements(each, dtype.name))) for each in stored)
    with np.errstate(all="ignore"):
        apart = np.abs(a - b)
    apart[np.isnan(apart)] = np.inf
    ulps = _most_ulps(*stored) if dtype.kind == "float" else None
    return Gap(changed, float(apart.max()), ulps)


def _wide(values: Array) -> Array:
    """Return numbers in float64; real and imaginary parts in turn."""
    if values.dtype.kind == "c":
        return values.astype(np.complex128).view(np.float64)
    return values.astype(np.float64)


def _most_ulps(one: Array, two: Array) -> int:
    """Return how many floats two floats are apart at most."""
    a, b = _ordered(one), _ordered(two)
    # Of two signs they may be further apart than an int64 can say.
    return int(np.where(a > b, a - b, b - a).view(np.uint64).max())


def _ordered(floats: Array) -> Array:
    """Return the bits of floats as integers in the order of the floats, one ulp apart."""
    bits = floats.view(f"<i{floats.itemsize}")
    wide = bits.astype(np.int64)
    return np.where(wide < 0, np.iinfo(bits.dtype).min - wide, wide)
