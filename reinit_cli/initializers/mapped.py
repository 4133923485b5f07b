"""Define laws that map uniform numbers by exponentials and logarithms."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from reinit_cli.initializers.blocks import pieces
from reinit_cli.initializers.decimals import geometric_mean, log_ratio
from reinit_cli.initializers.elementary import exponential, logarithm, softplus_inverted
from reinit_cli.initializers.law import Law, Statistic
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array, Chance

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

MAPPED_NUMEL = 2**14
"""The elements that are mapped together: what that takes stays in the processor's cache."""

_CELLS = 512
"""Those that a mean is integrated over."""

_SERIES = 1e-3
"""Below it, h·coth h − 1 is h² / 3 to 6 digits."""


class Mapped(Law):
    """A rising function of a uniform number, computed in float64 and rounded once."""

    __slots__ = ()
    is_sequential = True
    is_elementwise = True
    statistics: ClassVar[tuple[Statistic, ...]] = ("mean", "distribution")

    @abstractmethod
    def mapped(self, uniform: Array) -> Array:
        """Return the values of uniform numbers, in float64, which are lost."""

    @property
    def drawn(self) -> tuple[float, float]:
        """The bounds of the uniform number."""
        return 0.0, 1.0

    @property
    def at_low(self) -> float:
        """The share of elements that are the lower bound."""
        return 0.0

    @property
    def mean(self) -> float:
        """An integral over the uniform number."""
        return self._averaged(lambda value: value)

    @property
    def std(self) -> float:
        """An integral over the uniform number."""
        mean = self.mean
        unit = math.ldexp(0.5, math.frexp(max(-self.low, self.high))[1])  # squares stay finite
        return unit * math.sqrt(self._averaged(lambda value: ((value - mean) / unit) ** 2))

    def _averaged(self, of: Callable[[float], float]) -> float:
        """Return the mean of a function of the values, by Simpson's rule above the lower bound."""
        low, high = self.drawn
        first = low + (high - low) * self.at_low
        nodes = first + (high - first) * np.arange(2 * _CELLS + 1) / (2 * _CELLS)
        found = [of(value) for value in self.mapped(nodes).tolist()]
        total = found[0] + found[-1] + 4 * math.fsum(found[1::2]) + 2 * math.fsum(found[2:-1:2])
        return self.at_low * of(self.low) + (1 - self.at_low) * total / (6 * _CELLS)

    def fill(self, values: Array, chance: Chance) -> None:
        """Draw each element in its own dtype, then map it."""
        chance.uniform(values, *self.drawn)
        for some in pieces(values.reshape(-1), MAPPED_NUMEL):
            mapped = np.clip(self.mapped(some.astype(np.float64)), self.low, self.high)
            with np.errstate(all="ignore"):
                some[...] = mapped

    def words(self, numel: int, itemsize: int) -> int:
        """One for each element; two in float64."""
        return numel * itemsize // 4


@dataclass(frozen=True, slots=True)
class LogUniform(Mapped):
    """e^U(ln low, ln high): a factor between the bounds is as likely as any other."""

    low: float
    high: float

    @property
    def mean(self) -> float:
        """(high − low) / ln(high / low)."""
        return (self.high - self.low) / log_ratio(self.low, self.high)

    @property
    def std(self) -> float:
        """√((high² − low²) / (2·ln(high / low)) − mean²), without a difference of squares."""
        half = log_ratio(self.low, self.high) / 2
        excess = half / math.tanh(half) - 1 if half > _SERIES else half * half / 3
        return self.mean * math.sqrt(excess)

    def mapped(self, uniform: Array) -> Array:
        """Return powers of the ratio of the bounds, from their geometric mean on."""
        uniform -= 0.5
        uniform *= log_ratio(self.low, self.high)
        return exponential(uniform) * geometric_mean(self.low, self.high)

    def cdf(self, x: float) -> float:
        """A straight line of ln x."""
        if x < self.low or x >= self.high:
            return float(x >= self.high)
        return min(1.0, math.log(x / self.low) / log_ratio(self.low, self.high))


@dataclass(frozen=True, slots=True)
class InverseSoftplus(Mapped):
    """What softplus turns into a log-uniform number of at least `floor`, which is below its top."""

    of: LogUniform
    floor: float

    @property
    def low(self) -> float:
        """That of the smallest number."""
        return inverse_softplus_of(max(self.of.low, self.floor))

    @property
    def high(self) -> float:
        """That of the largest."""
        return inverse_softplus_of(self.of.high)

    @property
    def at_low(self) -> float:
        """The share of numbers below the floor."""
        return self.of.cdf(self.floor)

    def mapped(self, uniform: Array) -> Array:
        """Return the inverse softplus of log-uniform numbers."""
        return softplus_inverted(np.maximum(self.of.mapped(uniform), self.floor))

    def cdf(self, x: float) -> float:
        """That of the log-uniform number softplus(x)."""
        if x < self.low or x >= self.high:
            return float(x >= self.high)
        return self.of.cdf(max(x, 0.0) + math.log1p(math.exp(-abs(x))))


def inverse_softplus_of(number: float) -> float:
    """Return the number that softplus turns into a positive one."""
    return float(softplus_inverted(np.array([number]))[0])


@dataclass(frozen=True, slots=True)
class LogOfUniform(Mapped):
    """ln U(a, b)."""

    a: float
    b: float

    @property
    def drawn(self) -> tuple[float, float]:
        """The bounds of the number whose logarithm it is."""
        return self.a, self.b

    @property
    def low(self) -> float:
        """Ln a."""
        return log_ratio(1.0, self.a)

    @property
    def high(self) -> float:
        """Ln b."""
        return log_ratio(1.0, self.b)

    def mapped(self, uniform: Array) -> Array:
        """Return their logarithms."""
        return logarithm(uniform)

    def cdf(self, x: float) -> float:
        """A straight line of e^x."""
        if x < self.low or x >= self.high:
            return float(x >= self.high)
        return (math.exp(x) - self.a) / (self.b - self.a)
