"""Define the laws that values are drawn from: moments without torch, draws with it.

A law fills a contiguous float32 or float64 tensor in place. Its moments are those of the
draw, before it is rounded to the dtype of a checkpoint. What a draw can be tested for is
the law's own knowledge too: which tests hold for it, its distribution, what it fixes exactly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from reinit_cli.initializers.blocks import GROUP_NUMEL, Take, Taker, block_numels, nothing
from reinit_cli.initializers.overridable import overridable
from reinit_cli.lazy import LazyModule
from reinit_cli.tensors.moments import BLOCK_NUMEL

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

Statistic = Literal["mean", "std", "distribution"]
"""A property of many drawn elements that can be tested against a law."""


def fill_from_blocks(law: Law, tensor: torch.Tensor, generator: torch.Generator) -> None:
    """Fill a contiguous tensor of the CPU with a law's blocks."""
    Taker(law.blocks(tuple(tensor.shape), tensor.dtype, generator)).take_into(tensor.view(-1))


class Law(ABC):
    """A distribution that tensors are filled from: the base class of all laws.

    A law must say its `mean`, its `std` and how it fills a tensor. Everything else has a
    default, which is always right and may be replaced by more knowledge. Attributes may be
    replaced by class attributes, by fields of a dataclass or by properties.
    """

    __slots__ = ()

    @overridable
    def mean(self) -> float:
        """The expected mean of its elements; NaN where it is not known."""
        raise NotImplementedError(f"{type(self).__name__} has no mean")

    @overridable
    def std(self) -> float:
        """The expected standard deviation over its elements; NaN where it is not known."""
        raise NotImplementedError(f"{type(self).__name__} has no std")

    @abstractmethod
    def fill(self, tensor: torch.Tensor, generator: torch.Generator) -> None:
        """Fill a contiguous tensor of a floating dtype in place.

        Args:
            tensor: what to fill.
            generator: the only source of chance, on the device of the tensor.
        """

    def blocks(
        self,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        generator: torch.Generator,
        take: Take = nothing,
    ) -> Iterator[torch.Tensor]:
        """Yield what `fill` writes, as 1-D tensors in row-major order, each gone with the next.

        Args:
            shape: that of the whole tensor.
            dtype: its dtype.
            generator: the only source of chance, of the CPU; left where `fill` leaves it.
            take: gives the values that are to be changed, where the law changes any.
        """
        import torch

        numel = math.prod(shape)
        if not self.is_sequential:
            whole = torch.empty(shape, dtype=dtype, device="cpu")
            take(whole.view(-1))
            self.fill(whole, generator)
            yield whole.view(-1)
            return
        buffer = torch.empty(min(numel, BLOCK_NUMEL + GROUP_NUMEL), dtype=dtype, device="cpu")
        for count in block_numels(numel):
            block = buffer[:count]
            take(block)
            self.fill(block, generator)
            yield block

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
        """Whether the values depend on the generator."""
        return True

    @overridable
    def is_sequential(self) -> bool:
        """Whether a CPU fills blocks of 16 n elements, one after the other, just the same.

        torch's normals come in groups of 16, of which the last ends with the tensor.
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

    def misfit(self, values: torch.Tensor) -> tuple[float, float]:
        """Return how far values are from the identity, and how far rounding may take them.

        Args:
            values: the whole draw; of a sequential law, any block of it.
        """
        del values
        return 0.0, 0.0


@dataclass(frozen=True, slots=True)
class Constant(Law):
    """Every element is `value`."""

    value: float
    is_random = False
    is_sequential = True
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

    def fill(self, tensor: torch.Tensor, generator: torch.Generator) -> None:
        """Write the value everywhere."""
        del generator
        if tensor.is_floating_point():
            tensor.fill_(float(self.value))
        else:
            # Through a float, large integers would come out as others.
            tensor.fill_(complex(self.value) if tensor.is_complex() else int(self.value))

    def cdf(self, x: float) -> float:
        """A step at the value."""
        return float(x >= self.value)

    def misfit(self, values: torch.Tensor) -> tuple[float, float]:
        """Count the elements that are not the value."""
        import torch

        value = torch.full((), self.value, dtype=values.dtype, device=values.device)
        differs = values.isnan().logical_not() if self.value != self.value else values != value
        return float(differs.count_nonzero()), 0.0


@dataclass(frozen=True, slots=True)
class Uniform(Law):
    """U(low, high), the upper end excluded."""

    low: float
    high: float
    is_sequential = True
    statistics: ClassVar[tuple[Statistic, ...]] = ("mean", "std", "distribution")

    @property
    def mean(self) -> float:
        """The midpoint of the bounds."""
        return (self.low + self.high) / 2

    @property
    def std(self) -> float:
        """(high − low) / √12."""
        return (self.high - self.low) / math.sqrt(12.0)

    def fill(self, tensor: torch.Tensor, generator: torch.Generator) -> None:
        """Draw as `Tensor.uniform_` does."""
        tensor.uniform_(self.low, self.high, generator=generator)

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
    statistics: ClassVar[tuple[Statistic, ...]] = ("mean", "std", "distribution")

    def fill(self, tensor: torch.Tensor, generator: torch.Generator) -> None:
        """Draw as `Tensor.normal_` does."""
        tensor.normal_(self.mean, self.std, generator=generator)

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


def normal_mass(alpha: float, beta: float) -> float:
    """Return the probability that a standard normal lies between two bounds, exact in both tails."""
    if alpha > 0:
        alpha, beta = -beta, -alpha
    return 0.5 * (math.erfc(-beta / math.sqrt(2.0)) - math.erfc(-alpha / math.sqrt(2.0)))


def normal_words(numel: int, itemsize: int) -> int | None:
    """Return how many random numbers of 32 bits `Tensor.normal_` takes on a CPU.

    A tensor of less than a group may leave one of its last pair for the next draw.
    """
    if numel < GROUP_NUMEL:
        return None
    return (numel + (GROUP_NUMEL if numel % GROUP_NUMEL else 0)) * itemsize // 4
