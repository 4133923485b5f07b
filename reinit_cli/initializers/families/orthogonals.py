"""Orthogonal matrices and convolutions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, Annotated, ClassVar

from reinit_cli.initializers.blocks import Filler, Take, nothing, pieces
from reinit_cli.initializers.families.identities import center_of
from reinit_cli.initializers.fans import Layout, UndefinedError, fans_by_axes, need_ndim
from reinit_cli.initializers.gains import check_gain, gain_of
from reinit_cli.initializers.householder import is_quick, orthonormalize
from reinit_cli.initializers.law import Constant, Dtype, Law, Normal, Statistic
from reinit_cli.initializers.parameters import AnyGain, Axes, Slope
from reinit_cli.initializers.parts import Blocks
from reinit_cli.initializers.registry import register
from reinit_cli.initializers.site import Site
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array, Chance
from reinit_cli.streams.normals import normal_mass
from reinit_cli.streams.torch.groups import normal_words
from reinit_cli.tensors.moments import BLOCK_NUMEL
from reinit_cli.tensors.portions import Portions

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_COLUMNS_OF_LAPACK = 64
"""The block of columns for which LAPACK takes working memory of its own."""

_GRAM_ROWS = 256
"""The number of rows that are multiplied by all others together."""


@dataclass(frozen=True, slots=True)
class Orthogonal(Law):
    """A random matrix of rows × cols whose shorter side is orthonormal, times `gain`.

    Attributes:
        rows: those of the matrix.
        cols: those of the matrix.
        gain: its factor.
        version: 1 factors in the dtype that is drawn, and its last bits depend on the BLAS;
            2 factors in float64 and rounds once.
    """

    rows: int
    cols: int
    gain: float
    version: int = 2
    mean = 0.0
    # The identity fixes the std, and a Kolmogorov-Smirnov test needs independent elements.
    statistics: ClassVar[tuple[Statistic, ...]] = ("mean",)
    identity = "orthogonality"

    @property
    def std(self) -> float:
        """Gain / √max(rows, cols): the Frobenius norm is gain·√min(rows, cols)."""
        return abs(self.gain) / math.sqrt(max(self.rows, self.cols))

    @property
    def low(self) -> float:
        """-|gain|: no entry of an orthonormal vector exceeds 1."""
        return -abs(self.gain)

    @property
    def high(self) -> float:
        """|gain|."""
        return abs(self.gain)

    @property
    def spread(self) -> float:
        """Its standard deviation: the sum of a rotation is a coordinate of a random direction."""
        return self.std

    def cdf(self, x: float) -> float:
        """Approximately that of a normal."""
        return normal_mass(-math.inf, x / self.std) if self.std else float(x >= 0)

    @property
    def library(self) -> str:
        """LAPACK, which factors all but small matrices."""
        return "" if is_quick(self.rows, self.cols) else "LAPACK"

    def misfit(self, values: Array) -> tuple[float, float]:
        """Return the largest element of W·Wᵀ / gain² − I, W the shorter side first."""
        import torch

        matrix = values.reshape(self.rows, self.cols)
        if not self.gain:
            return float(np.count_nonzero(matrix)), 0.0
        matrix = (matrix if self.rows <= self.cols else matrix.T) / values.dtype.type(self.gain)
        worst = 0.0
        for at, rows in zip(count(0, _GRAM_ROWS), pieces(matrix, _GRAM_ROWS), strict=False):
            gram = (torch.from_numpy(rows) @ torch.from_numpy(matrix).t()).numpy()
            np.fill_diagonal(gram[:, at:], gram.diagonal(at) - 1)
            worst = max(worst, float(np.nan_to_num(np.abs(gram), nan=math.inf).max()))
        epsilon = float(np.finfo(values.dtype).eps)
        return worst, 16 * epsilon * (1 + math.sqrt(max(self.rows, self.cols)))

    def fill(self, values: Array, chance: Chance) -> None:
        """Fill as `torch.nn.init.orthogonal_` does, but factor in float64 and round once."""
        chance.normal(values, 0.0, 1.0)
        drawn = values.reshape(self.rows, self.cols)
        tall = drawn.T if self.rows < self.cols else drawn
        matrix = self._matrix(values.dtype)
        matrix[...] = tall
        self._factor(matrix, chance)
        tall[...] = matrix

    def filler(self, shape: tuple[int, ...], dtype: Dtype, chance: Chance) -> Filler:
        """Return what fills runs from the one matrix that is held."""
        del shape
        return _Factored(self, dtype, chance).fill

    def blocks(
        self, shape: tuple[int, ...], dtype: Dtype, chance: Chance, take: Take = nothing
    ) -> Iterator[Array]:
        """Yield what `fill` writes, factored in place in the one matrix that is held."""
        del shape, take
        numel = self.rows * self.cols
        matrix = self._matrix(dtype)
        # In the order of the draw: all elements where that is the matrix's own, otherwise rows.
        drawn = matrix.T.reshape(-1) if self.rows < self.cols else matrix
        at_once = BLOCK_NUMEL // (numel // len(drawn)) or 1
        normals = Portions(Normal(0.0, 1.0).blocks((numel,), dtype, chance))
        for some in pieces(drawn, at_once):
            block = np.empty(some.shape, dtype)
            normals.take_into(block.reshape(-1))
            some[...] = block
        self._factor(matrix, chance)
        for some in pieces(drawn, at_once):
            yield some.astype(dtype, order="C").reshape(-1)

    def _matrix(self, dtype: Dtype) -> Array:
        """Return an empty matrix of (longer, shorter), column by column, as LAPACK has it."""
        held = np.float64 if self.version > 1 else dtype
        return np.empty((min(self.rows, self.cols), max(self.rows, self.cols)), held).T

    def made(self, dtype: Dtype, chance: Chance) -> Array:
        """Return the matrix, (rows, cols), before it is rounded."""
        matrix = self._matrix(dtype)
        drawn = matrix.T if self.rows < self.cols else matrix
        for row, some in enumerate(drawn):
            normals = np.empty(self.cols, dtype)
            chance.at(row * self.cols).normal(normals, 0.0, 1.0)
            some[...] = normals
        self._factor(matrix, chance)
        return drawn

    def _factor(self, matrix: Array, chance: Chance) -> None:
        """Replace a matrix of (longer, shorter) by its orthonormal columns, times the gain."""
        if chance.is_indexed and is_quick(self.rows, self.cols):
            orthonormalize(matrix.T)
            matrix *= self.gain
            return
        device = "cpu" if chance.is_indexed else str(chance.generator().device)
        # Apple's GPUs have no float64.
        self._factor_by_lapack(matrix, "cpu" if device.startswith("mps") else device)

    def _factor_by_lapack(self, matrix: Array, device: str) -> None:
        """Do so in place where it lies column by column.

        These are the steps of `torch.linalg.qr`, which would hold copies of it and of R besides.
        """
        import torch

        whole = torch.from_numpy(matrix.T)
        factored = whole.to(device).t()
        scales = torch.empty(factored.shape[1], dtype=factored.dtype, device=device)
        torch.geqrf(factored, out=(factored, scales))
        # QR is unique up to signs; with a positive diagonal of R, Q is uniform over the
        # orthogonal group (Mezzadri 2007, arXiv:math-ph/0609050).
        signs = factored.diagonal().sign()
        torch.linalg.householder_product(factored, scales, out=factored)
        factored *= signs
        factored *= self.gain
        if device != "cpu":
            whole.copy_(factored.t())

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return what the matrix takes in which it is factored, and some columns for LAPACK."""
        del shape
        held = 8 if self.version > 1 else itemsize
        return held * (self.rows * self.cols + _COLUMNS_OF_LAPACK * min(self.rows, self.cols))

    def filling_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return the same: the matrix is held."""
        return self.working_nbytes(shape, itemsize)

    def words(self, numel: int, itemsize: int) -> int | None:
        """As many as the normals."""
        return normal_words(numel, itemsize)


class _Factored:
    """A draw of an orthogonal matrix, which is made when a part of it is first needed."""

    def __init__(self, law: Orthogonal, dtype: Dtype, chance: Chance) -> None:
        self._law = law
        self._dtype = dtype
        self._chance = chance
        self._lock = Lock()
        self._matrix: Array | None = None

    def fill(self, run: Array, at: int) -> None:
        """Round a run, the first element of which has an index."""
        with self._lock:
            if self._matrix is None:
                self._matrix = self._law.made(self._dtype, self._chance)
        cols = self._law.cols
        rows = self._matrix[at // cols : -(-(at + len(run)) // cols)]
        run[...] = rows.astype(self._dtype, order="C").reshape(-1)[at % cols :][: len(run)]


@dataclass(frozen=True, slots=True)
class DeltaOrthogonal(Law):
    """A convolution that is orthogonal at the kernel's center, and zero elsewhere.

    Attributes:
        shape: (out, in, *kernel), out ≥ in.
        gain: the factor of the orthogonal matrix.
        version: that of the orthogonal matrix.
    """

    shape: tuple[int, ...]
    gain: float
    version: int = 2
    mean = 0.0
    statistics: ClassVar[tuple[Statistic, ...]] = ("mean",)
    identity = "orthogonality"

    @property
    def _tap(self) -> Orthogonal:
        return Orthogonal(self.shape[0], self.shape[1], self.gain, self.version)

    @property
    def library(self) -> str:
        """That of the matrix."""
        return self._tap.library

    @property
    def _field(self) -> int:
        return math.prod(self.shape[2:])

    @property
    def low(self) -> float:
        """-|gain|."""
        return self._tap.low

    @property
    def high(self) -> float:
        """|gain|."""
        return self._tap.high

    @property
    def std(self) -> float:
        """The std of the center among zeros."""
        return self._tap.std / math.sqrt(self._field)

    @property
    def spread(self) -> float:
        """Its standard deviation: the sum is that of the center, a coordinate of a random direction."""
        return self.std

    def cdf(self, x: float) -> float:
        """The distribution of the center, with a step at 0."""
        return (self._tap.cdf(x) + (self._field - 1) * (x >= 0)) / self._field

    def misfit(self, values: Array) -> tuple[float, float]:
        """Return the misfit of the center, plus the number of other elements that are not zero."""
        tap = center_of(values.reshape(self.shape))
        misfit, allowed = self._tap.misfit(np.ascontiguousarray(tap))
        return misfit + float(np.count_nonzero(values) - np.count_nonzero(tap)), allowed

    def fill(self, values: Array, chance: Chance) -> None:
        """Draw the matrix as `orthogonal` does, and write it at the kernel's center."""
        tap = np.empty(self.shape[:2], values.dtype)
        self._tap.fill(tap, chance)
        values[...] = 0
        center_of(values)[...] = tap

    def filler(self, shape: tuple[int, ...], dtype: Dtype, chance: Chance) -> Filler:
        """Return what fills runs: those elements of the matrix that lie there, among zeros."""
        tap = self._tap.filler(shape[:2], dtype, chance)
        center = int(np.ravel_multi_index(tuple(dim // 2 for dim in shape[2:]), shape[2:]))

        def fill(run: Array, at: int) -> None:
            run[...] = 0
            first = max(0, -((center - at) // self._field))
            centers = run[first * self._field + center - at :: self._field]
            taps = np.empty(len(centers), dtype)
            tap(taps, first)
            centers[...] = taps

        return fill

    def blocks(
        self, shape: tuple[int, ...], dtype: Dtype, chance: Chance, take: Take = nothing
    ) -> Iterator[Array]:
        """Yield what `fill` writes: blocks of the matrix among zeros."""
        del take
        for taps in self._tap.blocks(shape[:2], dtype, chance):
            for some in pieces(taps, max(1, BLOCK_NUMEL // self._field)):
                kernels = np.zeros((1, len(some), *shape[2:]), dtype)
                center_of(kernels)[...] = some
                yield kernels.reshape(-1)

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return what the matrix takes."""
        return self._tap.working_nbytes(shape[:2], itemsize)

    def filling_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return the same: the matrix is held."""
        return self.working_nbytes(shape, itemsize)

    def words(self, numel: int, itemsize: int) -> int | None:
        """As many as the matrix."""
        return self._tap.words(numel // self._field, itemsize)


@register(
    purpose="structure",
    law="W·Wᵀ = gain²·I, or Wᵀ·W if rows > cols, where W is (shape[0], the rest); a separate W for "
    "each index of b if axes starts with b",
    example="orthogonal:tanh",
    defined="2 dimensions or more",
    paper="Saxe, McClelland & Ganguli 2013, Exact solutions to the nonlinear dynamics of learning "
    "in deep linear neural networks, arXiv:1312.6120",
    complete=check_gain,
    fans=fans_by_axes,
    version=2,
)
def orthogonal(
    shape: tuple[int, ...],
    site: Site,
    *,
    gain: AnyGain = 1.0,
    a: Slope = None,
    axes: Annotated[str | None, Axes()] = None,
) -> Law:
    """Preserve norms with a random orthogonal matrix.

    With the stream philox-1, a matrix is factored in steps that give the same bits everywhere, if
    rows · columns · the shorter side are at most 512³ and it has up to 2²² elements. A larger one
    is factored by LAPACK in float64, and rounded once: between two libraries, about one element in
    a million differs in its last bit.
    """
    need_ndim(shape, 2)
    count, rows, cols = Layout(axes=axes).matrix(shape)
    if 0 in shape:
        return Constant(0.0)
    law = Orthogonal(rows, cols, gain_of(gain, a), site.version)
    return law if count == 1 else Blocks(law, (count, rows, cols), count)


@register(
    purpose="structure",
    law="Wᵀ·W = gain²·I, where W is (out, in) at the kernel's center; zeros elsewhere",
    example="delta_orthogonal:tanh",
    defined="3 to 5 dimensions; shape[0] ≥ shape[1]",
    paper="Xiao, Bahri, Sohl-Dickstein, Schoenholz & Pennington 2018, Dynamical isometry and a mean "
    "field theory of CNNs, ICML, arXiv:1806.05393",
    complete=check_gain,
    version=2,
)
def delta_orthogonal(
    shape: tuple[int, ...], site: Site, *, gain: AnyGain = 1.0, a: Slope = None
) -> Law:
    """Preserve norms through a convolution.

    The matrix is that of `orthogonal`.
    """
    need_ndim(shape, 3, 5)
    if shape[0] < shape[1]:
        raise UndefinedError(
            f"its {shape[0]} outputs are fewer than its {shape[1]} inputs, so no norm can be kept"
        )
    if 0 in shape:
        return Constant(0.0)
    return DeltaOrthogonal(shape, gain_of(gain, a), site.version)
