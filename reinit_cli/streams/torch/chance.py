"""Take random numbers from a generator of torch, into arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule, dataclass
from reinit_cli.streams.chance import Array, Chance, Choice
from reinit_cli.streams.torch.mersenne import is_known, later
from reinit_cli.streams.torch.truncated import Rejection

if TYPE_CHECKING:
    import numpy as np
    import torch
else:
    np = LazyModule("numpy")
    torch = LazyModule("torch")

_LEAST_LONG = 2**31
"""The fewest elements whose places do not fit into 32 bits."""


@dataclass(frozen=True, slots=True)
class TorchChance:
    """The numbers that a generator of torch gives, one after the other.

    Those of another device are drawn there, as torch draws them for a tensor of this shape, and
    copied.

    Attributes:
        source: gives them; it is moved on.
    """

    source: torch.Generator
    is_indexed = False
    portion_numel = 1

    def at(self, element: int) -> Chance:
        """Refuse: how many numbers an element takes depends on those before it.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError

    def uniform(self, out: Array, low: float, high: float) -> None:
        """Draw as `Tensor.uniform_` does."""
        self._fill(out, lambda to: to.uniform_(low, high, generator=self.source))

    def normal(self, out: Array, mean: float, std: float) -> None:
        """Draw as `Tensor.normal_` does."""
        self._fill(out, lambda to: to.normal_(mean, std, generator=self.source))

    def truncated(self, out: Array, center: float, scale: float, low: float, high: float) -> None:
        """Draw as `torch.nn.init.trunc_normal_` does."""
        way = Rejection(center, scale, low, high)
        self._fill(out, lambda to: way.fill(to, self.source))

    def truncated_blocks(
        self, numel: int, dtype: np.dtype[np.generic], way: Rejection
    ) -> Iterator[Array]:
        """Yield what `truncated` writes, on a CPU, in 1-D arrays, each of which is gone with the next."""
        for block in way.blocks(numel, getattr(torch, dtype.name), self.source):
            yield block.numpy()

    def permutation(self, numel: int) -> Array:
        """Permute as `torch.randperm` does; in int32 where that has room, with the same order."""
        index = torch.int32 if numel < _LEAST_LONG else torch.int64
        device = self.source.device
        order = torch.randperm(numel, generator=self.source, device=device, dtype=index)
        return order.cpu().numpy()

    def chosen(self, rows: int, columns: int, count: int) -> Choice:
        """Refuse: these places could be had again from their permutations alone.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError

    def generator(self) -> torch.Generator:
        """Return the generator itself."""
        return self.source

    def _fill(self, out: Array, draw: Callable[[torch.Tensor], object]) -> None:
        tensor = torch.from_numpy(out)
        device = self.source.device
        drawn = tensor if device.type == "cpu" else torch.empty_like(tensor, device=device)
        draw(drawn)
        if drawn is not tensor:
            tensor.copy_(drawn)


def set_apart(chance: Chance, words: int | None) -> TorchChance | None:
    """Return a chance that gives the next numbers, and let the given one go on after them.

    Args:
        chance: from torch's stream; anything else cannot be moved.
        words: how many random numbers of 32 bits are set apart, or None where it is not known.

    Returns:
        None where that cannot be done; nothing has changed then.
    """
    if words is None or not isinstance(chance, TorchChance):
        return None
    generator = chance.source
    if not is_known(generator):
        return None
    first = generator.clone_state()
    generator.set_state(later(first, words).get_state())
    return TorchChance(first)
