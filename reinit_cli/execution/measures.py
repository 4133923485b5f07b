"""Measure what draws replace and what they give."""

from __future__ import annotations

from reinit_cli.lazy import dataclass
from reinit_cli.planning.plan import Step
from reinit_cli.tensors.blocks import Blocks
from reinit_cli.tensors.elements import Elements
from reinit_cli.tensors.moments import Moments


@dataclass(frozen=True, slots=True)
class Filled:
    """The statistics of one filled tensor.

    Attributes:
        key: its key.
        after: statistics of the drawn values, before rounding.
        before: statistics of the old values, if they were measured.
    """

    key: str
    after: Moments
    before: Moments | None

    def __add__(self, other: Filled) -> Filled:
        """Return the statistics of all rows of a tensor of which two processes drew some."""
        return Filled(self.key, self.after + other.after, self.before)


class Measurer:
    """Observes one tensor, and adds up its moments."""

    def __init__(self) -> None:
        """Begin with no element."""
        self.before: Moments | None = None
        self.after = Moments()

    def see_before(self, blocks: Blocks, moments: Moments) -> None:
        """Take the moments of the values before."""
        del blocks
        self.before = moments

    def see(self, block: Elements, moments: Moments) -> None:
        """Take a block into account."""
        del block
        self.after += moments


class Measures:
    """Observes all draws of a run, or none, since it takes a tenth of the time of a draw."""

    def __init__(self, *, is_asked: bool) -> None:
        """Measure all draws or none."""
        self._is_asked = is_asked
        self._measurers: dict[str, Measurer] = {}

    def observe(self, step: Step) -> Measurer | None:
        """Return who measures the draw of a step."""
        if not self._is_asked:
            return None
        measurer = self._measurers[step.drawn_as] = Measurer()
        return measurer

    def learn(self, filled: Filled) -> None:
        """Take over what was measured elsewhere."""
        measurer = self._measurers[filled.key] = Measurer()
        measurer.before, measurer.after = filled.before, filled.after

    def forget(self) -> None:
        """Forget what was measured."""
        self._measurers.clear()

    def filled(self) -> dict[str, Filled]:
        """Return what was measured, for each key that was drawn so far."""
        return {
            key: Filled(key, measurer.after, measurer.before)
            for key, measurer in self._measurers.items()
        }
