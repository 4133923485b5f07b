"""Vectors of one norm, and matrices of one spectral norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Annotated, ClassVar

from reinit_cli.initializers.blocks import Filler, Take, nothing
from reinit_cli.initializers.fans import Layout, UndefinedError, fans_by_axes, need_ndim
from reinit_cli.initializers.law import Constant, Dtype, Law, Statistic
from reinit_cli.initializers.parameters import Axes, Integer, NonNegative, Number, Positive
from reinit_cli.initializers.parts import Blocks
from reinit_cli.initializers.registry import register
from reinit_cli.initializers.site import Site
from reinit_cli.initializers.spectral import spectral_norm
from reinit_cli.initializers.transform import Transform
from reinit_cli.initializers.unit import (
    SUMMED_NUMEL,
    Slabs,
    Vectors,
    factors,
    give_norm,
    multiply,
    vectors_of,
)
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array, Chance
from reinit_cli.streams.normals import normal_mass
from reinit_cli.streams.torch.groups import normal_words
from reinit_cli.tensors.halves import sum_by_halves
from reinit_cli.tensors.moments import BLOCK_NUMEL

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_NGPT = (
    "Loshchilov, Hsieh, Sun & Ginsburg 2024, nGPT: normalized transformer with representation "
    "learning on the hypersphere, arXiv:2410.01131"
)


@dataclass(frozen=True, slots=True)
class OfNorm(Law):
    """Vectors of one norm in random directions: normals, divided by their norm in float64.

    Attributes:
        shape: that of the tensor.
        dim: the dimension each index of which has a vector.
        norm: that of each vector.
    """

    shape: tuple[int, ...]
    dim: int
    norm: float
    mean = 0.0
    statistics: ClassVar[tuple[Statistic, ...]] = ("mean",)
    identity = "norms"

    @property
    def _vectors(self) -> Vectors:
        return vectors_of(self.shape, self.dim)

    @property
    def std(self) -> float:
        """Norm / √length."""
        return self.norm / math.sqrt(self._vectors.length)

    @property
    def low(self) -> float:
        """-norm."""
        return -self.norm

    @property
    def high(self) -> float:
        """The norm."""
        return self.norm

    @property
    def spread(self) -> float:
        """Its standard deviation: the sum of a vector is a coordinate of a random direction."""
        return self.std

    def cdf(self, x: float) -> float:
        """Approximately that of a normal."""
        return normal_mass(-math.inf, x / self.std)

    def misfit(self, values: Array) -> tuple[float, float]:
        """Return the largest relative difference of a norm."""
        moved = np.moveaxis(values.reshape(self.shape), self.dim, 0)
        found = np.sqrt(np.square(moved, dtype=np.float64).reshape(len(moved), -1).sum(axis=1))
        return float(np.abs(found / self.norm - 1).max()), 2 * float(np.finfo(values.dtype).eps)

    def fill(self, values: Array, chance: Chance) -> None:
        """Draw normals, and divide them."""
        chance.normal(values, 0.0, 1.0)
        give_norm(values, self._vectors, self.norm)

    def filler(self, shape: tuple[int, ...], dtype: Dtype, chance: Chance) -> Filler:
        """Return what fills runs: the norms of vectors that lie apart are found first."""
        del shape
        if self._vectors.before == 1:
            return self._filler_of_rows(dtype, chance)
        found, vectors = _Lazily(lambda: self._factors(dtype, chance)), self._vectors

        def fill(run: Array, at: int) -> None:
            chance.at(at).normal(run, 0.0, 1.0)
            multiply(run, at, vectors, found.get())

        return fill

    def _factors(self, dtype: Dtype, chance: Chance) -> Array:
        """Draw everything once, for the factors."""
        slabs, numel = Slabs(self._vectors), math.prod(self.shape)
        for at in range(0, numel, slabs.numel):
            some = np.empty(min(slabs.numel, numel - at), dtype)
            chance.at(at).normal(some, 0.0, 1.0)
            slabs.add(some)
        return slabs.factors(self.norm)

    def _filler_of_rows(self, dtype: Dtype, chance: Chance) -> Filler:
        length = self._vectors.after

        @lru_cache(maxsize=64)
        def factor(row: int) -> float:
            """Return that of a row of which only a part is wanted."""
            total = 0.0
            for start in range(0, length, SUMMED_NUMEL):
                some = np.empty(min(SUMMED_NUMEL, length - start), dtype)
                chance.at(row * length + start).normal(some, 0.0, 1.0)
                total += float(sum_by_halves(np.square(some, dtype=np.float64)))
            return float(factors(np.array([total]), self.norm)[0])

        def fill(run: Array, at: int) -> None:
            chance.at(at).normal(run, 0.0, 1.0)
            reached = 0
            while reached < len(run):
                row, rest = divmod(at + reached, length)
                whole = 0 if rest else min((len(run) - reached) // length, _together(length))
                count = whole * length or min(length - rest, len(run) - reached)
                some = run[reached : reached + count]
                if whole:
                    give_norm(some, Vectors(1, whole, length), self.norm)
                else:
                    some[...] = some * np.float64(factor(row))
                reached += count

        return fill

    def filling_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return what the norms take of vectors that lie apart."""
        del shape, itemsize
        return 0 if self._vectors.before == 1 else 24 * self._vectors.slab

    def words(self, numel: int, itemsize: int) -> int | None:
        """As many as the normals."""
        return normal_words(numel, itemsize)


def _together(length: int) -> int:
    return max(1, SUMMED_NUMEL // length)


class _Lazily:
    """A value that is computed when it is first needed, by one thread."""

    def __init__(self, compute: Callable[[], Array]) -> None:
        self._compute = compute
        self._lock = Lock()
        self._value: Array | None = None

    def get(self) -> Array:
        """Return it."""
        with self._lock:
            if self._value is None:
                self._value = self._compute()
            return self._value


@dataclass(frozen=True)
class Normalized(Transform):
    """Existing vectors, divided by their norm in float64.

    Attributes:
        dim: the dimension each index of which has a vector.
        norm: that of each vector.
    """

    dim: int
    norm: float
    is_sequential = False

    def fill(self, values: Array, chance: Chance) -> None:
        """Divide in place."""
        del chance
        with np.errstate(all="ignore"):
            give_norm(values, vectors_of(values.shape, self.dim), self.norm)

    def blocks(
        self, shape: tuple[int, ...], dtype: Dtype, chance: Chance, take: Take = nothing
    ) -> Iterator[Array]:
        """Yield some rows after the other; vectors that lie apart are read first."""
        vectors = vectors_of(shape, self.dim)
        if vectors.before > 1:
            yield from super().blocks(shape, dtype, chance, take)
            return
        at_once = max(1, BLOCK_NUMEL // max(1, vectors.after))
        for start in range(0, vectors.count, at_once):
            rows = np.empty((min(at_once, vectors.count - start), vectors.after), dtype)
            take(rows.reshape(-1))
            with np.errstate(all="ignore"):
                give_norm(rows, Vectors(1, *rows.shape), self.norm)
            yield rows.reshape(-1)

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return what a row takes, or the tensor where vectors lie apart."""
        vectors = vectors_of(shape, self.dim)
        return (vectors.after if vectors.before == 1 else math.prod(shape)) * itemsize


@dataclass(frozen=True, slots=True)
class OfSpectralNorm(Law):
    """A matrix of normals, scaled to a spectral norm.

    Attributes:
        rows: those of the matrix.
        cols: those of the matrix.
        norm: its largest singular value.
    """

    rows: int
    cols: int
    norm: float
    mean = 0.0
    library = "LAPACK"
    statistics: ClassVar[tuple[Statistic, ...]] = ("mean",)
    identity = "spectral norm"

    @property
    def std(self) -> float:
        """About norm / (√rows + √cols): the mean of the Tracy-Widom law at the edge."""
        long, short = max(self.rows, self.cols), min(self.rows, self.cols)
        if long == 1:
            return self.norm
        a, b = math.sqrt(long - 1), math.sqrt(short)
        edge = (a + b) ** 2 + _TRACY_WIDOM_MEAN * (a + b) * (1 / a + 1 / b) ** (1 / 3)
        return self.norm / math.sqrt(max(edge, long))

    @property
    def low(self) -> float:
        """-norm: no element exceeds the spectral norm."""
        return -self.norm

    @property
    def high(self) -> float:
        """The norm."""
        return self.norm

    @property
    def spread(self) -> float:
        """Norm / √(the longer side): the Frobenius norm is at most √(the shorter side) times it."""
        return self.norm / math.sqrt(max(self.rows, self.cols))

    def cdf(self, x: float) -> float:
        """Approximately that of a normal."""
        return normal_mass(-math.inf, x / self.std)

    def misfit(self, values: Array) -> tuple[float, float]:
        """Return the relative difference of the spectral norm."""
        found = spectral_norm(values.reshape(self.rows, self.cols).astype(np.float64))
        return abs(found / self.norm - 1), _ROUNDED

    def fill(self, values: Array, chance: Chance) -> None:
        """Draw normals, and scale them by a factor that is rounded to float32."""
        chance.normal(values, 0.0, 1.0)
        wide = values.reshape(self.rows, self.cols).astype(np.float64)
        # What BLAS and LAPACK leave open is far behind these digits.
        wide *= self.norm / float(np.float32(spectral_norm(wide)))
        values[...] = wide.reshape(values.shape)

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return what the matrix takes, once as it is drawn and once in float64."""
        return math.prod(shape) * (itemsize + 8)

    def filling_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return the same: the matrix is held."""
        return self.working_nbytes(shape, itemsize)

    def words(self, numel: int, itemsize: int) -> int | None:
        """As many as the normals."""
        return normal_words(numel, itemsize)


_TRACY_WIDOM_MEAN = -1.2065
"""The mean of the Tracy-Widom law of real matrices (Johnstone 2001)."""

_ROUNDED = 2.0**-22
"""How far rounding to float32 may take a norm, of itself."""


@register(
    purpose="layers",
    law="σ·Z / ‖Z‖₂, Z of N(0, 1), with the spectral norm σ = gain·√(out / in), where the matrix is "
    "(shape[0], the rest), or σ = norm",
    example="spectral",
    defined="2 dimensions or more",
    paper="Yang, Simon & Bernstein 2023, A spectral condition for feature learning, "
    "arXiv:2310.17813",
    fans=fans_by_axes,
)
def spectral(
    shape: tuple[int, ...],
    *,
    gain: NonNegative = 1.0,
    norm: Annotated[float | None, Number(minimum=0, by_name=True)] = None,
    axes: Annotated[str | None, Axes()] = None,
) -> Law:
    """Draw with a spectral norm of √(out / in), as for Muon.

    The norm of the normals is found by Lanczos's method in float64, with numpy's BLAS and LAPACK,
    and rounded to float32. These differ by machine far behind the digits of a float32, so that of a
    million tensors about one is not the same everywhere, by an ulp.
    """
    need_ndim(shape, 2)
    count, rows, cols = Layout(axes=axes).matrix(shape)
    if 0 in shape:
        return Constant(0.0)
    is_transposed = axes is not None and axes.rstrip("k").endswith("o")
    outputs, inputs = (cols, rows) if is_transposed else (rows, cols)
    target = norm if norm is not None else gain * math.sqrt(outputs / inputs)
    law = OfSpectralNorm(rows, cols, target) if target else Constant(0.0)
    if count == 1 or isinstance(law, Constant):
        return law
    return Blocks(law, (count, rows, cols), count)


@register(
    purpose="layers",
    law="norm·z / ‖z‖ for each row z of N(0, 1), or with dim=1 for each column",
    example="unit_norm:dim=0",
    defined="2 dimensions or more",
    paper=_NGPT,
)
def unit_norm(
    shape: tuple[int, ...],
    site: Site,
    *,
    dim: Annotated[int, Integer(minimum=0)] = 0,
    norm: Positive = 1.0,
) -> Law:
    """Draw rows of norm one in random directions, as for nGPT.

    Each index of dimension `dim` has a vector: with dim=0 the rows of a matrix, with dim=1 its
    columns. Norms are computed in float64 in steps that give the same bits everywhere.
    """
    need_ndim(shape, max(2, dim + 1))
    if site.kept_rows and dim:
        raise UndefinedError(f"with dim={dim} its vectors have old rows, and new ones are filled")
    return Constant(0.0) if 0 in shape else OfNorm(shape, dim, norm)


@register(
    purpose="existing",
    law="norm·w / ‖w‖ for each row w, or with dim=1 for each column",
    example="normalize:dim=0",
    defined="2 dimensions or more",
    paper=_NGPT,
    is_transform=True,
)
def normalize(
    shape: tuple[int, ...],
    *,
    dim: Annotated[int, Integer(minimum=0)] = 0,
    norm: Positive = 1.0,
) -> Law:
    """Scale existing rows to norm one, as nGPT does after each step.

    Dimensions are those of `unit_norm`. Rows of zeros stay zeros.
    """
    need_ndim(shape, max(2, dim + 1))
    return Normalized(dim, norm)
