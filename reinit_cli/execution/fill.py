"""Describe segments whose bytes are drawn or converted, and who watches a draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from reinit_cli.lazy import dataclass
from reinit_cli.planning.plan import Step
from reinit_cli.storage.segments import Box, Copy, Range, Segment, View
from reinit_cli.tensors.blocks import Blocks
from reinit_cli.tensors.elements import Elements
from reinit_cli.tensors.moments import Moments

Form = Mapping[str, Any]
"""What one process tells another, as JSON."""


@dataclass(frozen=True, slots=True)
class Fill:
    """What a step of the plan draws; a segment where it lies in one place.

    Attributes:
        step: the step.
        nbytes: the bytes from the tensor's first element to its last.
        stride: how its elements lie in them; None means contiguous.
        under: what lies there now, where its elements leave gaps; else None.
        before: the tensor as it is now, if it is to be measured; else None.
        values: what a transform changes: the tensor as it is now, or another; else None.
        own: the tensor as it is now, where these are mixed with it; else None.
        zeros: the tensor as it is now, where its zeros are kept; else None.
        is_kept: whether what is drawn is kept until all of it is tested.
        is_tested: whether what is drawn is tested, block by block at least.
        saturates: whether values of another dtype that are beyond this one become its largest.
        shares: which elements of it each of several rules decides; none where one decides all.
        there: the present values of all elements, one after the other, where some of them stay.
    """

    step: Step
    nbytes: int
    stride: tuple[int, ...] | None = None
    under: Copy | None = None
    before: View | None = None
    values: View | None = None
    own: View | None = None
    zeros: View | None = None
    is_kept: bool = False
    is_tested: bool = False
    saturates: bool = False
    shares: tuple[Share, ...] = ()
    there: tuple[View | Fill, ...] = ()

    @property
    def whole(self) -> FillPart:
        """All of it, as it lies in one place."""
        return FillPart(self, self.nbytes, None, self.stride, self.under)


@dataclass(frozen=True, slots=True)
class Share:
    """The elements of a tensor that one of several rules decides, if no later one does.

    Attributes:
        step: what happens to them.
        fill: what they would be drawn as with all of the tensor; None where they are not drawn.
        values: the tensor whose values they get as these are; None for those that they have.
        mask: the tensor that says which elements they are; None where the step says it.
    """

    step: Step
    fill: Fill | None = None
    values: View | None = None
    mask: View | None = None


@dataclass(frozen=True, slots=True)
class Recast:
    """A tensor laid out contiguously, in a dtype.

    Attributes:
        key: its key.
        view: the tensor as it is.
        dtype: torch's name of the dtype it gets.
        nbytes: what it takes then.
        saturates: whether numbers beyond the dtype become its largest.
    """

    key: str
    view: View
    dtype: str
    nbytes: int
    saturates: bool = False


@dataclass(frozen=True, slots=True)
class FillPart:
    """One place of what is drawn or converted once, in whichever file of the output.

    Attributes:
        fill: what is drawn; all parts of one draw have the same object.
        nbytes: the bytes from the first element in this place to the last.
        box: which elements of the tensor lie here; None means all.
        stride: how they lie; None means contiguous.
        under: what lies here now, where they leave gaps; else None.
    """

    fill: Fill | Recast
    nbytes: int
    box: Box | None = None
    stride: tuple[int, ...] | None = None
    under: Copy | None = None


def filled_ranges(segments: Iterable[Segment]) -> dict[str, tuple[Range, ...]]:
    """Return, for each key that is filled in a file, the bytes of it there, place by place."""
    found: dict[str, tuple[Range, ...]] = {}
    reached = 0
    for segment in segments:
        fill = segment.fill if isinstance(segment, FillPart) else segment
        if isinstance(fill, Fill):
            place = reached, reached + segment.nbytes
            found[fill.step.key] = (*found.get(fill.step.key, ()), place)
        reached += segment.nbytes
    return found


class Observer(Protocol):
    """Looks at a tensor before it is filled, and at what is drawn, before that is rounded."""

    def see_before(self, blocks: Blocks, moments: Moments) -> None:
        """Look at the values before, block by block, if they are measured."""

    def see(self, block: Elements, moments: Moments) -> None:
        """Look at a block, in row-major order; it is gone with the next."""


Observe = Callable[["Step"], "Sequence[Observer]"]
"""Returns who is shown the draw of a step; called from any thread."""


class Watcher(Protocol):
    """Looks at all draws of a run, in this process or in others."""

    def observe(self, step: Step) -> Sequence[Observer]:
        """Return who is shown the draw of a step; called from any thread."""

    def forget(self) -> None:
        """Forget what was seen: another process knows of it."""

    def form(self) -> Form:
        """Return what was seen as JSON, for another process."""

    def take_over(self, form: Form) -> None:
        """Count what another process saw as seen; called from any thread."""


class Unwatched:
    """Looks at no draw."""

    def observe(self, step: Step) -> Sequence[Observer]:
        """Show a draw to nobody."""
        del step
        return ()

    def forget(self) -> None:
        """Forget nothing."""

    def form(self) -> Form:
        """Return nothing."""
        return {}

    def take_over(self, form: Form) -> None:
        """Take nothing over."""
        del form


UNWATCHED = Unwatched()
