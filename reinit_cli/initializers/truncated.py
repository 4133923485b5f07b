"""Define the normal distribution that is cut off at two bounds, drawn by rejection.

torch draws the whole tensor again and again, until no element is left to be replaced. To draw
it block by block, each of these draws has a generator of its own, which starts as many random
numbers after that of the draw before as the tensor takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from reinit_cli.initializers.blocks import GROUP_NUMEL, Take, block_numels, nothing
from reinit_cli.initializers.law import Law, Statistic, normal_mass, normal_words
from reinit_cli.lazy import LazyModule
from reinit_cli.streams.mersenne import is_known, later
from reinit_cli.tensors.moments import BLOCK_NUMEL

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

_WHOLE_NBYTES = 2**26
"""Up to this size a tensor is drawn whole: the generators of a larger one pay off."""

_PEAK_OF_WHOLE = 4
"""How many times its bytes a whole tensor takes: values, candidates, chances and masks."""


@dataclass(frozen=True, slots=True)
class TruncatedNormal(Law):
    """N(center, scale²) given that it lies in [low, high]."""

    center: float
    scale: float
    low: float
    high: float
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
        return self._keeps_most or self._acceptance > 1e-3

    @property
    def _keeps_most(self) -> bool:
        return normal_mass(*self._standardized()) > 0.3

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
        """Draw all of it, and then again, until nothing is left outside; on a CPU by blocks."""
        import torch

        low, high = self._bounds(tensor.dtype)
        numels = block_numels(tensor.numel()) if tensor.device.type == "cpu" else ()
        blocks = torch.split(tensor.view(-1), list(numels) or [tensor.numel()])
        for block in blocks:
            block.normal_(self.center, self.scale, generator=generator)
        scratch = torch.empty_like(max(blocks, key=len))
        # Each round draws the whole tensor again: torch's values depend on it.
        while any(_is_outside(block, low, high).any() for block in blocks):
            for block in blocks:
                again = scratch[: len(block)]
                again.normal_(self.center, self.scale, generator=generator)
                torch.where(_is_outside(block, low, high), again, block, out=block)

    def _bounds(self, dtype: torch.dtype) -> tuple[float, float]:
        """Return the bounds as a dtype has them: a value on the rounded bound is inside."""
        import torch

        low, high = torch.tensor((self.low, self.high), dtype=dtype, device="cpu").tolist()
        return low, high

    def _accept_uniforms(self, tensor: torch.Tensor, generator: torch.Generator) -> None:
        import torch

        candidates = torch.empty_like(tensor)
        chance = torch.empty_like(tensor)
        pending = torch.ones_like(tensor, dtype=torch.bool)
        while pending.any():
            candidates.uniform_(self.low, self.high, generator=generator)
            torch.where(pending, candidates, tensor, out=tensor)
            pending &= self._refuses(candidates, chance, generator)

    def _refuses(
        self, candidates: torch.Tensor, chance: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Return which candidates the density's odds refuse; both tensors are written over."""
        mode = max(self.low, min(self.center, self.high))
        log_peak = -0.5 * ((mode - self.center) / self.scale) ** 2
        candidates.sub_(self.center).div_(self.scale).pow_(2).mul_(-0.5).sub_(log_peak)
        return chance.uniform_(generator=generator).log_() > candidates

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return what a small tensor takes whole; a large one takes blocks."""
        return _PEAK_OF_WHOLE * min(math.prod(shape) * itemsize, _WHOLE_NBYTES)

    def blocks(
        self,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        generator: torch.Generator,
        take: Take = nothing,
    ) -> Iterator[torch.Tensor]:
        """Yield what `fill` writes; of a large tensor each block until nothing is left of it."""
        import torch

        numel = math.prod(shape)
        if numel * dtype.itemsize <= _WHOLE_NBYTES or not is_known(generator):
            yield from Law.blocks(self, shape, dtype, generator, take)
            return
        draws = _Draws(generator, self._words(numel, dtype.itemsize))
        scratch = tuple(torch.empty(3, BLOCK_NUMEL + GROUP_NUMEL, dtype=dtype, device="cpu"))
        fill = self._redraw_block if self._keeps_most else self._accept_block
        for count in block_numels(numel):
            block, *others = (each[:count] for each in scratch)
            draws.begin_block(self._words(count, dtype.itemsize))
            fill(draws, block, *others)
            yield block
        generator.set_state(draws.end().get_state())

    def _words(self, numel: int, itemsize: int) -> int:
        """Return how many random numbers one draw of as many elements takes."""
        words = normal_words(numel, itemsize) if self._keeps_most else numel * itemsize // 4
        assert words is not None  # blocks are larger than a group
        return words

    def _redraw_block(
        self, draws: _Draws, block: torch.Tensor, again: torch.Tensor, _: torch.Tensor
    ) -> None:
        """Do what `_redraw_outside` does to one block."""
        import torch

        low, high = self._bounds(block.dtype)
        block.normal_(self.center, self.scale, generator=draws.next())
        while (outside := _is_outside(block, low, high)).any():
            again.normal_(self.center, self.scale, generator=draws.next())
            torch.where(outside, again, block, out=block)

    def _accept_block(
        self, draws: _Draws, block: torch.Tensor, candidates: torch.Tensor, chance: torch.Tensor
    ) -> None:
        """Do what `_accept_uniforms` does to one block."""
        import torch

        pending = torch.ones_like(block, dtype=torch.bool)
        while pending.any():
            candidates.uniform_(self.low, self.high, generator=draws.next())
            torch.where(pending, candidates, block, out=block)
            pending &= self._refuses(candidates, chance, draws.next())


class _Draws:
    """The draws of a whole tensor, one after the other, each moved on block by block."""

    def __init__(self, start: torch.Generator, words: int) -> None:
        """Begin with the first.

        Args:
            start: where it begins; stays there.
            words: the random numbers that each takes.
        """
        self._words = words
        self._last_start = start
        self._draws: list[tuple[torch.Generator, int]] = [(start.clone_state(), 0)]
        self._number = self._of_block = self._reached = 0

    def begin_block(self, words: int) -> None:
        """Go back to the first draw, for the next block.

        Args:
            words: the random numbers that it takes of each draw.
        """
        self._reached += self._of_block
        self._of_block = words
        self._number = 0

    def next(self) -> torch.Generator:
        """Return the generator of the next draw of the block."""
        if self._number == len(self._draws):
            self._last_start = later(self._last_start, self._words)
            self._draws.append((self._last_start.clone_state(), 0))
        generator, before = self._draws[self._number]
        if before < self._reached:
            generator = later(generator, self._reached - before)
        self._draws[self._number] = generator, self._reached + self._of_block
        self._number += 1
        return generator

    def end(self) -> torch.Generator:
        """Return a generator after the last draw of the tensor."""
        return later(self._last_start, self._words)


def _density(x: float) -> float:
    return math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _is_outside(block: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return (block < low) | (block > high)
