"""Name the places in what a pickle holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from reinit_cli.checkpoints.formats.torch.contents.holders import Holders
from reinit_cli.checkpoints.formats.torch.contents.parts import (
    Part,
    attribute_parts,
    is_leaf,
    is_object,
    parts_of,
)
from reinit_cli.checkpoints.formats.torch.contents.weights import is_parameter
from reinit_cli.checkpoints.formats.torch.pickles.budget import MAX_DEPTH, Budget, has_text
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import (
    is_module_record,
    is_tensor_record,
    kind_of,
)


class Node(NamedTuple):
    """A place in what a pickle holds.

    Attributes:
        path: its keys, joined by dots; "" for the whole.
        record: what lies there.
        way: the containers on the way there, each with the part that was taken.
        in_training: whether it lies in an optimizer or a scheduler.
    """

    path: str
    record: Any
    way: tuple[tuple[Any, Part], ...] = ()
    in_training: bool = False

    def inside(self, part: Part, budget: Budget) -> Node:
        """Return the place of a part of it."""
        name = budget.text_of(part.key)
        path = budget.made(f"{self.path}.{name}") if self.way else name
        budget.spend(1 + len(self.way) // 8, _STEP_NBYTES * (1 + len(self.way)))
        return Node(path, part.value, (*self.way, (self.record, part)), self.in_training)


_STEP_NBYTES = 80


def followed(top: Any, path: str, holders: Holders, budget: Budget) -> Iterator[Node]:
    """Yield the places that a path leads to; several where keys hold dots themselves."""
    waiting = [(Node("", top), path)]
    met = set()
    while waiting:
        place, left = waiting.pop()
        if (id(place.record), len(left)) in met or len(place.way) > MAX_DEPTH:
            continue
        met.add((id(place.record), len(left)))
        budget.spend(1, _STEP_NBYTES)
        longer = []
        for part in _all_parts(place.record, budget):
            name = budget.text_of(part.key) if has_text(part.key) else None
            if name is None or not left.startswith(name):
                continue
            if len(left) == len(name):
                yield _inside(place, part, holders, budget)
            elif left[len(name)] == "." and not is_leaf(part.value):
                longer.append((_inside(place, part, holders, budget), left[len(name) + 1 :]))
        waiting += longer[::-1]


def _all_parts(record: Any, budget: Budget) -> Iterator[Part]:
    yield from parts_of(record, budget)
    if is_module_record(record, budget):
        yield from attribute_parts(record, budget)


def _inside(place: Node, part: Part, holders: Holders, budget: Budget) -> Node:
    inner = place.inside(part, budget)
    in_training = place.in_training or holders.leaves_out(part)
    return inner._replace(in_training=in_training)


def places_of(top: Any, holders: Holders, budget: Budget) -> Iterator[str]:
    """Yield the paths of what could be a state dict."""
    met = set()
    waiting = [Node("", top)]
    while waiting:
        place = waiting.pop()
        record = place.record
        is_met = id(record) in met or len(place.way) > MAX_DEPTH
        if is_met or is_leaf(record) or not holders.has(record):
            continue
        met.add(id(record))
        parts = list(parts_of(record, budget))
        is_module = is_module_record(record, budget)
        if is_module or any(is_tensor_record(part.value) for part in parts):
            yield place.path
        if not (is_module or any(map(is_parameter, parts))):
            opened = filter(holders.opens, parts)
            waiting += [place.inside(part, budget) for part in opened][::-1]


def rest_around(place: Node, budget: Budget) -> list[str]:
    """Return what lies next to a place and next to the containers on the way to it."""
    rest = []
    prefix = ""
    for container, taken in place.way:
        if not is_module_record(container, budget):
            for part in parts_of(container, budget):
                if part.at != taken.at:
                    budget.spend(1)
                    name = budget.text_of(part.key)
                    rest.append(budget.made(f"{prefix}{name} ({kind_of(part.value)})"))
        if is_object(container):
            # An object is more than its attributes.
            rest.append(budget.made(f"{prefix[:-1] or 'the whole'} ({kind_of(container)})"))
        prefix = budget.made(f"{prefix}{budget.text_of(taken.key)}.")
    return rest
