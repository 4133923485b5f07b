"""Define the laws of tensors that consist of smaller ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from reinit_cli.initializers.blocks import Filler, Take, nothing, pieces
from reinit_cli.initializers.law import Dtype, Law, Normal, Statistic
from reinit_cli.initializers.of_part import OfPart
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array, Chance
from reinit_cli.streams.shifted import Shifted
from reinit_cli.streams.torch.chance import set_apart
from reinit_cli.tensors.moments import BLOCK_NUMEL
from reinit_cli.tensors.portions import Portions

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_LEAST_PART_NUMEL = 2**22
"""Parts of fewer elements that do not lie one after the other are drawn whole: a generator for
each of them would cost more."""


@dataclass(frozen=True)
class _OfParts(OfPart):
    """A law whose elements all follow the law of a smaller tensor.

    Attributes:
        part: the law of the smaller one.
        shape: the shape of the whole tensor.
    """

    shape: tuple[int, ...]

    @property
    def is_random(self) -> bool:
        """Whether its parts are."""
        return self.part.is_random

    @property
    def library(self) -> str:
        """As of a part."""
        return self.part.library

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

    def of_rows(self, shape: tuple[int, ...]) -> Law | None:
        """Return the law of a part: its fans are those of the parts of the whole tensor."""
        return self.part.of_rows(shape)

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

    def misfit(self, values: Array) -> tuple[float, float]:
        """Return the largest of all parts."""
        parts = np.split(values.reshape(self.shape), self.count, self.axis)
        found = [self.part.misfit(np.ascontiguousarray(part)) for part in parts]
        return max(misfit for misfit, _ in found), max(allowed for _, allowed in found)

    def fill(self, values: Array, chance: Chance) -> None:
        """Fill each part as a tensor of its own, one after the other."""
        for part in np.split(values.reshape(self.shape), self.count, self.axis):
            drawn = np.empty(part.shape, part.dtype)
            self.part.fill(drawn, chance)
            part[...] = drawn

    def filler(self, shape: tuple[int, ...], dtype: Dtype, chance: Chance) -> Filler:
        """Return what fills runs: each part draws the elements that follow those of the last."""
        del shape
        if self._is_in_order and self.part.is_elementwise:
            return self.part.filler(self.shape, dtype, chance)
        part = self._part_shape
        numel = math.prod(part)

        # What fills a part may hold all of it: of parts in order one is held at a time.
        @lru_cache(maxsize=1 if self._is_in_order else self.count)
        def filler(number: int) -> Filler:
            return self.part.filler(part, dtype, Shifted(chance, number * numel))

        return partial(_fill_by_turns, filler, self.count, math.prod(part[self.axis :]))

    def blocks(
        self, shape: tuple[int, ...], dtype: Dtype, chance: Chance, take: Take = nothing
    ) -> Iterator[Array]:
        """Yield what `fill` writes: part by part, or from all parts by turns."""
        part = self._part_shape
        if self._is_in_order and math.prod(part) > BLOCK_NUMEL:
            for _ in range(self.count):
                yield from self.part.blocks(part, dtype, chance)
        elif self._is_in_order:
            yield from self._several(dtype, chance)
        elif takers := list(self._takers(dtype, chance)):
            yield from self._by_turns(dtype, takers)
        else:
            yield from Law.blocks(self, shape, dtype, chance, take)

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

    def _several(self, dtype: Dtype, chance: Chance) -> Iterator[Array]:
        """Yield small parts that lie one after the other, several in a block."""
        left, at_once = self.count, max(1, BLOCK_NUMEL // math.prod(self._part_shape))
        buffer = np.empty((min(left, at_once), *self._part_shape), dtype)
        while left:
            parts = buffer[:left]
            for part in parts:
                self.part.fill(part, chance)
            yield parts.reshape(-1)
            left -= len(parts)

    def _takers(self, dtype: Dtype, chance: Chance) -> Iterator[Portions]:
        """Yield what gives the elements of each part, where parts can have a chance of their own."""
        part = self._part_shape
        if not self._has_generators(dtype.itemsize):
            return
        words = self.part.words(math.prod(part), dtype.itemsize)
        for _ in range(self.count):
            own = set_apart(chance, words)
            if own is None:
                return
            yield Portions(self.part.blocks(part, dtype, own))

    def _by_turns(self, dtype: Dtype, takers: Sequence[Portions]) -> Iterator[Array]:
        """Yield rows of which each part has a piece."""
        part = self._part_shape
        piece = math.prod(part[self.axis :])
        at_once = BLOCK_NUMEL // (piece * self.count)
        for rows in _portions(math.prod(part[: self.axis]), at_once):
            taken = np.empty(rows * min(piece, BLOCK_NUMEL), dtype)
            if at_once:
                together = np.empty((rows, self.count, piece), dtype)
                for at, taker in enumerate(takers):
                    taker.take_into(taken)
                    together[:, at] = taken.reshape(rows, piece)
                yield together.reshape(-1)
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

    def filling_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int | None:
        """Return what one part takes, or all where they do not lie one after the other."""
        del shape
        working = self.part.filling_nbytes(self._part_shape, itemsize)
        return None if working is None else working * (1 if self._is_in_order else self.count)

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

    def of_rows(self, shape: tuple[int, ...]) -> Law | None:
        """Return the same repetition of fewer rows, each by the law that it has in the whole."""
        part = self.part.of_rows((shape[0] // self.times, *shape[1:]))
        is_whole = shape[0] % self.times == 0
        return None if part is None or not is_whole else replace(self, part=part, shape=shape)

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

    def misfit(self, values: Array) -> tuple[float, float]:
        """Count elements that differ from the first row of their group, plus the misfit of the part."""
        rows = values.reshape(-1, self.times, *self.shape[1:])
        first = rows[:, :1]
        misfit, allowed = self.part.misfit(np.ascontiguousarray(first[:, 0]))
        return float(np.count_nonzero(rows != first)) + misfit, allowed

    def fill(self, values: Array, chance: Chance) -> None:
        """Fill the smaller one and repeat its rows."""
        part = np.empty(self._part_shape, values.dtype)
        self.part.fill(part, chance)
        values.reshape(-1, self.times, *self.shape[1:])[...] = part[:, np.newaxis]

    def filler(self, shape: tuple[int, ...], dtype: Dtype, chance: Chance) -> Filler:
        """Return what fills runs: an element has the value of its row in the smaller tensor."""
        part = self.part.filler(self._part_shape, dtype, chance)
        row = math.prod(shape[1:])

        def fill(run: Array, at: int) -> None:
            for some, first in _lines(run, at, row):
                rows = len(some) // row
                number, rest = divmod(first, row)
                if not rows:
                    part(some, number // self.times * row + rest)
                    continue
                of_part = np.arange(number, number + rows) // self.times
                drawn = np.empty((of_part[-1] - of_part[0] + 1, row), dtype)
                part(drawn.reshape(-1), int(of_part[0]) * row)
                np.take(drawn, of_part - of_part[0], axis=0, out=some.reshape(rows, row))

        return fill

    def blocks(
        self, shape: tuple[int, ...], dtype: Dtype, chance: Chance, take: Take = nothing
    ) -> Iterator[Array]:
        """Yield each row of the smaller tensor several times, as its blocks come."""
        del take
        numel = math.prod(shape[1:])
        taker = Portions(self.part.blocks(self._part_shape, dtype, chance))
        at_once = BLOCK_NUMEL // (numel * self.times)
        for rows in _portions(self._part_shape[0], at_once):
            some = np.empty((rows, numel), dtype)
            taker.take_into(some.reshape(-1))
            if at_once:
                yield np.repeat(some, self.times, axis=0).reshape(-1)
                continue
            for _ in range(self.times):
                for piece in pieces(some.reshape(-1), BLOCK_NUMEL):
                    yield piece.copy()
        taker.finish()

    @property
    def _part_shape(self) -> tuple[int, ...]:
        return (self.shape[0] // self.times, *self.shape[1:])

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int | None:
        """Return what the smaller tensor takes, and a row of it, which is kept while it is repeated."""
        working = self.part.working_nbytes(self._part_shape, itemsize)
        return None if working is None else working + math.prod(shape[1:]) * itemsize

    def filling_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int | None:
        """Return what the smaller tensor takes."""
        del shape
        return self.part.filling_nbytes(self._part_shape, itemsize)

    def words(self, numel: int, itemsize: int) -> int | None:
        """As many as the smaller tensor."""
        return self.part.words(numel // self.times, itemsize)


def _portions(count: int, at_once: int) -> Iterator[int]:
    """Yield how many of some things are done together, at least one of them each time."""
    while count:
        some = min(count, max(1, at_once))
        yield some
        count -= some


def _lines(run: Array, at: int, line: int) -> Iterator[tuple[Array, int]]:
    """Yield a run as whole lines, with what it has of a line before and of one after them.

    Args:
        run: some elements of a tensor.
        at: the index of the first.
        line: the elements of a line; the first line starts at 0.

    Yields:
        Each of these, and the index of its first element.
    """
    head = min(-at % line, len(run))
    tail = len(run) - (len(run) - head) % line
    for start, stop in ((0, head), (head, tail), (tail, len(run))):
        if start < stop:
            yield run[start:stop], at + start


def _fill_by_turns(
    filler: Callable[[int], Filler], count: int, piece: int, run: Array, at: int
) -> None:
    """Fill a run of lines, of which each part has a piece.

    Args:
        filler: returns what fills runs of a part.
        count: the number of parts.
        piece: the elements of a piece.
        run: the run.
        at: the index of its first element.
    """
    for lines, first in _lines(run, at, count * piece):
        whole = len(lines) // (count * piece)
        if whole:
            drawn = np.empty(whole * piece, run.dtype)
            for number in range(count):
                filler(number)(drawn, first // count)
                lines.reshape(whole, count, piece)[:, number] = drawn.reshape(whole, piece)
            continue
        for some, start in _lines(lines, first, piece):
            for number, one in enumerate(pieces(some, piece)):
                row, rest = divmod(start + number * piece, piece)
                filler(row % count)(one, row // count * piece + rest)
