"""Print tensors as torch prints them, without torch, from no more than what it prints."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol

from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.storage.segments import Range, View
from reinit_cli.tensors.blocks import gathered
from reinit_cli.tensors.convert import boxed
from reinit_cli.tensors.elements import Array, Elements, stored_dtype
from reinit_cli.tensors.rounding import elements_of_tensor, numbers
from reinit_cli.tensors.slice import selected, without_ones

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
else:
    np = LazyModule("numpy")


@dataclass(frozen=True, slots=True)
class Style:
    """The options with which torch prints, by its names, and their values from the start.

    Attributes:
        precision: digits of a fraction.
        threshold: the most elements of which none is left out.
        edgeitems: how many elements are shown at each end of a dimension where some are left out.
        linewidth: characters of a line.
        sci_mode: whether numbers have exponents; None where their range decides.
        default_dtype: the dtype of floats that is not named.
    """

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None
    default_dtype: str = "float32"

    @classmethod
    def of_process(cls) -> Style:
        """Return what was set in torch, where this process has imported it."""
        if "torch" not in sys.modules:
            return cls()
        import torch
        from torch._tensor_str import get_printoptions

        named = str(torch.get_default_dtype()).removeprefix("torch.")
        return cls(**get_printoptions(), default_dtype=named)

    @property
    def abridged(self) -> Style:
        """The same, with elements left out of every tensor that has room for that."""
        return replace(self, threshold=0)

    @property
    def full(self) -> Style:
        """The same, with no element left out."""
        return replace(self, threshold=math.inf)

    def within(self, columns: int | None) -> Style:
        """Return it with lines of at most so many columns, where they are fewer than its own."""
        if columns is None:
            return self
        # It counts no brackets, which it writes at the end of a line.
        return replace(self, linewidth=min(self.linewidth, columns - _BRACKETS))

    def abridges(self, shape: tuple[int, ...]) -> bool:
        """Whether elements of a tensor are left out."""
        return math.prod(shape) > self.threshold


_BRACKETS = 8


def printed(elements: Elements, shape: tuple[int, ...], style: Style) -> str:
    """Return a tensor as torch prints it.

    Args:
        elements: its elements in row-major order.
        shape: its shape, which may have more dimensions than arrays of numpy can have.
        style: torch's options.
    """
    start, dtype = "tensor(", elements.dtype
    if elements.numel:
        text = _values(numbers(elements.flat), shape, style, len(start))
        is_usual = dtype in _usual_dtypes(style)
        has_size = not style.edgeitems
    else:
        text = "[]"
        is_usual = dtype == style.default_dtype
        has_size = len(shape) != 1
    suffixes = [f"size={shape}"] if has_size else []
    suffixes += [] if is_usual else [f"dtype=torch.{dtype}"]
    return _with_suffixes(start + text, suffixes, style, len(start))


def _usual_dtypes(style: Style) -> tuple[str, ...]:
    """Return the dtypes that need no name where there are elements."""
    of_complex = "complex128" if style.default_dtype == "float64" else "complex64"
    return style.default_dtype, of_complex, "int64", "bool"


def _with_suffixes(text: str, suffixes: Sequence[str], style: Style, indent: int) -> str:
    """Return a text with what follows the values, each on a new line where it does not fit."""
    length = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if length + len(suffix) + 2 > style.linewidth:
            text += ",\n" + " " * indent + suffix
            length = indent + len(suffix)
        else:
            text += f", {suffix}"
            length += len(suffix) + 2
    return text + ")"


def _values(values: Array, shape: tuple[int, ...], style: Style, indent: int) -> str:
    is_abridged = style.abridges(shape)
    shown = _shown(values, shape, style.edgeitems) if is_abridged else values
    cells: _Cells
    if values.dtype.kind == "c":
        cells = _Complex(_Column.of(shown.real, style), _Column.of(shown.imag, style))
    else:
        cells = _Column.of(shown, style)
    kept = style.edgeitems if is_abridged else None
    return _Page(cells, kept, style.linewidth).text(values, shape, indent)


def _shown(values: Array, shape: tuple[int, ...], edge: int) -> Array:
    """Return the elements that are not left out, which decide how all are written."""
    if not edge:  # Torch leaves out all elements then, but looks at those of a vector.
        return values if len(shape) == 1 else values[:0]
    after = 1
    for dim in reversed(shape):
        if dim > 2 * edge:
            parts = values.reshape(-1, dim, after)
            values = np.concatenate((parts[:, :edge], parts[:, -edge:]), axis=1).reshape(-1)
        after *= min(dim, 2 * edge)
    return values


class _Cells(Protocol):
    """Writes elements."""

    @property
    def width(self) -> int:
        """The characters of an element, of which some lines have room for more than others."""

    def text(self, value: Any) -> str:
        """Return an element as text."""


@dataclass(frozen=True, slots=True)
class _Column:
    """Writes elements in the same way and with the same width.

    Attributes:
        form: how they are written.
        width: the characters of each.
        ends: what follows numbers that are finite.
    """

    form: str
    width: int = 1
    ends: str = ""

    @classmethod
    def of(cls, values: Array, style: Style) -> _Column:
        """Return the way in which torch would write elements."""
        if values.dtype.kind != "f":
            limits = [values.min().item(), values.max().item()] if values.size else []
            return cls("", max([1, *(len(str(each)) for each in limits)]))
        finite = values[np.isfinite(values) & (values != 0)]
        if not finite.size:
            return cls(".0f", ends=".")
        are_whole = bool((finite == np.ceil(finite)).all())
        has_exponents = _has_exponents(finite) if style.sci_mode is None else style.sci_mode
        if has_exponents or not are_whole:
            found = cls(f".{style.precision}{'e' if has_exponents else 'f'}")
        else:
            found = cls(".0f", ends=".")
        return replace(found, width=max(map(len, map(found.bare, _extremes(finite)))))

    def bare(self, value: float) -> str:
        """Return an element without spaces in front of it."""
        text = format(value, self.form)
        return text + self.ends if self.ends and math.isfinite(value) else text

    def text(self, value: float) -> str:
        """Return an element."""
        return self.bare(value).rjust(self.width)


def _has_exponents(values: Array) -> bool:
    """Whether torch writes numbers, none of which is zero, with exponents."""
    sizes = abs(values)
    least, most = float(sizes.min()), float(sizes.max())
    return most / least > 1000.0 or most > 1.0e8 or least < 1.0e-4


def _extremes(values: Array) -> list[float]:
    """Return the elements of which one is the longest, however they are written."""
    parts = (values[values < 0], values[values > 0])
    return [each.item() for part in parts if part.size for each in (part.min(), part.max())]


@dataclass(frozen=True, slots=True)
class _Complex:
    """Writes complex elements."""

    real: _Column
    imaginary: _Column

    @property
    def width(self) -> int:
        """The characters of an element as torch counts them, without the sign between."""
        return self.real.width + self.imaginary.width + 1

    def text(self, value: complex) -> str:
        """Return an element."""
        imaginary = f"{self.imaginary.text(value.imag)}j".lstrip()
        sign = "" if imaginary[0] in "+-" else "+"
        return f"{self.real.text(value.real)}{sign}{imaginary}"


@dataclass(frozen=True, slots=True)
class _Page:
    """Puts elements into lines and brackets.

    Attributes:
        cells: writes an element.
        kept: how many are shown at each end of a dimension; None to show all.
        linewidth: the characters of a line.
    """

    cells: _Cells
    kept: int | None
    linewidth: int

    def text(self, values: Array, shape: tuple[int, ...], indent: int) -> str:
        """Return elements in row-major order as a tensor of that shape.

        Args:
            values: the elements.
            shape: the shape.
            indent: the column in which they start.
        """
        if not shape:
            return self.cells.text(values.item())
        if len(shape) == 1:
            return self._vector(values, indent)
        between = "," + "\n" * (len(shape) - 1) + " " * (indent + 1)
        return f"[{between.join(self._parts(values, shape, indent + 1))}]"

    def _vector(self, values: Array, indent: int) -> str:
        texts = self._texts(values)
        count = max(1, (self.linewidth - indent) // (self.cells.width + 2))
        lines = (", ".join(texts[at : at + count]) for at in range(0, len(texts), count))
        between = ",\n" + " " * (indent + 1)
        return f"[{between.join(lines)}]"

    def _texts(self, vector: Array) -> list[str]:
        """Return the elements of a vector."""
        write, kept = self.cells.text, self.kept
        if kept is None or len(vector) <= 2 * kept:
            return [*map(write, vector.tolist())]
        if not kept:
            return ["..."]
        first, last = vector[:kept].tolist(), vector[-kept:].tolist()
        return [*map(write, first), " ...", *map(write, last)]

    def _parts(self, values: Array, shape: tuple[int, ...], indent: int) -> Iterator[str]:
        """Yield the parts of a tensor along its first dimension."""
        kept, dim = self.kept, shape[0]
        parts = values.reshape(dim, -1)
        if kept is None or dim <= 2 * kept:
            yield from (self.text(part, shape[1:], indent) for part in parts)
            return
        yield from (self.text(part, shape[1:], indent) for part in parts[:kept])
        yield "..."
        yield from (self.text(part, shape[1:], indent) for part in parts[dim - kept :])


def printed_tensor(tensor: Tensor, style: Style) -> str:
    """Return a tensor in main memory as torch prints it."""
    return printed(elements_of_tensor(tensor.reshape(-1)), tuple(tensor.shape), style)


def edges_of(view: View, style: Style) -> tuple[Elements, tuple[int, ...]]:
    """Return what is printed of a tensor: its first and its last elements in each dimension.

    One element stands for all that are left out between them, so that there are seen to be some.

    Returns:
        The elements, and their shape with its dimensions of one.
    """
    narrow = without_ones(view)
    spans = [_kept(dim, style.edgeitems) for dim in narrow.shape]
    edges = np.zeros(
        [max(stop for _, (_, stop) in kept) for kept in spans], stored_dtype(view.dtype)
    )
    for chosen in product(*spans):
        part = selected(narrow, tuple(range(*there) for there, _ in chosen))
        there = gathered(part).array.reshape(part.shape)
        boxed(edges, tuple(here for _, here in chosen))[...] = there
    dims = iter(edges.shape)
    return Elements(edges, view.dtype).flat, tuple(
        1 if dim == 1 else next(dims) for dim in view.shape
    )


def _kept(dim: int, count: int) -> list[tuple[Range, Range]]:
    """Return which elements of a dimension are printed, and where they are put."""
    if dim <= 2 * count:
        return [((0, dim), (0, dim))]
    return [((0, count), (0, count)), ((dim - count, dim), (count + 1, 2 * count + 1))]
