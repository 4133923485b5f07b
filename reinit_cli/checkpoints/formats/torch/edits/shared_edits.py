"""Keep what a pickle shares: with a state dict its own parts change, and nothing outside it.

Within the state dict everything that is a changed tensor changes with it: the modules of
recurrent networks hold their weights in lists too. Outside it whatever it shares stays, down
to a whole state dict that is kept under two keys.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from reinit_cli.checkpoints.formats.torch.contents.parts import Part, is_mapping
from reinit_cli.checkpoints.formats.torch.edits.replacements import Changed, Replacement
from reinit_cli.checkpoints.formats.torch.edits.spans import Spans
from reinit_cli.checkpoints.formats.torch.pickles.tensor_call import Span


def with_followers(
    spans: Spans, root: Any, replacements: Mapping[Span, Replacement], kept: AbstractSet[Span]
) -> dict[Span, Replacement]:
    """Return what replaces tensors, with everything in the state dict that is one of them.

    Args:
        spans: of the pickle.
        root: the state dict.
        replacements: what replaces its entries.
        kept: the values of entries that are the same objects, and stay or are dropped.

    Raises:
        UnsupportedFormatError: one of them changes in two ways.
    """
    within, events = spans.of(root), spans.events
    changes = _changes(replacements)
    stored = {
        numbers[-1]: source
        for source in changes
        if (numbers := events.within(source))
        and (events.start[numbers[-1]], events.end[numbers[-1]]) == source
    }
    found = dict(replacements)
    taken = _Taken((*replacements, *kept))
    candidates = [source for source in changes if _contains(within, source)]
    for number in events.within(within):
        if not events.is_put(number) and events.start[number] in stored:
            place = events.at[number], events.after[number]
            if not taken.has(place):
                candidates.append(place)
                changes[place] = changes[stored[events.start[number]]]
    for place in candidates:
        if not taken.has(place):
            change, *others = changes[place]
            if others:
                spans.refuse("one object changes in two ways")
            found[place] = change
    return found


def _changes(replacements: Mapping[Span, Replacement]) -> dict[Span, list[Changed]]:
    """Return the ways in which each tensor changes, by its bytes."""
    found: dict[Span, list[Changed]] = {}
    for each in replacements.values():
        if isinstance(each, Changed):
            known = found.setdefault(each.source, [])
            if each not in known[:2]:
                known.append(each)
    return found


class _Taken:
    """Spans that do not overlap, to look others up in."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = sorted(spans)

    def has(self, span: Span) -> bool:
        """Whether a span lies in one of them."""
        at = bisect_right(self._spans, (span[0], span[1])) - 1
        found = self._spans[max(at, 0) : at + 2]
        return any(_contains(each, span) for each in found)


def lies_alone(
    spans: Spans, root: Any, way: Sequence[tuple[Any, Part]], edits: Collection[Span]
) -> bool:
    """Whether what changes in a state dict lies in one place, and nothing outside shares it.

    Args:
        spans: of the pickle.
        root: the state dict.
        way: the containers on the way to it, each with the part that was taken.
        edits: what changes.

    Raises:
        UnsupportedFormatError: a part of it was made outside of it.
    """
    made = spans.of(root)
    if not all(_contains(made, span) for span in edits):
        spans.refuse(_OUTSIDE)
    return (not way or _place_of(spans, way) == made) and not _is_shared(spans, root, edits)


def in_its_place(
    spans: Spans,
    root: Any,
    way: Sequence[tuple[Any, Part]],
    replacements: Mapping[Span, Replacement],
) -> dict[Span, Replacement]:
    """Return what replaces a state dict with a changed one, in its own place alone.

    Raises:
        UnsupportedFormatError: its place is not known.
    """
    made = spans.of(root)
    place = _place_of(spans, way) if way else made
    if place is None:
        spans.refuse(_OUTSIDE)
    return {place: Changed(made, tuple(sorted(replacements.items())))} if replacements else {}


def _is_shared(spans: Spans, root: Any, edits: Collection[Span]) -> bool:
    """Whether something outside a state dict recalls a part of it in which others change."""
    made, events = spans.of(root), spans.events
    inside = events.within(made)
    spans.budget.spend(len(events.at) // 4)
    changes = sorted(start for start, _ in edits)
    for number in inside:
        if events.is_put(number) or events.is_atom[events.start[number]]:
            continue
        if _holds(spans, events.start[number], changes):
            insort(changes, events.at[number])
    return any(
        _holds(spans, events.start[number], changes)
        for numbers in (range(inside.start), range(inside.stop, len(events.at)))
        for number in numbers
        if not events.is_put(number)
        and events.start[number] in inside
        and not events.is_atom[events.start[number]]
        and (events.start[events.start[number]], events.end[events.start[number]]) not in edits
    )


def _holds(spans: Spans, number: int, changes: Sequence[int]) -> bool:
    """Whether something changes in what an event stored."""
    start, end = spans.events.start[number], spans.events.end[number]
    first = bisect_left(changes, start)
    return first < len(changes) and changes[first] < end


def _place_of(spans: Spans, way: Sequence[tuple[Any, Part]]) -> Span | None:
    """Return the bytes of a part in its container; None where they are not known."""
    _, part = way[-1]
    if part.holder is None:
        return None
    if is_mapping(part.holder):
        return spans.pairs(part.holder)[part.pair].value
    return spans.items(part.holder)[part.pair]


def _contains(outer: Span, inner: Span) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


_OUTSIDE = "a part of the state dict lies outside it too"
