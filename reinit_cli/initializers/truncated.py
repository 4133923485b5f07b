"""Define the normal distribution that is cut off at two bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from reinit_cli.initializers.blocks import Take, nothing
from reinit_cli.initializers.law import Dtype, Law, Statistic
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array, Chance
from reinit_cli.streams.normals import normal_mass

if TYPE_CHECKING:
    from reinit_cli.streams.torch import truncated as rejecting
else:
    rejecting = LazyModule("reinit_cli.streams.torch.truncated")


@dataclass(frozen=True, slots=True)
class TruncatedNormal(Law):
    """N(center, scale²) given that it lies in [low, high]."""

    center: float
    scale: float
    low: float
    high: float
    is_elementwise = True
    statistics: ClassVar[tuple[Statistic, ...]] = ("mean", "std", "distribution")

    @property
    def mean(self) -> float:
        """The mean after truncation."""
        if self._is_flat:
            return (self.low + self.high) / 2
        mean = self.center + self.scale * self._shift()
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
        if self._is_flat or math.isclose(self.center - self.low, self.high - self.center):
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
        return normal_mass(alpha, (x - self.center) / self.scale) / mass if mass else 0.5

    @property
    def _is_flat(self) -> bool:
        """Whether the density is so flat that the formulas of a normal would cancel out."""
        alpha, beta = self._standardized()
        return (beta - alpha) * max(1.0, abs(alpha), abs(beta)) < 1e-5

    def _standardized(self) -> tuple[float, float]:
        return (self.low - self.center) / self.scale, (self.high - self.center) / self.scale

    def _shift(self) -> float:
        alpha, beta = self._standardized()
        mass = normal_mass(alpha, beta)
        return (_density(alpha) - _density(beta)) / mass if mass else math.copysign(math.inf, alpha)

    @property
    def is_drawable(self) -> bool:
        """Whether a thousand rounds of rejection suffice, where torch would loop forever."""
        return self._rejection.keeps_most or self._acceptance > 1e-3

    @property
    def _rejection(self) -> rejecting.Rejection:
        return rejecting.Rejection(self.center, self.scale, self.low, self.high)

    @property
    def _acceptance(self) -> float:
        """The share of uniform candidates that are accepted: the area under the density over its box."""
        width = (self.high - self.low) / self.scale
        alpha, beta = self._standardized()
        outside = max(alpha, -beta, 0.0)  # how far the nearer bound lies beyond the center
        if outside > 5:  # the tail falls like an exponential, and its mass may underflow
            return min(1.0, 1 / (outside * width))
        area = normal_mass(alpha, beta) * math.sqrt(2 * math.pi)
        return area * math.exp(0.5 * outside**2) / width

    def fill(self, values: Array, chance: Chance) -> None:
        """Draw each element."""
        chance.truncated(values, self.center, self.scale, self.low, self.high)

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return what a small tensor takes whole; a large one takes blocks."""
        from reinit_cli.streams.torch.truncated import PEAK_OF_WHOLE, WHOLE_NBYTES

        return PEAK_OF_WHOLE * min(math.prod(shape) * itemsize, WHOLE_NBYTES)

    def blocks(
        self, shape: tuple[int, ...], dtype: Dtype, chance: Chance, take: Take = nothing
    ) -> Iterator[Array]:
        """Yield what `fill` writes; of a large tensor each block until nothing is left of it."""
        from reinit_cli.streams.torch.chance import TorchChance

        if not isinstance(chance, TorchChance):
            yield from Law.blocks(self, shape, dtype, chance, take)
            return
        yield from chance.truncated_blocks(math.prod(shape), dtype, self._rejection)


def _density(x: float) -> float:
    return math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
