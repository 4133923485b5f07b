"""The laws of tensors that are made of smaller ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reinit_cli.initializers.laws import Law, Normal, Statistic

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True, slots=True)
class Blocks:
    """Equal parts along one dimension, each of one law, drawn one after the other.

    Attributes:
        part: the law of each.
        shape: the whole tensor's.
        count: how many there are.
        axis: along which dimension they lie.
    """

    part: Law
    shape: tuple[int, ...]
    count: int
    axis: int = 0
    is_sequential = False

    @property
    def mean(self) -> float:
        """That of a part."""
        return self.part.mean

    @property
    def std(self) -> float:
        """That of a part."""
        return self.part.std

    @property
    def low(self) -> float:
        """That of a part."""
        return self.part.low

    @property
    def high(self) -> float:
        """That of a part."""
        return self.part.high

    @property
    def is_random(self) -> bool:
        """Whether its parts are."""
        return self.part.is_random

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """Those of a part: parts do not depend on each other."""
        return self.part.statistics

    @property
    def spread(self) -> float:
        """That of a part."""
        return self.part.spread

    @property
    def identity(self) -> str:
        """What each part fixes."""
        return self.part.identity

    def cdf(self, x: float) -> float:
        """That of a part."""
        return self.part.cdf(x)

    def misfit(self, values: Tensor) -> tuple[float, float]:
        """Return the largest of all parts."""
        parts = values.view(self.shape).chunk(self.count, self.axis)
        found = [self.part.misfit(part.contiguous()) for part in parts]
        return max(misfit for misfit, _ in found), max(allowed for _, allowed in found)

    def fill(self, tensor: Tensor, generator: Generator) -> None:
        """Fill each part as a tensor of its own, from one generator."""
        for part in tensor.view(self.shape).chunk(self.count, self.axis):
            drawn = part.contiguous()
            self.part.fill(drawn, generator)
            if drawn.data_ptr() != part.data_ptr():
                part.copy_(drawn)


@dataclass(frozen=True, slots=True)
class Repeated:
    """A smaller tensor of which each row stands `times` times, one beneath the other.

    Attributes:
        part: the law of the smaller one.
        shape: the whole tensor's.
        times: how often each row stands.
    """

    part: Law
    shape: tuple[int, ...]
    times: int
    is_sequential = False
    identity = "repetition"

    @property
    def mean(self) -> float:
        """That of the smaller one."""
        return self.part.mean

    @property
    def std(self) -> float:
        """That of the smaller one."""
        return self.part.std

    @property
    def low(self) -> float:
        """That of the smaller one."""
        return self.part.low

    @property
    def high(self) -> float:
        """That of the smaller one."""
        return self.part.high

    @property
    def is_random(self) -> bool:
        """Whether the smaller one is."""
        return self.part.is_random

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """The mean, and of normals the deviation.

        The shares of fewer elements stray further than `distribution` allows, and the spread
        of others bounds their deviation only where they do not depend on each other.
        """
        known: tuple[Statistic, ...] = (
            ("mean", "std") if isinstance(self.part, Normal) else ("mean",)
        )
        return tuple(each for each in known if each in self.part.statistics)

    @property
    def spread(self) -> float:
        """√times that of the smaller one: as few as it has elements are independent."""
        return math.sqrt(self.times) * self.part.spread

    def cdf(self, x: float) -> float:
        """That of the smaller one."""
        return self.part.cdf(x)

    def misfit(self, values: Tensor) -> tuple[float, float]:
        """Count what differs from the first of its rows, and add the smaller one's."""
        rows = values.view(-1, self.times, *self.shape[1:])
        first = rows[:, :1]
        misfit, allowed = self.part.misfit(first.squeeze(1).contiguous())
        return float((rows != first).count_nonzero()) + misfit, allowed

    def fill(self, tensor: Tensor, generator: Generator) -> None:
        """Fill the smaller one and repeat its rows."""
        part = tensor.new_empty((self.shape[0] // self.times, *self.shape[1:]))
        self.part.fill(part, generator)
        tensor.view(-1, self.times, *self.shape[1:]).copy_(part.unsqueeze(1))
