"""Define the laws that values are drawn from: moments without torch, draws with it.

A law fills a contiguous float32 or float64 tensor in place. Its moments are those of the
draw, before it is rounded to the dtype of a checkpoint. What a draw can be tested for is
the law's own knowledge too: which tests hold for it, its distribution, what it fixes exactly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from reinit_cli.initializers.overridable import overridable
from reinit_cli.lazy import LazyModule

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

GROUP_NUMEL = 16
"""The elements that `Tensor.normal_` draws together; the last group ends with the tensor."""

Statistic = Literal["mean", "std", "distribution"]
"""A property of many drawn elements that can be tested against a law."""


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
        tensor.fill_(float(self.value))

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

    @property
    def spread(self) -> float:
        """Its standard deviation."""
        return self.std

    def cdf(self, x: float) -> float:
        """Φ((x − mean) / std)."""
        if not self.std:
            return float(x >= self.mean)
        return normal_mass(-math.inf, (x - self.mean) / self.std)


@dataclass(frozen=True, slots=True)
class TruncatedNormal(Law):
    """N(centre, scale²) given that it lies in [low, high]."""

    centre: float
    scale: float
    low: float
    high: float
    statistics: ClassVar[tuple[Statistic, ...]] = ("mean", "std", "distribution")

    @property
    def mean(self) -> float:
        """The mean after truncation."""
        if self._is_flat:
            return (self.low + self.high) / 2
        mean = self.centre + self.scale * self._shift()
        return max(self.low, min(self.high, mean))

    @property
    def std(self) -> float:
        """The standard deviation after truncation."""
        if self._is_flat:
            return (self.high - self.low) / math.sqrt(12.0)
        alpha, beta = self._standardized()
        mass = normal_mass(alpha, beta)
        if not mass:  # so far out in the tail that it equals the bound
            return 0.0
        edges = (alpha * _density(alpha) - beta * _density(beta)) / mass
        return self.scale * math.sqrt(max(0.0, 1 + edges - self._shift() ** 2))

    @property
    def spread(self) -> float:
        """Its standard deviation where the bounds are symmetric; otherwise an upper bound.

        A truncated normal is the normal squeezed (Caffarelli 2000), and so is any law whose
        density on an interval is never below 1 / (√(2π)·spread).
        """
        if self._is_flat or math.isclose(self.centre - self.low, self.high - self.centre):
            return self.std
        lowest = min(map(_density, self._standardized()))
        mass = normal_mass(*self._standardized())
        by_density = mass / (math.sqrt(2 * math.pi) * lowest) if lowest else math.inf
        return max(self.std, self.scale * min(1.0, by_density))

    def cdf(self, x: float) -> float:
        """That of the normal, rescaled to the bounds."""
        if x < self.low or x >= self.high:
            return float(x >= self.high)
        if self._is_flat:
            return (x - self.low) / (self.high - self.low)
        alpha, beta = self._standardized()
        mass = normal_mass(alpha, beta)
        return normal_mass(alpha, (x - self.centre) / self.scale) / mass if mass else 0.5

    @property
    def _is_flat(self) -> bool:
        """Whether the density is so flat that the formulas of a normal would cancel out."""
        alpha, beta = self._standardized()
        return (beta - alpha) * max(1.0, abs(alpha), abs(beta)) < 1e-5

    def _standardized(self) -> tuple[float, float]:
        return (self.low - self.centre) / self.scale, (self.high - self.centre) / self.scale

    def _shift(self) -> float:
        alpha, beta = self._standardized()
        mass = normal_mass(alpha, beta)
        return (_density(alpha) - _density(beta)) / mass if mass else math.copysign(math.inf, alpha)

    @property
    def is_drawable(self) -> bool:
        """Whether a thousand rounds of rejection suffice, where torch would loop forever."""
        return self._keeps_most or self._acceptance > 1e-3

    @property
    def _keeps_most(self) -> bool:
        return normal_mass(*self._standardized()) > 0.3

    @property
    def _acceptance(self) -> float:
        """The share of uniform candidates that are accepted: the area under the density over its box."""
        width = (self.high - self.low) / self.scale
        alpha, beta = self._standardized()
        outside = max(alpha, -beta, 0.0)  # how far the nearer bound lies beyond the centre
        if outside > 5:  # the tail falls like an exponential, and its mass may underflow
            return min(1.0, 1 / (outside * width))
        area = normal_mass(alpha, beta) * math.sqrt(2 * math.pi)
        return area * math.exp(0.5 * outside**2) / width

    def fill(self, tensor: torch.Tensor, generator: torch.Generator) -> None:
        """Draw as `torch.nn.init.trunc_normal_` does, by rejection.

        Where most of the normal lies inside the bounds, normals are drawn and those
        outside drawn again; otherwise uniforms are drawn and kept with the density's odds.
        """
        if self._keeps_most:
            self._redraw_outside(tensor, generator)
        else:
            self._accept_uniforms(tensor, generator)

    def _redraw_outside(self, tensor: torch.Tensor, generator: torch.Generator) -> None:
        import torch

        # The bounds as the tensor's dtype has them: a value on the rounded bound is inside.
        low = torch.tensor(self.low, dtype=tensor.dtype, device="cpu").item()
        high = torch.tensor(self.high, dtype=tensor.dtype, device="cpu").item()
        tensor.normal_(self.centre, self.scale, generator=generator)
        # Each round draws the whole tensor again: torch's values depend on it.
        while (outside := (tensor < low) | (tensor > high)).any():
            again = torch.empty_like(tensor)
            again.normal_(self.centre, self.scale, generator=generator)
            torch.where(outside, again, tensor, out=tensor)

    def _accept_uniforms(self, tensor: torch.Tensor, generator: torch.Generator) -> None:
        import torch

        mode = max(self.low, min(self.centre, self.high))
        log_peak = -0.5 * ((mode - self.centre) / self.scale) ** 2
        candidates = torch.empty_like(tensor)
        chance = torch.empty_like(tensor)
        pending = torch.ones_like(tensor, dtype=torch.bool)
        while pending.any():
            candidates.uniform_(self.low, self.high, generator=generator)
            torch.where(pending, candidates, tensor, out=tensor)
            candidates.sub_(self.centre).div_(self.scale).pow_(2).mul_(-0.5).sub_(log_peak)
            chance.uniform_(generator=generator).log_()
            pending &= chance > candidates


def _density(x: float) -> float:
    return math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def normal_mass(alpha: float, beta: float) -> float:
    """Return the probability that a standard normal lies between two bounds, exact in both tails."""
    if alpha > 0:
        alpha, beta = -beta, -alpha
    return 0.5 * (math.erfc(-beta / math.sqrt(2.0)) - math.erfc(-alpha / math.sqrt(2.0)))
