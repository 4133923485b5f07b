"""Read the masks by which rules fill parts of tensors, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reinit_cli.checkpoints.references import OpenDonors, References
from reinit_cli.errors import TensorError
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.tensors.masks import count_ones

Place = tuple[str, str]
"""A checkpoint, and the key of a mask in it."""


def masks_of(plan: Plan) -> tuple[str, ...]:
    """Return the checkpoints of masks that a plan needs."""
    return tuple(dict.fromkeys(name for name, _ in _places(plan)))


def with_masks(plan: Plan, references: References) -> Plan:
    """Return a plan that knows how many elements its masks cover.

    Args:
        plan: what happens to every key.
        references: the checkpoints of its masks, among others.

    Raises:
        TensorError: a mask has other values than 0 and 1.
        SourceError: a mask cannot be read.
    """
    places = _places(plan)
    if not places:
        return plan
    with references.opened((), plan.request.seed, masks_of(plan)) as donors:
        counts = {place: _count(donors, place) for place in places}
        donors.check_unchanged()
    steps = tuple(
        replace(step, patches=tuple(_counted(patch, counts) for patch in step.patches))
        if step.patches
        else step
        for step in plan.steps
    )
    return replace(plan, steps=steps)


def _places(plan: Plan) -> dict[Place, None]:
    patches = (patch for step in plan.steps for patch in step.patches)
    return {
        (patch.part.mask, patch.mask_key): None
        for patch in patches
        if patch.part is not None and patch.mask_key
    }


def _count(donors: OpenDonors, place: Place) -> int:
    """Return how many elements a mask covers.

    Raises:
        TensorError: it has other values than 0 and 1.
    """
    try:
        return count_ones(donors.view(*place))
    except ValueError as error:
        raise TensorError(place[1], str(error), kind="mask", of=place[0]) from None


def _counted(patch: Step, counts: Mapping[Place, int]) -> Step:
    if patch.part is None or not patch.mask_key:
        return patch
    return replace(
        patch, tensor=patch.tensor.with_shape((counts[patch.part.mask, patch.mask_key],))
    )
