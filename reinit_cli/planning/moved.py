"""Find the tensors that get a storage of their own, and say what becomes of each entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reinit_cli.checkpoints.formats.respelling import NewEntry
from reinit_cli.planning.plan import Plan, Step
from reinit_cli.tensors.info import TensorInfo, tied_groups


def moved_of(steps: Sequence[Step], originals: Mapping[str, TensorInfo]) -> dict[str, Step]:
    """Return, for each key whose tensor moves, the step whose bytes are written.

    Tied keys are one tensor, written once: where it is drawn, by the step that names the stream.

    Args:
        steps: what happens to every entry.
        originals: the entries of the source, by their key there.
    """
    by_key = {step.key: step for step in steps}
    ties = tied_groups(tuple(step.tensor for step in steps))
    moved = [step for step in steps if _moves(step.tensor, originals[step.origin])]
    first: dict[str, Step] = {}
    for step in moved:
        if step.key not in first:
            group = [by_key[key] for key in ties.get(step.key, (step.key,))]
            drawn = next((each for each in group if each.key == each.seed_key), group[0])
            first |= dict.fromkeys((each.key for each in group), drawn)
    return first


def _moves(tensor: TensorInfo, original: TensorInfo) -> bool:
    """Whether a tensor cannot stay where it is."""
    return not tensor.carried and replace(tensor, key=original.key) != original


def new_entries(
    steps: Sequence[Step], originals: Mapping[str, TensorInfo], moved: Mapping[str, Step]
) -> Mapping[str, NewEntry | None]:
    """Return what becomes of the entries that change, by their key in the source.

    Args:
        steps: what happens to every entry of the output.
        originals: the entries of the source, by their key there.
        moved: for each key whose tensor moves, the step whose bytes are written.
    """
    entries: dict[str, NewEntry | None] = {}
    for step in steps:
        if step.key in moved:
            place = moved[step.key].key
            tensor = replace(step.tensor, storage=place, offset=0, stride=None)
            entries[step.origin] = NewEntry(step.key, tensor)
        elif step.key != step.origin:
            entries[step.origin] = NewEntry(step.key)
    kept = {step.origin for step in steps}
    return entries | {key: None for key in originals if key not in kept}


def new_slots(plan: Plan) -> Mapping[str, NewEntry | None]:
    """Return what becomes of the slots of optimizers that cannot stay where they are."""
    resized = (step for step in plan.slots if step.was is not None)
    entries: dict[str, NewEntry | None] = {
        step.key: NewEntry(step.key, replace(step.tensor, storage=step.key)) for step in resized
    }
    return entries | dict.fromkeys(plan.forgotten)
