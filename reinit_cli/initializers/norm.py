"""Define the law of norms: what weight norm keeps next to a direction that is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reinit_cli.initializers.law import Law
from reinit_cli.lazy import LazyModule

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

_PEAK_PER_BYTE = 5
"""What a draw takes that says nothing of its memory."""


@dataclass(frozen=True, slots=True)
class NormOf(Law):
    """The norms of another draw, which is made again from the same stream.

    Squares are added in float64, in the order of the elements, so that the sums depend on
    neither blocks nor threads.

    Attributes:
        of: the law of that draw.
        shape: the shape of its tensor.
        is_wide: whether it is drawn in float64.
        dim: the dimension that has a norm for each index; None for one norm of everything.
    """

    of: Law
    shape: tuple[int, ...]
    is_wide: bool
    dim: int | None
    mean = math.nan
    std = math.nan
    low = 0.0
    is_sequential = False

    @property
    def is_random(self) -> bool:
        """Whether the draw is."""
        return self.of.is_random

    def fill(self, tensor: torch.Tensor, generator: torch.Generator) -> None:
        """Draw again, and write the norms."""
        import torch

        sums = torch.zeros(tensor.numel(), dtype=torch.float64, device=tensor.device)
        reached = 0
        for block in self._drawn(tensor, generator):
            at = torch.arange(reached, reached + block.numel(), device=block.device)
            reached += block.numel()
            at = at.zero_() if self.dim is None else self._index(at)
            sums.index_add_(0, at, block.double().square_())
        tensor.copy_(sums.sqrt_().view(tensor.shape))

    def working_nbytes(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return what the draw takes, and the sums."""
        del itemsize
        drawn = 8 if self.is_wide else 4
        of = self.of.working_nbytes(self.shape, drawn)
        if of is None:
            of = _PEAK_PER_BYTE * math.prod(self.shape) * drawn
        return of + 16 * math.prod(shape)

    def _drawn(self, tensor: torch.Tensor, generator: torch.Generator) -> Iterator[torch.Tensor]:
        dtype = torch.float64 if self.is_wide else torch.float32
        if tensor.device.type == "cpu":
            yield from self.of.blocks(self.shape, dtype, generator)
            return
        whole = torch.empty(self.shape, dtype=dtype, device=tensor.device)
        self.of.fill(whole, generator)
        yield whole.view(-1)

    def _index(self, at: torch.Tensor) -> torch.Tensor:
        """Turn the numbers of elements into their indices in the dimension."""
        assert self.dim is not None
        inner = math.prod(self.shape[self.dim + 1 :])
        return at.div_(inner, rounding_mode="floor").remainder_(self.shape[self.dim])
