"""Architecture defaults: distributions recorded from a constructor and drawn again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reinit_cli.errors import RuleError
from reinit_cli.initializers.blocks import Take, nothing
from reinit_cli.initializers.law import Law
from reinit_cli.initializers.registry import register
from reinit_cli.initializers.site import Site
from reinit_cli.streams.mersenne import is_known, later
from reinit_cli.tensors.moments import BLOCK_NUMEL
from reinit_cli.tensors.slice import row_major

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor

_WHOLE_NUMEL = 2**22
"""Tensors of up to this many elements are drawn whole, part by part."""


@dataclass(frozen=True, eq=False)
class Values(Law):
    """Values that a constructor computes without chance, such as a table of positions.

    Attributes:
        values: the values, in the shape of the tensor.
    """

    values: Tensor
    is_random = False
    identity = "values"

    @property
    def mean(self) -> float:
        """Their mean."""
        return float(self.values.double().mean())

    @property
    def std(self) -> float:
        """Their standard deviation."""
        return float(self.values.double().std(correction=0))

    @property
    def low(self) -> float:
        """The smallest."""
        return float(self.values.min())

    @property
    def high(self) -> float:
        """The largest."""
        return float(self.values.max())

    def fill(self, tensor: Tensor, generator: Generator) -> None:
        """Copy the values."""
        del generator
        tensor.copy_(self.values)

    def blocks(
        self,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        generator: Generator,
        take: Take = nothing,
    ) -> Iterator[Tensor]:
        """Yield the values, converted block by block."""
        import torch

        del shape, generator, take
        flat = self.values.reshape(-1)
        for block in torch.split(flat, BLOCK_NUMEL):
            yield block.to(dtype, copy=True)

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return that it takes blocks alone; the values are there already."""
        del shape, itemsize
        return 0

    def cdf(self, x: float) -> float:
        """The share of the values that are at most x."""
        return float((self.values <= x).double().mean())

    def misfit(self, values: Tensor) -> tuple[float, float]:
        """Count the elements that differ."""
        expected = self.values.to(values.device, values.dtype)
        return float((values.view(expected.shape) != expected).count_nonzero()), 0.0


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


@dataclass(frozen=True, slots=True)
class Patched(Law):
    """A law of a tensor, and laws of its parts, drawn after it from the same stream.

    Attributes:
        numel: the elements of the whole.
        whole: the law of the whole, drawn first.
        parts: disjoint regions, and the law of each.
    """

    numel: int
    whole: Law
    parts: tuple[tuple[Region, Law], ...]

    @property
    def is_random(self) -> bool:
        """Whether any of the laws is."""
        return any(law.is_random for law, _ in self._shares)

    @property
    def _shares(self) -> list[tuple[Law, float]]:
        """The laws, and the share of the tensor that each fills in the end."""
        parts = [(law, region.numel / self.numel) for region, law in self.parts]
        return [(self.whole, 1 - sum(share for _, share in parts)), *parts]

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

    def fill(self, tensor: Tensor, generator: Generator) -> None:
        """Fill the whole, then the parts in the order in which they were recorded."""
        import torch

        self.whole.fill(tensor, generator)
        flat = tensor.view(-1)
        for region, law in self.parts:
            drawn = torch.empty(region.shape, dtype=tensor.dtype, device=tensor.device)
            law.fill(drawn, generator)
            flat.as_strided(region.shape, region.stride, region.offset).copy_(drawn)

    def blocks(
        self,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        generator: Generator,
        take: Take = nothing,
    ) -> Iterator[Tensor]:
        """Yield what `fill` writes; of a large tensor the parts are drawn first, and kept."""
        words = self.whole.words(self.numel, dtype.itemsize)
        if not self._is_in_blocks(dtype.itemsize) or words is None or not is_known(generator):
            yield from Law.blocks(self, shape, dtype, generator, take)
            return
        start = generator.clone_state()
        generator.set_state(later(start, words).get_state())
        parts = [(region, _filled(law, region, dtype, generator)) for region, law in self.parts]
        reached = 0
        for block in self.whole.blocks(shape, dtype, start):
            for region, drawn in parts:
                first, last = region.offset - reached, region.offset + region.numel - reached
                low, high = max(0, first), min(last, block.numel())
                if low < high:
                    block[low:high] = drawn[low - first : high - first]
            reached += block.numel()
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


def _filled(law: Law, region: Region, dtype: torch.dtype, generator: Generator) -> Tensor:
    """Return the values of a region, as a 1-D tensor."""
    import torch

    drawn = torch.empty(region.shape, dtype=dtype, device="cpu")
    law.fill(drawn, generator)
    return drawn.view(-1)


@register(
    purpose="elsewhere",
    law="the distribution that the architecture's own constructor uses",
    example="default",
    defined="tensors of the architecture: the source is a model's name, or --arch names it",
    takes_all=True,
)
def default(shape: tuple[int, ...], site: Site) -> Law:
    """Reproduce the model's own initialization, buffers included."""
    architecture = site.elsewhere.architecture
    if architecture is None:
        raise RuleError("default", kind="architecture")
    return architecture.law(site.key, shape)
