"""Describe what a constructor fills the elements of a tensor with."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from reinit_cli.checkpoints.models.recording.arithmetic import Change
from reinit_cli.checkpoints.models.recording.regions import part_of, repeats, simplified
from reinit_cli.initializers import Law
from reinit_cli.initializers.families.orthogonals import Orthogonal
from reinit_cli.initializers.families.replays import Region
from reinit_cli.initializers.law import Constant, Normal, Uniform
from reinit_cli.initializers.truncated import TruncatedNormal
from reinit_cli.lazy import dataclass

Why = Literal["chance", "unfilled", "norms"]
"""Why a fill cannot be replayed: it is computed from chance, nobody fills it, or it holds the
norms of another tensor."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A fill that cannot be replayed.

    Attributes:
        reason: why, for people.
        why: the kind of the reason.
        draws: the numbers of the draws that it is computed from.
    """

    reason: str
    why: Why = "chance"
    draws: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Fill:
    """What some elements are filled with.

    Attributes:
        law: the law; None where they are computed without chance, and the memory has them.
        draw: the number of the draw that gives them; 0 for none.
        home: which elements of the draw they are, where that is known.
        changes: what was computed with them since.
    """

    law: Law | Unknown | None
    draw: int = 0
    home: Region | None = None
    changes: tuple[Change, ...] = ()

    @property
    def is_random(self) -> bool:
        """Whether its values depend on chance, or on nothing."""
        return self.law is not None and not isinstance(self.law, Constant)

    @property
    def draws(self) -> frozenset[int]:
        """The numbers of the draws that it depends on."""
        if isinstance(self.law, Unknown):
            return self.law.draws
        return frozenset((self.draw,)) if self.draw else frozenset()

    def of_part(self, inner: Region, outer: Region) -> Fill:
        """Return what a part of these elements is filled with.

        Args:
            inner: the part.
            outer: where all of them lie.
        """
        if not self.draw or not isinstance(self.law, Law):
            return self
        is_all = simplified(inner) == simplified(outer)
        is_same = is_all and (inner.shape == outer.shape or isinstance(self.law, Orthogonal))
        if not isinstance(self.law, ALIKE) and not is_same:
            problem = f"its constructor takes it from a larger {type(self.law).__name__}"
            return Fill(Unknown(problem, draws=self.draws))
        home = None if self.home is None else part_of(inner, outer, self.home)
        if home is not None and repeats(home):
            return Fill(Unknown("its constructor repeats values that it draws", draws=self.draws))
        return replace(self, home=home)


ALIKE = (Constant, Uniform, Normal, TruncatedNormal)
"""The laws of elements that are alike and independent, so that a part of them follows it too."""

COMPUTED = Fill(None)
"""What is computed without chance: the memory has it."""

UNFILLED = Fill(Unknown("its constructor leaves its memory unfilled", "unfilled"))
"""What nobody filled."""
