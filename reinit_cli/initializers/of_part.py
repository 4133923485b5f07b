"""Define what laws have in common whose elements follow the law of a part."""

from __future__ import annotations

from reinit_cli.initializers.law import Law
from reinit_cli.lazy import dataclass


@dataclass(frozen=True)
class OfPart(Law):
    """A law whose elements all follow the law of a part, which has the same moments and bounds.

    Attributes:
        part: the law of the part.
    """

    part: Law

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
