"""Say of each step of a plan what is drawn, and what of the source that depends on."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from reinit_cli.execution.fill import Fill, Share
from reinit_cli.initializers import Move, Transform
from reinit_cli.lazy import dataclass
from reinit_cli.planning.memory import is_kept_for_tests
from reinit_cli.planning.plan import Step
from reinit_cli.planning.reshape import rows_alone
from reinit_cli.storage.segments import View
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.slice import narrowed


class Contents(Protocol):
    """Where the tensors of a source are read from."""

    def view(self, tensor: TensorInfo) -> View:
        """Return a tensor as it lies in bytes."""


class Donors(Protocol):
    """Other checkpoints that are open."""

    def view(self, donor: str, key: str) -> View:
        """Return a tensor of one of them as it lies in bytes."""


@dataclass(frozen=True, slots=True)
class Filling:
    """What fills depend on besides their steps.

    Attributes:
        contents: the source.
        donors: the other checkpoints that rules name.
        measures: whether tensors are measured before they are filled.
        checks: whether draws are tested.
        saturates: whether values of another dtype that are too large become its largest.
    """

    contents: Contents
    donors: Donors
    measures: bool = False
    checks: bool = False
    saturates: bool = False

    def of(self, step: Step, original: TensorInfo) -> Fill:
        """Return what a step draws.

        Args:
            step: the step.
            original: its tensor in the source.
        """
        if not step.patches:
            return self._whole(step, original)
        shares = tuple(
            self._share(share, step, original)
            for at, share in enumerate(step.shares)
            if at == 0 or share.action != "skip"
        )
        needs_there = self.measures or any(map(_needs_present, shares))
        return Fill(
            step,
            step.tensor.nbytes,
            before=self.contents.view(original) if self.measures else None,
            saturates=self.saturates,
            shares=shares,
            there=self._there(step, original) if needs_there else (),
        )

    def _whole(self, step: Step, original: TensorInfo) -> Fill:
        law = step.law
        reads = isinstance(law, Transform)
        needs_here = self.measures or reads or step.keeps_zeros
        here = self.contents.view(original) if needs_here else None
        values, own = here, None
        if isinstance(law, Transform) and law.donor is not None:
            values = self.donors.view(law.donor, law.donor_key or step.key)
            own = here if law.mixes else None
        return Fill(
            step,
            step.tensor.nbytes,
            before=here if self.measures else None,
            values=values if reads else None,
            own=own,
            zeros=here if step.keeps_zeros else None,
            saturates=self.saturates,
            is_kept=is_kept_for_tests(step, checks=self.checks),
            is_tested=self.checks,
        )

    def _share(self, share: Step, step: Step, original: TensorInfo) -> Share:
        """Return what a step about some elements of a tensor decides."""
        part, mask = share.part, None
        if part is not None and share.mask_key:
            mask = self.donors.view(part.mask, share.mask_key)
        if share.action != "fill":
            return Share(share, mask=mask)
        whole = replace(share, tensor=step.tensor, seed_key=step.seed_key, tied=step.tied)
        fill = replace(self, measures=False, checks=False)._whole(whole, original)
        if isinstance(share.law, Move) and not share.keeps_zeros:
            return Share(share, values=fill.values, mask=mask)
        return Share(share, fill, mask=mask)

    def _there(self, step: Step, original: TensorInfo) -> tuple[View | Fill, ...]:
        """Return the values that a tensor has before rules fill parts of it."""
        there = self.contents.view(original)
        if step.was is None or step.action == "fill":
            return (there,)
        kept = narrowed(there, step.axis, 0, step.kept_rows)
        return (kept,) if step.law is None else (kept, new_rows(step, there))


def _needs_present(share: Share) -> bool:
    """Whether elements depend on what they are now."""
    if share.fill is None:
        return share.values is None
    return isinstance(share.step.law, Transform) or share.step.keeps_zeros


def new_rows(step: Step, there: View) -> Fill:
    """Return what fills the new rows of a tensor that is resized.

    Args:
        step: the step.
        there: its tensor in the source.
    """
    new = rows_alone(step)
    values = there if isinstance(step.law, Transform) else None
    return Fill(new, new.tensor.nbytes, values=values)
