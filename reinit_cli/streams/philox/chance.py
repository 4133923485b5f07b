"""Draw the numbers of one key of philox-1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule
from reinit_cli.streams.chance import Array
from reinit_cli.streams.philox.words import MORE_BITS, PLACES, VALUES, Words

if TYPE_CHECKING:
    import torch

    from reinit_cli.streams.philox.places import Chosen
else:
    torch = LazyModule("torch")


class PhiloxChance:
    """The numbers of a Philox key, from an element on (`reinit_cli.streams.chance.Chance`).

    Each way to draw is imported when it is used.

    Every element has numbers of its own: what a method fills first has those of `element`, which
    then moves on. One object serves one thread; another makes its own with `at`.
    """

    is_indexed = True
    portion_numel = 1

    def __init__(self, key: int, element: int = 0, device: str = "cpu") -> None:
        """Begin at an element; no numbers are made yet.

        Args:
            key: the Philox key, of 128 bits.
            element: the index of the first element, in row-major order.
            device: where numbers may be made; it never changes them.
        """
        self.key = key
        self.element = element
        self.device = device
        self._words, self._more, self._places = (
            Words(key, lane) for lane in (VALUES, MORE_BITS, PLACES)
        )
        self._generator: torch.Generator | None = None

    def at(self, element: int) -> PhiloxChance:
        """Return the chance of the elements from one on; this one stays where it is."""
        return PhiloxChance(self.key, element, self.device)

    def uniform(self, out: Array, low: float, high: float) -> None:
        """Fill an array from U[low, high)."""
        import numpy as np

        from reinit_cli.streams.philox.float64 import fill_uniform64
        from reinit_cli.streams.philox.uniform import fill_uniform

        values, at = self._next(out)
        with np.errstate(all="ignore"):
            if out.dtype == np.float32:
                fill_uniform(values, self._words, at, low, high)
            else:
                fill_uniform64(values, self._words, self._more, at, low, high)

    def normal(self, out: Array, mean: float, std: float) -> None:
        """Fill an array from N(mean, std²)."""
        import numpy as np

        from reinit_cli.streams.philox.float64 import fill_normal64
        from reinit_cli.streams.philox.normal import fill_normal

        values, at = self._next(out)
        with np.errstate(all="ignore"):
            if out.dtype == np.float32:
                fill_normal(values, self._words, at, mean, std)
            else:
                fill_normal64(values, self._words, self._more, at, mean, std)

    def truncated(self, out: Array, center: float, scale: float, low: float, high: float) -> None:
        """Fill an array from N(center, scale²) given that it lies in [low, high]."""
        import numpy as np

        from reinit_cli.streams.philox.tail import fill_truncated64
        from reinit_cli.streams.philox.truncated import FEWEST, fill_truncated, words_between

        values, at = self._next(out)
        with np.errstate(all="ignore"):
            if not scale:
                values[:] = max(low, min(high, center))
            elif out.dtype == np.float32 and words_between(center, scale, low, high)[1] >= FEWEST:
                fill_truncated(values, self._words, at, center, scale, low, high)
            else:
                fill_truncated64(values, self._words, self._more, at, center, scale, low, high)

    def permutation(self, numel: int) -> Array:
        """Return 0, 1, …, numel - 1 in a random order, in int64."""
        from reinit_cli.streams.philox.permutation import permutation

        at = self.element
        self.element += numel
        return permutation(self._places, at, numel)

    def chosen(self, rows: int, columns: int, count: int) -> Chosen:
        """Choose as many elements in each column of a matrix, which begins at this element.

        Their numbers are not those of the values, and nothing moves on.
        """
        from reinit_cli.streams.philox.places import chosen

        return chosen(self._places, self.element, rows, columns, count)

    def generator(self) -> torch.Generator:
        """Return a generator of torch's on the CPU, seeded with the low 63 bits of the key.

        Its numbers are torch's, with what these depend on. From another element than the first
        on, its index is added to the seed.
        """
        if self._generator is None:
            seed = (self.key + self.element) % 2**63
            self._generator = torch.Generator().manual_seed(seed)
        return self._generator

    def _next(self, out: Array) -> tuple[Array, int]:
        """Return an array in one dimension and the index of its first element, and move on."""
        import numpy as np

        if out.dtype not in (np.float32, np.float64) or not out.flags.c_contiguous:
            raise TypeError(f"a contiguous float32 or float64 array is filled, not {out.dtype}")
        at = self.element
        self.element += out.size
        return out.reshape(-1), at
