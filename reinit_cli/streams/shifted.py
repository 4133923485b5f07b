"""Move the elements of a tensor to a later place in a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reinit_cli.streams.chance import Chance

if TYPE_CHECKING:
    from torch import Generator


class Shifted:
    """The numbers of an indexed stream for a tensor whose elements follow those of others."""

    is_indexed = True

    def __init__(self, chance: Chance, first: int) -> None:
        """Stand at the first element.

        Args:
            chance: the stream of all of them.
            first: the index there of the first element of this tensor.
        """
        self._chance = chance
        self._first = first
        self._here = chance.at(first)
        self.portion_numel = chance.portion_numel
        self.uniform = self._here.uniform
        self.normal = self._here.normal
        self.truncated = self._here.truncated
        self.permutation = self._here.permutation
        self.chosen = self._here.chosen

    def at(self, element: int) -> Chance:
        """Return the chance of the elements of this tensor from one on."""
        return self._chance.at(self._first + element)

    def generator(self) -> Generator:
        """Return a generator of torch for laws that draw with torch themselves."""
        return self._here.generator()
