"""Define the laws of tensors that consist of smaller ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reinit_cli.initializers.blocks import Take, Taker, nothing
from reinit_cli.initializers.law import Law, Normal, Statistic
from reinit_cli.streams.mersenne import is_known, later
from reinit_cli.tensors.moments import BLOCK_NUMEL

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor

_LEAST_PART_NUMEL = 2**22
"""Parts of fewer elements that do not lie one after the other are drawn whole: a generator for
each of them would cost more."""


@dataclass(frozen=True)
class _OfParts(Law):
    """A law whose elements all follow the law of a smaller tensor.

    Attributes:
        part: the law of the smaller one.
        shape: the shape of the whole tensor.
    """

    part: Law
    shape: tuple[int, ...]

    @property
    def mean(self) -> float:
        """As of a part."""
        return self.part.mean

    @property
    def std(self) -> float:
        """As of a part."""
        return self.part.std

    @property
    def low(self) -> float:
        """As of a part."""
        return self.part.low

    @property
    def high(self) -> float:
        """As of a part."""
        return self.part.high

    @property
    def is_random(self) -> bool:
        """Whether its parts are."""
        return self.part.is_random

    def cdf(self, x: float) -> float:
        """As of a part."""
        return self.part.cdf(x)


@dataclass(frozen=True)
class Blocks(_OfParts):
    """Equal parts along one dimension, each of one law, drawn one after the other.

    Attributes:
        count: how many there are.
        axis: along which dimension they lie.
    """

    count: int
    axis: int = 0

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """As of a part, since parts are independent."""
        return self.part.statistics

    @property
    def spread(self) -> float:
        """As of a part."""
        return self.part.spread

    @property
    def identity(self) -> str:
        """As of a part."""
        return self.part.identity

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

    def blocks(
        self,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        generator: Generator,
        take: Take = nothing,
    ) -> Iterator[Tensor]:
        """Yield what `fill` writes: part by part, or from all parts by turns."""
        part = self._part_shape
        if self._is_in_order and math.prod(part) > BLOCK_NUMEL:
            for _ in range(self.count):
                yield from self.part.blocks(part, dtype, generator)
        elif self._is_in_order:
            yield from self._several(dtype, generator)
        elif self._has_generators(dtype.itemsize) and is_known(generator):
            yield from self._by_turns(dtype, generator)
        else:
            yield from Law.blocks(self, shape, dtype, generator, take)

    @property
    def _part_shape(self) -> tuple[int, ...]:
        dims = list(self.shape)
        dims[self.axis] //= self.count
        return tuple(dims)

    @property
    def _is_in_order(self) -> bool:
        """Whether the parts lie one after the other."""
        return math.prod(self.shape[: self.axis]) == 1

    def _has_generators(self, itemsize: int) -> bool:
        """Whether each part gets a generator of its own."""
        numel = math.prod(self._part_shape)
        return numel >= _LEAST_PART_NUMEL and self.part.words(numel, itemsize) is not None

    def _several(self, dtype: torch.dtype, generator: Generator) -> Iterator[Tensor]:
        """Yield small parts that lie one after the other, several in a block."""
        import torch

        left, at_once = self.count, max(1, BLOCK_NUMEL // math.prod(self._part_shape))
        buffer = torch.empty((min(left, at_once), *self._part_shape), dtype=dtype, device="cpu")
        while left:
            parts = buffer[:left]
            for part in parts:
                self.part.fill(part, generator)
            yield parts.view(-1)
            left -= len(parts)

    def _by_turns(self, dtype: torch.dtype, generator: Generator) -> Iterator[Tensor]:
        """Yield rows of which each part has a piece, from one generator for each part."""
        import torch

        part = self._part_shape
        words = self.part.words(math.prod(part), dtype.itemsize)
        assert words is not None
        takers = []
        for _ in range(self.count):
            start = generator.clone_state()
            takers.append(Taker(self.part.blocks(part, dtype, start)))
            generator.set_state(later(generator, words).get_state())
        piece = math.prod(part[self.axis :])
        at_once = BLOCK_NUMEL // (piece * self.count)
        for rows in _portions(math.prod(part[: self.axis]), at_once):
            taken = torch.empty(rows * min(piece, BLOCK_NUMEL), dtype=dtype, device="cpu")
            if at_once:
                together = torch.empty(rows, self.count, piece, dtype=dtype, device="cpu")
                for at, taker in enumerate(takers):
                    taker.take_into(taken)
                    together[:, at] = taken.view(rows, piece)
                yield together.view(-1)
                continue
            for taker in takers:
                for numel in _portions(piece, BLOCK_NUMEL):
                    taker.take_into(taken[:numel])
                    yield taken[:numel]

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int | None:
        """Return what one part takes, or all where all are drawn by turns; or the whole."""
        known = self.part.working_nbytes(self._part_shape, itemsize)
        if known is None and self._is_in_order:
            return None
        working = known or 0
        if self._is_in_order:
            return working
        if self._has_generators(itemsize):
            # Each of the parts keeps two blocks.
            return self.count * (working + 2 * BLOCK_NUMEL * itemsize)
        numel = math.prod(shape)
        return None if known is None else working + (numel + numel // self.count) * itemsize

    def words(self, numel: int, itemsize: int) -> int | None:
        """As many as all parts."""
        words = self.part.words(numel // self.count, itemsize)
        return None if words is None else self.count * words


@dataclass(frozen=True)
class Repeated(_OfParts):
    """A smaller tensor with each row repeated `times` times.

    Attributes:
        times: how often each row is repeated.
    """

    times: int
    identity = "repetition"

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """The mean, and of normals the standard deviation.

        The shares of fewer elements stray further than `distribution` allows, and the spread
        of others bounds their deviation only where they do not depend on each other.
        """
        known: tuple[Statistic, ...] = (
            ("mean", "std") if isinstance(self.part, Normal) else ("mean",)
        )
        return tuple(each for each in known if each in self.part.statistics)

    @property
    def spread(self) -> float:
        """√times that of the smaller tensor, which has all the independent elements."""
        return math.sqrt(self.times) * self.part.spread

    def misfit(self, values: Tensor) -> tuple[float, float]:
        """Count elements that differ from the first row of their group, plus the misfit of the part."""
        rows = values.view(-1, self.times, *self.shape[1:])
        first = rows[:, :1]
        misfit, allowed = self.part.misfit(first.squeeze(1).contiguous())
        return float((rows != first).count_nonzero()) + misfit, allowed

    def fill(self, tensor: Tensor, generator: Generator) -> None:
        """Fill the smaller one and repeat its rows."""
        part = tensor.new_empty((self.shape[0] // self.times, *self.shape[1:]))
        self.part.fill(part, generator)
        tensor.view(-1, self.times, *self.shape[1:]).copy_(part.unsqueeze(1))

    def blocks(
        self,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        generator: Generator,
        take: Take = nothing,
    ) -> Iterator[Tensor]:
        """Yield each row of the smaller tensor several times, as its blocks come."""
        import torch

        del take
        numel = math.prod(shape[1:])
        taker = Taker(self.part.blocks(self._part_shape, dtype, generator))
        at_once = BLOCK_NUMEL // (numel * self.times)
        for rows in _portions(self._part_shape[0], at_once):
            some = torch.empty(rows, 1, numel, dtype=dtype, device="cpu")
            taker.take_into(some.view(-1))
            if at_once:
                yield some.expand(-1, self.times, -1).reshape(-1)
                continue
            for piece in torch.split(some.view(-1), BLOCK_NUMEL) * self.times:
                yield piece.clone()
        taker.finish()

    @property
    def _part_shape(self) -> tuple[int, ...]:
        return (self.shape[0] // self.times, *self.shape[1:])

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int | None:
        """Return what the smaller tensor takes, and a row of it, which is kept while it is repeated."""
        working = self.part.working_nbytes(self._part_shape, itemsize)
        return None if working is None else working + math.prod(shape[1:]) * itemsize

    def words(self, numel: int, itemsize: int) -> int | None:
        """As many as the smaller tensor."""
        return self.part.words(numel // self.times, itemsize)


def _portions(count: int, at_once: int) -> Iterator[int]:
    """Yield how many of some things are done together, at least one of them each time."""
    while count:
        some = min(count, max(1, at_once))
        yield some
        count -= some
