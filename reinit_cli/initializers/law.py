"""Define the laws that values are drawn from: their moments, and how they are drawn.

A law fills a contiguous array of float32 or float64 in place, from a source of chance. Its
moments are those of the draw, before it is rounded to the dtype of a checkpoint. What a draw can be tested for is
the law's own knowledge too: which tests hold for it, its distribution, what it fixes exactly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from reinit_cli.initializers.blocks import Filler, Take, block_numels, nothing
from reinit_cli.initializers.overridable import overridable
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array, Chance
from reinit_cli.streams.normals import normal_mass
from reinit_cli.streams.torch.groups import GROUP_NUMEL, normal_words
from reinit_cli.tensors.moments import BLOCK_NUMEL

if TYPE_CHECKING:
    import numpy as np

    Dtype = np.dtype[Any]
else:
    np = LazyModule("numpy")
    Dtype = Any

Statistic = Literal["mean", "std", "distribution"]
"""A property of many drawn elements that can be tested against a law."""


class Law(ABC):
    """A distribution that tensors are filled from: the base class of all laws.

    A law must say its `mean`, its `std` and how it fills a tensor. Everything else has a
    default, which is always right and may be replaced by more knowledge. Attributes may be
    replaced by class attributes, by fields of a dataclass or by properties.
    """

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        """Refuse a law whose `fill` takes what it took before there were streams.

        Raises:
            TypeError: it takes a tensor and a generator.
        """
        code = getattr(cls.__dict__.get("fill"), "__code__", None)
        if code is not None and "generator" in code.co_varnames[: code.co_argcount]:
            raise TypeError(
                f"{cls.__name__}.fill(tensor, generator) must become fill(values, chance), where "
                "values is a numpy array and chance.generator() the generator"
            )

    @overridable
    def mean(self) -> float:
        """The expected mean of its elements; NaN where it is not known."""
        raise NotImplementedError(f"{type(self).__name__} has no mean")

    @overridable
    def std(self) -> float:
        """The expected standard deviation over its elements; NaN where it is not known."""
        raise NotImplementedError(f"{type(self).__name__} has no std")

    @abstractmethod
    def fill(self, values: Array, chance: Chance) -> None:
        """Fill a contiguous array of a floating dtype in place.

        Args:
            values: all elements of a tensor, in its shape; of a law that is sequential or
                elementwise, also any run of them that such a law is given.
            chance: the only source of chance, which stands at the first of them.
        """

    def filler(self, shape: tuple[int, ...], dtype: Dtype, chance: Chance) -> Filler:
        """Return what fills any run of a tensor, where the stream is indexed.

        Args:
            shape: that of the whole tensor.
            dtype: that of the arrays.
            chance: the only source of chance, which stands at the first element.
        """
        if self.is_elementwise:
            return lambda run, at: self.fill(run, chance.at(at))
        return _Whole(self, shape, dtype, chance).fill

    def blocks(
        self, shape: tuple[int, ...], dtype: Dtype, chance: Chance, take: Take = nothing
    ) -> Iterator[Array]:
        """Yield what `fill` writes, as 1-D arrays in row-major order, each gone with the next.

        Args:
            shape: that of the whole tensor.
            dtype: that of the arrays.
            chance: the only source of chance, of the CPU; left where `fill` leaves it.
            take: gives the values that are to be changed, where the law changes any.
        """
        numel = math.prod(shape)
        if not (self.is_elementwise if chance.is_indexed else self.is_sequential):
            whole = np.empty(shape, dtype)
            take(whole.reshape(-1))
            self.fill(whole, chance)
            yield whole.reshape(-1)
            return
        buffer = np.empty(min(numel, BLOCK_NUMEL + GROUP_NUMEL), dtype)
        for count in block_numels(numel):
            block = buffer[:count]
            take(block)
            self.fill(block, chance)
            yield block

    def of_rows(self, shape: tuple[int, ...]) -> Law | None:
        """Return the law of some new rows, where it follows from the law of the whole tensor.

        Args:
            shape: that of the new rows.

        Returns:
            None where new rows are drawn as a tensor of their own.
        """
        del shape
        return self if self.is_elementwise else None

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int | None:
        """Return the memory that `blocks` takes at most, but for a few blocks.

        Args:
            shape: that of the whole tensor.
            itemsize: the bytes of an element as it is drawn.

        Returns:
            None where it is not known; the whole tensor, at least.
        """
        del shape, itemsize
        return 0 if self.is_sequential else None

    def filling_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int | None:
        """Return the memory that a `filler` takes at most, but for a few runs.

        Arguments and results are those of `working_nbytes`.
        """
        del shape, itemsize
        return 0 if self.is_elementwise else None

    def words(self, numel: int, itemsize: int) -> int | None:
        """Return how many random numbers of 32 bits a CPU takes to fill a tensor.

        Args:
            numel: the tensor's elements.
            itemsize: the bytes of each.

        Returns:
            None where it is not known before they are drawn.
        """
        del numel, itemsize
        return None if self.is_random else 0

    @overridable
    def low(self) -> float:
        """A lower bound of all elements."""
        return -math.inf

    @overridable
    def high(self) -> float:
        """An upper bound of all elements."""
        return math.inf

    @overridable
    def is_random(self) -> bool:
        """Whether the values depend on chance."""
        return True

    @overridable
    def numbers_per_element(self) -> int:
        """How many numbers of a stream each element takes."""
        return 1

    @overridable
    def is_whole(self) -> bool:
        """Whether all values are whole numbers that are known beforehand."""
        return False

    @overridable
    def library(self) -> str:
        """The library that decides its last bits where no number of the stream differs, or ""."""
        return ""

    @overridable
    def is_sequential(self) -> bool:
        """Whether a CPU fills blocks of 16 n elements, one after the other, just the same.

        torch's normals come in groups of 16, of which the last ends with the tensor.
        """
        return False

    @overridable
    def is_elementwise(self) -> bool:
        """Whether each element hangs on the numbers of its own index, where a stream has these.

        Then `fill` fills any run of a tensor, from a chance that stands at its first element.
        """
        return False

    @overridable
    def statistics(self) -> tuple[Statistic, ...]:
        """The statistics of a draw that can be tested; none where nothing is random.

        "mean" needs `spread`, whose default is right for independent elements between bounds;
        "std" needs a `spread` of the law's own, and "distribution" a `cdf` and independent
        elements.
        """
        return ()

    @overridable
    def spread(self) -> float:
        """A bound of how far elements stray from their mean, as the std of a normal distribution.

        E exp(t·(X − mean)) ≤ exp(t²·spread²/2) for every t. It is never below `std`, and
        equal to it only where E f((X − mean)²) ≤ E f((std·Z)²) for every convex f and a
        standard normal Z; otherwise X must be a function of spread·Z that moves no two points
        further apart, or "std" is not tested.
        """
        return (self.high - self.low) / 2  # Hoeffding 1963; infinite where it has no bounds

    def cdf(self, x: float) -> float:
        """Return the probability that one element is at most x; NaN where it is not known."""
        del x
        return math.nan

    @overridable
    def identity(self) -> str:
        """The name of what it fixes exactly, or ""."""
        return ""

    def misfit(self, values: Array) -> tuple[float, float]:
        """Return how far values are from the identity, and how far rounding may take them.

        Args:
            values: the whole draw; of a sequential law, any block of it.
        """
        del values
        return 0.0, 0.0


class _Whole:
    """A draw of which no part can be had alone: it is drawn when it is first needed, and kept."""

    def __init__(self, law: Law, shape: tuple[int, ...], dtype: Dtype, chance: Chance) -> None:
        self._law = law
        self._shape = shape
        self._dtype = dtype
        self._chance = chance
        self._lock = Lock()
        self._flat: Array | None = None

    def fill(self, run: Array, at: int) -> None:
        """Copy a run, the first element of which has an index."""
        with self._lock:
            if self._flat is None:
                whole = np.empty(self._shape, self._dtype)
                self._law.fill(whole, self._chance.at(0))
                self._flat = whole.reshape(-1)
        run[...] = self._flat[at : at + len(run)]


@dataclass(frozen=True, slots=True)
class Constant(Law):
    """Every element is `value`."""

    value: float
    is_random = False
    is_sequential = True
    is_elementwise = True
    statistics = ()
    spread = 0.0
    identity = "value"

    @property
    def mean(self) -> float:
        """The value."""
        return self.value

    @property
    def std(self) -> float:
        """Zero."""
        return 0.0

    @property
    def low(self) -> float:
        """The value."""
        return self.value

    @property
    def high(self) -> float:
        """The value."""
        return self.value

    def fill(self, values: Array, chance: Chance) -> None:
        """Write the value everywhere."""
        del chance
        values[...] = self._as(values.dtype)

    def _as(self, dtype: Dtype) -> Array:
        """Return the value in a dtype."""
        # Through a float, large integers would come out as others.
        value = int(self.value) if dtype.kind in "iu" else self.value
        with np.errstate(over="ignore"):
            return np.asarray(value).astype(dtype)

    def cdf(self, x: float) -> float:
        """A step at the value."""
        return float(x >= self.value)

    def misfit(self, values: Array) -> tuple[float, float]:
        """Count the elements that are not the value."""
        value = self._as(values.dtype)
        differs = ~np.isnan(values) if self.value != self.value else values != value
        return float(np.count_nonzero(differs)), 0.0


@dataclass(frozen=True, slots=True)
class Uniform(Law):
    """U(low, high), the upper end excluded."""

    low: float
    high: float
    is_sequential = True
    is_elementwise = True
    statistics: ClassVar[tuple[Statistic, ...]] = ("mean", "std", "distribution")

    @property
    def mean(self) -> float:
        """The midpoint of the bounds."""
        return (self.low + self.high) / 2

    @property
    def std(self) -> float:
        """(high − low) / √12."""
        return (self.high - self.low) / math.sqrt(12.0)

    def fill(self, values: Array, chance: Chance) -> None:
        """Draw each element."""
        chance.uniform(values, self.low, self.high)

    def words(self, numel: int, itemsize: int) -> int:
        """One for each element; two in float64."""
        return numel * itemsize // 4

    @property
    def spread(self) -> float:
        """Its standard deviation, as it has no tails."""
        return self.std

    def cdf(self, x: float) -> float:
        """A straight line between the bounds."""
        if self.low == self.high:
            return float(x >= self.low)
        return min(1.0, max(0.0, (x - self.low) / (self.high - self.low)))


@dataclass(frozen=True, slots=True)
class Normal(Law):
    """N(mean, std²)."""

    mean: float
    std: float
    is_sequential = True
    is_elementwise = True
    statistics: ClassVar[tuple[Statistic, ...]] = ("mean", "std", "distribution")

    def fill(self, values: Array, chance: Chance) -> None:
        """Draw each element."""
        chance.normal(values, self.mean, self.std)

    def words(self, numel: int, itemsize: int) -> int | None:
        """As of a uniform, and the last group again where it is not whole."""
        return normal_words(numel, itemsize)

    @property
    def spread(self) -> float:
        """Its standard deviation."""
        return self.std

    def cdf(self, x: float) -> float:
        """Φ((x − mean) / std)."""
        if not self.std:
            return float(x >= self.mean)
        return normal_mass(-math.inf, (x - self.mean) / self.std)
