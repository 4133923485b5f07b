"""Architecture defaults: distributions recorded from a constructor and drawn again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from reinit_cli.errors import RuleError
from reinit_cli.initializers.blocks import Filler, Take, nothing, pieces
from reinit_cli.initializers.law import Dtype, Law
from reinit_cli.initializers.registry import register
from reinit_cli.initializers.site import Site
from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array, Chance
from reinit_cli.streams.shifted import Shifted
from reinit_cli.streams.torch.chance import set_apart
from reinit_cli.tensors.moments import BLOCK_NUMEL
from reinit_cli.tensors.slice import row_major

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_WHOLE_NUMEL = 2**22
"""Tensors of up to this many elements are drawn whole, part by part."""


@dataclass(frozen=True, eq=False)
class Values(Law):
    """Values that a constructor computes without chance, such as a table of positions.

    Attributes:
        values: the values, in the shape of the tensor.
    """

    values: Array
    is_random = False
    identity = "values"

    @property
    def is_whole(self) -> bool:
        """Whether they are integers."""
        return self.values.dtype.kind in "biu"

    @property
    def mean(self) -> float:
        """Their mean; of complex numbers, that of the real parts, as everything below."""
        return float(self._real.mean(dtype=np.float64))

    @property
    def std(self) -> float:
        """Their standard deviation."""
        return float(self._real.std(dtype=np.float64))

    @property
    def low(self) -> float:
        """The smallest."""
        return float(self._real.min())

    @property
    def high(self) -> float:
        """The largest."""
        return float(self._real.max())

    @property
    def _real(self) -> Array:
        real: Array = self.values.real
        return real

    def fill(self, values: Array, chance: Chance) -> None:
        """Copy the values."""
        del chance
        values[...] = self.values

    def filler(self, shape: tuple[int, ...], dtype: Dtype, chance: Chance) -> Filler:
        """Return what copies runs of the values."""
        del shape, dtype, chance
        flat = self.values.reshape(-1)

        def fill(run: Array, at: int) -> None:
            run[...] = flat[at : at + len(run)]

        return fill

    def blocks(
        self, shape: tuple[int, ...], dtype: Dtype, chance: Chance, take: Take = nothing
    ) -> Iterator[Array]:
        """Yield the values, converted block by block."""
        del shape, chance, take
        for block in pieces(self.values.reshape(-1), BLOCK_NUMEL):
            yield block.astype(dtype)

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return that it takes blocks alone; the values are there already."""
        del shape, itemsize
        return 0

    def filling_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return that it takes runs alone."""
        del shape, itemsize
        return 0

    def cdf(self, x: float) -> float:
        """The share of the values that are at most x."""
        return float((self._real <= x).mean())

    def misfit(self, values: Array) -> tuple[float, float]:
        """Count the elements that differ."""
        expected = self.values.astype(values.dtype)
        return float(np.count_nonzero(values.reshape(expected.shape) != expected)), 0.0


@dataclass(frozen=True, eq=False)
class Taken(Values):
    """Values that a constructor computes from chance, taken from a run of it."""

    library = "torch"


@dataclass(frozen=True, slots=True)
class Region:
    """Some elements of a contiguous tensor.

    Attributes:
        offset: the first, in elements.
        shape: their dimensions.
        stride: in elements.
    """

    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def is_run(self) -> bool:
        """Whether they lie one after the other."""
        steps = zip(self.shape, self.stride, row_major(self.shape), strict=True)
        return all(step == wanted for dim, step, wanted in steps if dim > 1)

    def of(self, flat: Array) -> Array:
        """Return the region of a tensor, which is given in one dimension, without a copy."""
        steps = [step * flat.itemsize for step in self.stride]
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, steps)

    def fill(self, filler: Filler, run: Array, at: int) -> None:
        """Fill what lies in a run of the tensor.

        Args:
            filler: fills runs of the region.
            run: the run.
            at: the index of its first element in the tensor.
        """
        for first, count, place, step in _rows_within(self, at, at + len(run)):
            drawn = np.empty(count, run.dtype)
            filler(drawn, first)
            run[place - at :: step][:count] = drawn


def _rows_within(
    region: Region, start: int, stop: int, index: int = 0
) -> Iterator[tuple[int, int, int, int]]:
    """Yield the elements of a region that lie in a run of the tensor, row by row.

    Args:
        region: the region.
        start: the first of the run.
        stop: the end of the run.
        index: that of the first element of the region.

    Yields:
        The index of the first of a row in the region, how many there are, the index of the
        first in the tensor, and how far apart they lie there.
    """
    if region.is_run:
        region = Region(region.offset, (region.numel,), (1,))
    dims, strides = region.shape, region.stride
    inner = list(zip(dims[1:], strides[1:], strict=True))
    reach = sum((dim - 1) * step for dim, step in inner)
    step = max(1, strides[0])
    first = max(0, -((region.offset + reach - start) // step))
    last = min(dims[0], -((region.offset - stop) // step))
    if not inner:
        if first < last:
            yield index + first, last - first, region.offset + first * step, step
        return
    numel = math.prod(dims[1:])
    for at in range(first, last):
        row = Region(region.offset + at * step, dims[1:], strides[1:])
        yield from _rows_within(row, start, stop, index + at * numel)


@lru_cache(maxsize=256)
def _visible(numel: int, regions: tuple[Region, ...]) -> tuple[int, ...]:
    if numel > _WHOLE_NUMEL:  # as if they were disjoint
        counts = [region.numel for region in regions[1:]]
        return max(0, regions[0].numel - sum(counts)), *counts
    painted = np.full(numel, -1, np.int32)
    for at, region in enumerate(regions):
        region.of(painted)[...] = at
    counts = np.bincount(painted[painted >= 0], minlength=len(regions)).tolist()
    return tuple(map(int, counts))


def visible(numel: int, regions: Sequence[Region]) -> tuple[int, ...]:
    """Return how many elements of each region no later one has.

    Args:
        numel: the elements of the tensor that they lie in.
        regions: the regions, in the order in which they are filled. Of a large tensor, those
            after the first are taken for disjoint.
    """
    return _visible(numel, tuple(regions))


@dataclass(frozen=True, slots=True)
class Patched(Law):
    """A law of a tensor, and laws of its parts, drawn after it from the same stream.

    Attributes:
        numel: the elements of the whole.
        whole: the law of the whole, drawn first.
        parts: regions, and the law of each; where two have an element, the later one fills it.
    """

    numel: int
    whole: Law
    parts: tuple[tuple[Region, Law], ...]

    @property
    def is_random(self) -> bool:
        """Whether any of the laws is."""
        return any(law.is_random for law, _ in self._shares)

    @property
    def library(self) -> str:
        """That of any of the laws."""
        return next((law.library for law, _ in self._shares if law.library), "")

    @property
    def _shares(self) -> list[tuple[Law, float]]:
        """The laws, and the share of the tensor that each fills in the end."""
        regions = (Region(0, (self.numel,), (1,)), *(region for region, _ in self.parts))
        laws = (self.whole, *(law for _, law in self.parts))
        counts = visible(self.numel, regions)
        return [(law, count / self.numel) for law, count in zip(laws, counts, strict=True) if count]

    @property
    def mean(self) -> float:
        """As of a mixture of the laws."""
        return sum(law.mean * share for law, share in self._shares)

    @property
    def std(self) -> float:
        """As of a mixture of the laws."""
        mean = self.mean
        squares = ((law.std**2 + (law.mean - mean) ** 2) * share for law, share in self._shares)
        return math.sqrt(sum(squares))

    @property
    def low(self) -> float:
        """The smallest of all parts."""
        return min(law.low for law, _ in self._shares)

    @property
    def high(self) -> float:
        """The largest of all parts."""
        return max(law.high for law, _ in self._shares)

    def cdf(self, x: float) -> float:
        """As of a mixture of the laws."""
        return sum(law.cdf(x) * share for law, share in self._shares)

    def fill(self, values: Array, chance: Chance) -> None:
        """Fill the whole, then the parts in the order in which they were recorded."""
        self.whole.fill(values, chance)
        flat = values.reshape(-1)
        for region, law in self.parts:
            region.of(flat)[...] = _filled(law, region, values.dtype, chance)

    def filler(self, shape: tuple[int, ...], dtype: Dtype, chance: Chance) -> Filler:
        """Return what fills runs: parts draw the elements that follow those of the whole."""
        whole = self.whole.filler(shape, dtype, chance)
        parts: list[tuple[Region, Filler]] = []
        reached = self.numel
        for region, law in self.parts:
            filler = law.filler(region.shape, dtype, Shifted(chance, reached))
            parts.append((region, filler))
            reached += region.numel

        def fill(run: Array, at: int) -> None:
            whole(run, at)
            for region, filler in parts:
                region.fill(filler, run, at)

        return fill

    def blocks(
        self, shape: tuple[int, ...], dtype: Dtype, chance: Chance, take: Take = nothing
    ) -> Iterator[Array]:
        """Yield what `fill` writes; of a large tensor the parts are drawn first, and kept."""
        is_in_blocks = self._is_in_blocks(dtype.itemsize)
        words = self.whole.words(self.numel, dtype.itemsize) if is_in_blocks else None
        start = set_apart(chance, words)
        if start is None:
            yield from Law.blocks(self, shape, dtype, chance, take)
            return
        parts = [
            (region, _filled(law, region, dtype, chance).reshape(-1)) for region, law in self.parts
        ]
        reached = 0
        for block in self.whole.blocks(shape, dtype, start):
            for region, drawn in parts:
                first, last = region.offset - reached, region.offset + region.numel - reached
                low, high = max(0, first), min(last, block.size)
                if low < high:
                    block[low:high] = drawn[low - first : high - first]
            reached += block.size
            yield block

    def _is_in_blocks(self, itemsize: int) -> bool:
        """Whether a tensor is large, and its parts can be put into blocks of it."""
        is_known_beforehand = self.whole.words(self.numel, itemsize) is not None
        runs = all(region.is_run for region, _ in self.parts)
        return self.numel > _WHOLE_NUMEL and is_known_beforehand and runs

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int | None:
        """Return what the parts take, and where they cannot be put into blocks, the whole."""
        kept = [region.numel * itemsize for region, _ in self.parts]
        known = [law.working_nbytes(region.shape, itemsize) for region, law in self.parts]
        known.append(self.whole.working_nbytes(shape, itemsize))
        if None in known:
            return None
        working = max(each for each in known if each is not None)
        if self._is_in_blocks(itemsize):
            return working + sum(kept)
        return working + self.numel * itemsize + max(kept, default=0)

    def filling_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int | None:
        """Return what the whole and the parts take together."""
        known = [law.filling_nbytes(region.shape, itemsize) for region, law in self.parts]
        known.append(self.whole.filling_nbytes(shape, itemsize))
        return None if None in known else sum(each or 0 for each in known)


def _filled(law: Law, region: Region, dtype: Dtype, chance: Chance) -> Array:
    """Return the values of a region."""
    drawn = np.empty(region.shape, dtype)
    law.fill(drawn, chance)
    return drawn


def _first_equal(site: Site, shape: tuple[int, ...]) -> str:
    """Return the first key whose tensor the constructor makes equal to this one."""
    del shape
    architecture = site.elsewhere.architecture
    if architecture is None or site.version == 1:
        return site.key
    return architecture.first_equal(site.key)


@register(
    purpose="elsewhere",
    law="the distribution that the architecture's own constructor uses",
    example="default",
    usage='-r "*={}"',
    defined="tensors of the architecture: the source is a model's name, or --arch names it",
    takes_all=True,
    drawn_as=_first_equal,
    version=2,
)
def default(shape: tuple[int, ...], site: Site) -> Law:
    """Reproduce the model's own initialization, buffers included.

    The constructor is followed, and its draws are drawn from the stream of each key; tensors that
    it makes equal are drawn from that of the first. A tensor whose law cannot be followed is taken
    from a real run of the constructor under the seed of its name: its values are those of this
    version of torch, and the plan says which tensors they are.
    """
    architecture = site.elsewhere.architecture
    if architecture is None:
        raise RuleError("default", kind="architecture")
    # Before there were real runs, such tensors were refused.
    seed = None if site.version == 1 else site.elsewhere.seed
    return architecture.law(site.key, shape, seed)
