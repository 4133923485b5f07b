"""Find the files of an output that have draws in common."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

from reinit_cli.execution.fill import FillPart
from reinit_cli.storage.segments import Segment

DrawOf = Callable[[Segment], Hashable]
"""Returns which draw a segment has in common with others; None where none."""


def draw_of(segment: Segment) -> Hashable:
    """Return the draw of which a segment is one place; None where it is all of a draw, or none."""
    return id(segment.fill) if isinstance(segment, FillPart) else None


def joined_by_draws(
    files: Mapping[str, Sequence[Segment]], common: DrawOf = draw_of
) -> list[list[str]]:
    """Return the files in groups; those of a group have draws in common, in their order.

    Args:
        files: the segments of each.
        common: which draws count.
    """
    names = list(files)
    leader = list(range(len(names)))  # of each file: another of its group, or itself the first
    first_with: dict[Hashable, int] = {}

    def first_of(at: int) -> int:
        while leader[at] != at:
            leader[at] = leader[leader[at]]
            at = leader[at]
        return at

    for at, name in enumerate(names):
        for draw in {common(each) for each in files[name]} - {None}:
            one, two = first_of(first_with.setdefault(draw, at)), first_of(at)
            leader[max(one, two)] = min(one, two)
    groups: dict[int, list[str]] = {}
    for at, name in enumerate(names):
        groups.setdefault(first_of(at), []).append(name)
    return list(groups.values())
