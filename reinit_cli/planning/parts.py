"""Decide which rules own parts of tensors, and what these are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

from reinit_cli.errors import PatternError, RuleError
from reinit_cli.initializers import Elsewhere, Law, Transform, UndefinedError
from reinit_cli.initializers.donors import tensor_of
from reinit_cli.initializers.site import Site
from reinit_cli.planning.owner import Owner
from reinit_cli.planning.plan import Step
from reinit_cli.request.part import Part, Ranges, as_set
from reinit_cli.request.pattern import KeyIndex, Pattern
from reinit_cli.request.rule import Rule
from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import quoted

MOST_PARTS = 1000
"""The most rules on parts of one tensor; each is looked at for every block of it."""

_MOST_COMPARED = 64
"""How many parts of a tensor are looked through for one that a later one covers."""

Owners = Mapping[str, tuple[Owner, ...]]
"""For some keys the owners of parts of their tensors, the last of which owns what it covers."""


def refuse_ambiguous(rule: Rule, keys: Sequence[str], index: KeyIndex) -> None:
    """Refuse a rule on a part whose bracket, as a set of characters, matches a key.

    Raises:
        RuleError: it does.
    """
    part = rule.part
    if part is None or part.is_certain or rule.pattern.kinds is not None:
        return
    text = f"{rule.pattern.text}{part}"
    try:
        found = index.select(Pattern.parse(text))
    except PatternError:  # most slices are not a valid set
        return
    if found:
        key = keys[min(found)]
        problem = (
            f"rule {quoted(rule.text)} can mean the part {part} of the tensors that "
            f"{quoted(rule.pattern.text)} matches, or the key {key!r}, with {part} as a set of "
            "characters"
        )
        init = rule.text.removeprefix(text)
        ways = (
            f"{rule.pattern.text} {part}{init}",
            f"{as_set(rule.pattern.text, part.text)}{init}",
        )
        raise RuleError(rule.text, problem, ways, kind="part")


def settled_parts(
    matched: Mapping[str, Sequence[Owner]],
    owners: Mapping[str, Owner | None],
    ties: Mapping[str, tuple[str, ...]],
    shapes: Mapping[str, tuple[int, ...]],
) -> Owners:
    """Return the owners of parts of each tensor, those of all its keys together.

    Args:
        matched: for each key the rules on parts that match it, in their order.
        owners: which rule decides the rest of each.
        ties: for each key that shares its tensor, all keys of it.
        shapes: those of the tensors.

    Raises:
        RuleError: there are too many parts, or a rule on another key of a tensor disagrees.
    """
    found: dict[str, tuple[Owner, ...]] = {}
    for key in matched:
        if key in found:
            continue
        group = ties.get(key, (key,))
        last = owners[key]
        of_group = {
            (each.rank, str(each.rule.part)): (each, own)
            for own in group
            for each in matched.get(own, ())
        }
        for (rank, _), (each, own) in of_group.items():
            if last is not None and rank < last.rank:
                _refuse_overruled(each, own, last)
        left = [
            of_group[place][0] for place in sorted(of_group) if last is None or place[0] > last.rank
        ]
        if len(left) > MOST_PARTS:
            raise RuleError(
                key, f"{len(left):,} rules fill parts of {key!r}, and {MOST_PARTS:,} can"
            )
        found |= dict.fromkeys(group, tuple(_uncovered(left, shapes[key])))
    return found


def _refuse_overruled(part: Owner, key: str, last: Owner) -> None:
    """Refuse a rule that names a part, if a later one fills the tensor under another key.

    Raises:
        RuleError: it is such a rule.
    """
    if part.insists and part.rule.init != last.rule.init and not last.rule.pattern.matches(key):
        problem = (
            f"{key!r} is tied, but rule {quoted(part.rule.text)} and rule "
            f"{quoted(last.rule.text)} disagree"
        )
        raise RuleError(part.rule.text, problem, kind="tied")


def _uncovered(owners: Sequence[Owner], shape: tuple[int, ...]) -> list[Owner]:
    """Return the owners of parts, without those of which a later one covers all."""
    if len(owners) > _MOST_COMPARED:
        return list(owners)
    ranges = [_ranges(owner, shape) for owner in owners]
    return [
        owner
        for at, owner in enumerate(owners)
        if not any(_covers(later, ranges[at]) for later in ranges[at + 1 :])
    ]


def _ranges(owner: Owner, shape: tuple[int, ...]) -> Ranges | None:
    part = owner.rule.part
    assert part is not None
    try:
        return None if part.mask else part.ranges(shape)
    except ValueError:
        return None


def _covers(later: Ranges | None, earlier: Ranges | None) -> bool:
    if later is None or earlier is None:
        return False
    return all(
        each[0] in of and each[-1] in of and (each.step % of.step == 0 or len(each) == 1)
        for each, of in zip(earlier, later, strict=True)
    )


def part_step(step: Step, part: Part, mask_key: str) -> Step:
    """Return what happens to a tensor as what happens to a part of it.

    Args:
        step: what a rule would do with all of it.
        part: the part, which the tensor has.
        mask_key: the key of the mask in its checkpoint, or "".
    """
    try:
        ranges = part.ranges(step.tensor.shape)
    except ValueError:  # it is skipped
        ranges = ()
    shape = tuple(map(len, ranges))
    key = f"{step.key}{part}"
    tensor = replace(step.tensor, key=key, shape=shape, nbytes=_nbytes(step.tensor, shape))
    return replace(
        step,
        tensor=replace(tensor, storage=None, offset=0, stride=None),
        seed_key=f"{step.seed_key}{part}" if step.seed_key else "",
        tied=tuple(f"{each}{part}" for each in step.tied),
        part=part,
        ranges=ranges,
        mask_key=mask_key,
        is_partial=True,
    )


def _nbytes(tensor: TensorInfo, shape: tuple[int, ...]) -> int:
    return tensor.nbytes // max(1, tensor.numel) * prod(shape)


def mask_of(part: Part, tensor: TensorInfo, elsewhere: Elsewhere) -> str:
    """Return the key of the tensor that says which elements a part has; "" for slices.

    Raises:
        UndefinedError: there is none of the tensor's shape.
    """
    if not part.mask:
        return ""
    there = elsewhere.donors[part.mask]
    if len(there) == 1:
        (mask,) = there.values()
    else:
        mask = tensor_of(Site(tensor.key, tensor.dtype, elsewhere), part.mask, None)
    kind = DTYPES[mask.dtype].kind if mask.dtype in DTYPES and not mask.carried else ""
    if kind not in ("bool", "integer", "float"):
        raise UndefinedError(f"{part.mask!r} has {mask.carried or mask.dtype} for it, not a mask")
    if mask.shape != tensor.shape:
        of_mask, own = list(mask.shape), list(tensor.shape)
        raise UndefinedError(f"the mask {mask.key!r} of {part.mask!r} is {of_mask}, and it {own}")
    return mask.key


def why_no_part(part: Part, tensor: TensorInfo, law: Law | None) -> str:
    """Say why a law cannot fill a part of a tensor, or ""."""
    try:
        part.ranges(tensor.shape)
    except ValueError as error:
        return str(error)
    if not isinstance(law, Transform) or law.is_sequential:
        return ""
    if law.rearranges:
        return "it moves values of the whole tensor, and a part would lose some"
    return "it changes the values of the whole tensor together"
