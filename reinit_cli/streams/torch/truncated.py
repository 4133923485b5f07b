"""Draw normals that are cut off at two bounds as torch does, by rejection.

torch draws the whole tensor again and again, until no element is left to be replaced. To draw
it block by block, each of these draws has a generator of its own, which starts as many random
numbers after that of the draw before as the tensor takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from reinit_cli.lazy import dataclass
from reinit_cli.streams.normals import normal_mass
from reinit_cli.streams.torch.groups import normal_words, whole_groups
from reinit_cli.streams.torch.mersenne import is_known, later

if TYPE_CHECKING:
    from torch import Generator, Tensor, dtype

WHOLE_NBYTES = 2**26
"""Up to this size a tensor is drawn whole: the generators of a larger one pay off."""

PEAK_OF_WHOLE = 4
"""How many times its bytes a whole tensor takes: values, candidates, chances and masks."""

_BLOCK_NUMEL = 2**18


@dataclass(frozen=True, slots=True)
class Rejection:
    """The way from normals or uniforms to a truncated normal.

    Where most of the normal lies inside the bounds, normals are drawn and those outside
    drawn again; otherwise uniforms are drawn and kept with the density's odds.

    Attributes:
        center, scale: the mean and std of the normal.
        low, high: the bounds.
    """

    center: float
    scale: float
    low: float
    high: float

    @property
    def keeps_most(self) -> bool:
        """Whether normals are drawn, rather than uniforms."""
        bounds = ((each - self.center) / self.scale for each in (self.low, self.high))
        return normal_mass(*bounds) > 0.3

    def fill(self, tensor: Tensor, generator: Generator) -> None:
        """Draw as `torch.nn.init.trunc_normal_` does."""
        if self.keeps_most:
            self._redraw_outside(tensor, generator)
        else:
            self._accept_uniforms(tensor, generator)

    def _redraw_outside(self, tensor: Tensor, generator: Generator) -> None:
        """Draw all of it, and then again, until nothing is left outside; on a CPU by blocks."""
        import torch

        low, high = self._bounds(tensor.dtype)
        at_once = _BLOCK_NUMEL if tensor.device.type == "cpu" else tensor.numel()
        blocks = torch.split(tensor.view(-1), list(whole_groups(tensor.numel(), at_once)))
        for block in blocks:
            block.normal_(self.center, self.scale, generator=generator)
        scratch = torch.empty_like(max(blocks, key=len))
        # Each round draws the whole tensor again: torch's values depend on it.
        while any(_is_outside(block, low, high).any() for block in blocks):
            for block in blocks:
                again = scratch[: len(block)]
                again.normal_(self.center, self.scale, generator=generator)
                torch.where(_is_outside(block, low, high), again, block, out=block)

    def _bounds(self, dtype: dtype) -> tuple[float, float]:
        """Return the bounds as a dtype has them: a value on the rounded bound is inside."""
        import torch

        low, high = torch.tensor((self.low, self.high), dtype=dtype, device="cpu").tolist()
        return low, high

    def _accept_uniforms(self, tensor: Tensor, generator: Generator) -> None:
        import torch

        candidates = torch.empty_like(tensor)
        chance = torch.empty_like(tensor)
        pending = torch.ones_like(tensor, dtype=torch.bool)
        while pending.any():
            candidates.uniform_(self.low, self.high, generator=generator)
            torch.where(pending, candidates, tensor, out=tensor)
            pending &= self._refuses(candidates, chance, generator)

    def _refuses(self, candidates: Tensor, chance: Tensor, generator: Generator) -> Tensor:
        """Return which candidates the density's odds refuse; both tensors are written over."""
        mode = max(self.low, min(self.center, self.high))
        log_peak = -0.5 * ((mode - self.center) / self.scale) ** 2
        candidates.sub_(self.center).div_(self.scale).pow_(2).mul_(-0.5).sub_(log_peak)
        return chance.uniform_(generator=generator).log_() > candidates

    def blocks(self, numel: int, dtype: dtype, generator: Generator) -> Iterator[Tensor]:
        """Yield what `fill` writes; of a large tensor each block until nothing is left of it.

        Args:
            numel: the elements of the whole tensor, which is on the CPU.
            dtype: theirs.
            generator: left where `fill` leaves it.
        """
        import torch

        if numel * dtype.itemsize <= WHOLE_NBYTES or not is_known(generator):
            whole = torch.empty(numel, dtype=dtype, device="cpu")
            self.fill(whole, generator)
            yield whole
            return
        draws = _Draws(generator, self._words(numel, dtype.itemsize))
        counts = list(whole_groups(numel, _BLOCK_NUMEL))
        scratch = tuple(torch.empty(3, max(counts), dtype=dtype, device="cpu"))
        fill = self._redraw_block if self.keeps_most else self._accept_block
        for count in counts:
            block, *others = (each[:count] for each in scratch)
            draws.begin_block(self._words(count, dtype.itemsize))
            fill(draws, block, *others)
            yield block
        generator.set_state(draws.end().get_state())

    def _words(self, numel: int, itemsize: int) -> int:
        """Return how many random numbers one draw of as many elements takes."""
        words = normal_words(numel, itemsize) if self.keeps_most else numel * itemsize // 4
        assert words is not None  # blocks are larger than a group
        return words

    def _redraw_block(self, draws: _Draws, block: Tensor, again: Tensor, _: Tensor) -> None:
        """Do what `_redraw_outside` does to one block."""
        import torch

        low, high = self._bounds(block.dtype)
        block.normal_(self.center, self.scale, generator=draws.next())
        while (outside := _is_outside(block, low, high)).any():
            again.normal_(self.center, self.scale, generator=draws.next())
            torch.where(outside, again, block, out=block)

    def _accept_block(
        self, draws: _Draws, block: Tensor, candidates: Tensor, chance: Tensor
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

    def __init__(self, start: Generator, words: int) -> None:
        """Begin with the first.

        Args:
            start: where it begins; stays there.
            words: the random numbers that each takes.
        """
        self._words = words
        self._last_start = start
        self._draws: list[tuple[Generator, int]] = [(start.clone_state(), 0)]
        self._number = self._of_block = self._reached = 0

    def begin_block(self, words: int) -> None:
        """Go back to the first draw, for the next block.

        Args:
            words: the random numbers that it takes of each draw.
        """
        self._reached += self._of_block
        self._of_block = words
        self._number = 0

    def next(self) -> Generator:
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

    def end(self) -> Generator:
        """Return a generator after the last draw of the tensor."""
        return later(self._last_start, self._words)


def _is_outside(block: Tensor, low: float, high: float) -> Tensor:
    return (block < low) | (block > high)
