"""Find the state dict in what a pickle holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any, NoReturn

from reinit_cli.checkpoints.formats.base import Neighbor
from reinit_cli.checkpoints.formats.torch.contents.entries import entries_of
from reinit_cli.checkpoints.formats.torch.contents.holders import Holders
from reinit_cli.checkpoints.formats.torch.contents.outline_texts import summary_of
from reinit_cli.checkpoints.formats.torch.contents.parts import (
    Part,
    inner_parts,
    is_leaf,
    is_mapping,
    is_sequence,
    parts_of,
)
from reinit_cli.checkpoints.formats.torch.contents.places import Node, followed, places_of
from reinit_cli.checkpoints.formats.torch.contents.weights import (
    Scale,
    Weight,
    is_parameter,
    numel_of,
)
from reinit_cli.checkpoints.formats.torch.pickles.budget import MAX_DEPTH
from reinit_cli.checkpoints.formats.torch.pickles.record_kinds import (
    is_module_record,
    is_tensor_record,
)
from reinit_cli.checkpoints.formats.torch.pickles.tensor_records import Reading
from reinit_cli.errors import MalformedFileError, UnknownNameError, UnsupportedFormatError

ROOTS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "params")
"""Where training checkpoints keep the state dict, in the order in which they are tried."""

_WRAPPERS = ROOTS[:2]
"""Those of them that are never the name of a part of a network."""

NEARLY_ALL = 0.95
"""The part of all elements that a place must hold to be the state dict.

Heads and statistics that lie next to a network have less than what is left, and a second
network has more.
"""

OF_ITS_SIZE = 0.5
"""The part of a network's elements from which on another one is too large to be left aside."""

_COPIES = frozenset(("ema", "averaged", "average", "avg", "shadow", "swa", "teacher", "polyak"))
"""What copies of the weights are called."""

_FEW = 16
"""The entries up to which a known name may be something small, such as hyperparameters."""

_MOST_PLACES = 10
"""The places that are listed where none is the obvious one."""


class Search:
    """The search for the state dict of one file.

    Attributes:
        holders: the containers with tensors in them.

    Args:
        top: what its pickle holds.
        reading: tells what tensors are.
    """

    def __init__(self, top: Any, reading: Reading) -> None:
        self._top = Node("", top)
        self._budget = reading.budget
        self.holders = Holders(self._budget)
        self._scale = Scale(reading, self.holders)
        self._loose_scale = Scale(reading, self.holders, takes_loose=True)

    def found(self) -> Node:
        """Return the place of the state dict.

        A known name comes first, unless other networks of its size lie next to it; then the
        smallest place that holds nearly all of the weights.

        Raises:
            UnsupportedFormatError: there is none.
        """
        top = self._top.record
        if is_tensor_record(top):
            return self._top
        if not is_leaf(top) and self.holders.has(top):
            return self._smallest(self._top)
        empty = self._empty()
        if empty is not None:
            return empty
        problem = f"holds no state dict, but {summary_of(top, self._budget)}"
        raise UnsupportedFormatError(self._budget.path, problem, self._training(), kind="root")

    def named(self, root: str) -> Node:
        """Return the place that a user names; a name may hold dots itself.

        Raises:
            UnknownNameError: there is none, or it has no tensors.
        """
        is_deep = root.count(".") > MAX_DEPTH
        top = self._top
        node = top if root == "." else None
        if node is None and not is_deep:
            node = next(followed(top.record, root, self.holders, self._budget), None)
        if node is not None and not is_leaf(node.record):
            if node.in_training or not self.holders.has(node.record):
                holders = Holders(self._budget, in_training=True)
                if holders.has(node.record):
                    self.holders = holders
                    return node._replace(in_training=True)
            if self.holders.has(node.record) or self._is_empty(node.record):
                return node
        if node is top and is_tensor_record(top.record):
            return node
        known = tuple(islice(places_of(top.record, self.holders, self._budget), _MOST_PLACES))
        raise UnknownNameError(root, known=known, kind="root", of=self._budget.path)

    def neighbors(self, node: Node, storages: AbstractSet[str]) -> Iterator[Neighbor]:
        """Yield the networks next to a place and next to what it lies in.

        Those are copies that are called so, or have the same keys and shapes. What is the same
        network under another name is not yielded.

        Args:
            node: the place.
            storages: the storages of its tensors.
        """
        outer = self._top
        for container, taken in () if node.in_training else node.way:
            for part in self._opened(container):
                if part.at != taken.at:
                    other = self._smallest(outer.inside(part, self._budget))
                    is_same = is_copy(part.key)
                    if not is_same and self._scale.lies_in(other.record, storages):
                        continue
                    is_same = is_same or self._scale.agree(other.record, node.record)
                    if is_same or self._scale.has_floats(other.record):
                        yield Neighbor(other.path, is_same)
            outer = outer.inside(taken, self._budget)

    def refuse_twice(self, key: str, node: Node) -> NoReturn:
        """Refuse a state dict that has two entries of one key.

        Raises:
            UnsupportedFormatError: they lie in different containers, which can be named.
            MalformedFileError: they are two of one dictionary.
        """
        path = self._budget.path
        found = list(islice(followed(node.record, key, self.holders, self._budget), _MOST_PLACES))
        spelled = list(dict.fromkeys(map(_spelled, found)))
        if len(spelled) < 2:
            raise MalformedFileError(path, f"its state dict has the key {key!r} twice")
        problem = f"has two entries that are called {key!r}: {' and '.join(spelled[:2])}"
        raise UnsupportedFormatError(path, problem, tuple(self._parents(node, found)), kind="root")

    def _parents(self, node: Node, found: Sequence[Node]) -> Iterator[str]:
        """Yield the paths of the containers in a state dict that hold entries."""
        for each in found:
            names = [self._budget.text_of(part.key) for _, part in each.way[:-1]]
            if names:
                yield ".".join((*filter(None, (node.path,)), *names))

    def _smallest(self, node: Node) -> Node:
        """Return the smallest place in another that holds nearly all of its weights."""
        met = {id(node.record)}
        for _ in range(MAX_DEPTH):
            if is_module_record(node.record, self._budget):
                break
            opened = self._opened(node.record)
            inner = self._known(node, opened)
            if inner is not None:
                return self._nested(inner)
            heaviest = self._heaviest(node.record, opened)
            # The whole is called "" too, and what holds itself has no smallest place.
            if heaviest is None or heaviest.key == "" or id(heaviest.value) in met:
                break
            met.add(id(heaviest.value))
            node = node.inside(heaviest, self._budget)
        return node

    def _opened(self, record: Any) -> list[Part]:
        return [part for part in inner_parts(record, self._budget) if self.holders.opens(part)]

    def _known(self, node: Node, opened: Sequence[Part]) -> Node | None:
        """Return the place of a known name, unless other networks lie next to it."""
        named = {part.key: part for part in opened if part.key in ROOTS}
        for name in ROOTS:
            if name in named and self._wins(named[name], node.record, opened):
                return node.inside(named[name], self._budget)
        return None

    def _wins(self, part: Part, record: Any, opened: Sequence[Part]) -> bool:
        """Whether a part of a container outweighs the others, copies of it aside."""
        copies = [other for other in opened if other is not part and is_copy(other.key)]
        others = [other for other in opened if other is not part and not is_copy(other.key)]
        if copies and self._is_small(part.value):
            # An average of something else.
            most = _numel(self._loose_scale.of(part.value)) / OF_ITS_SIZE
            others += [each for each in copies if _numel(self._scale.of(each.value)) > most]
        if not others and not self._scale.own(record):
            return True
        scale = self._scale if self._scale.has_named(part.value) else self._loose_scale
        own = scale.of(part.value)
        weights = [self._beyond(scale, other.value, part.value) for other in others]
        weights.append(_without(scale.own(record), own))
        most = max(map(_numel, weights))
        return most < OF_ITS_SIZE * _numel(own) and numel_of(weights) <= _numel(own)

    def _is_small(self, record: Any) -> bool:
        """Whether a container has few tensors, so that it may not be the network."""
        return not any(
            True for _ in islice(entries_of(record, self._budget, self.holders), _FEW, None)
        )

    def _beyond(self, scale: Scale, other: Any, record: Any) -> Weight:
        """Weigh what a network has besides another's tensors; a copy of it has nothing."""
        own, weight = scale.of(record), scale.of(other)
        if _numel(weight) == _numel(own) and scale.agree(other, record):
            return {}
        return _without(weight, own)

    def _nested(self, node: Node) -> Node:
        """Follow further known names, as in {"model": {"state_dict": ...}}."""
        for _ in range(MAX_DEPTH):
            if is_module_record(node.record, self._budget):
                break
            opened = self._opened(node.record)
            inner = self._known(node, opened)
            if inner is None:
                break
            taken = inner.way[-1][1]
            if taken.key not in _WRAPPERS and self._heaviest(node.record, opened) != taken:
                break
            node = inner
        return node

    def _heaviest(self, record: Any, opened: Sequence[Part]) -> Part | None:
        """Return the part that holds nearly all weights of a container, copies aside."""
        if not opened or any(map(is_parameter, parts_of(record, self._budget))):
            return None
        counted = self._without_copies(opened)
        if len(counted) == 1 and self._is_alone(counted[0], record):
            return counted[0]
        is_named = bool(self._scale.own(record)) and not is_sequence(record)
        is_named = is_named or any(self._scale.has_named(part.value) for part in counted)
        scale = self._scale if is_named else self._loose_scale
        weights = [scale.of(part.value) for part in counted]
        total = numel_of((*weights, scale.own(record)))
        most, part = max(zip(map(_numel, weights), counted, strict=True), key=_first)
        return part if total and most >= NEARLY_ALL * total else None

    def _is_alone(self, part: Part, record: Any) -> bool:
        """Whether nothing that counts lies next to a part of a container."""
        if not any(is_tensor_record(each.value) for each in parts_of(record, self._budget)):
            return True
        # What lies loose counts where there is nothing else.
        return not self._scale.own(record) and self._scale.has_named(part.value)

    def _without_copies(self, opened: Sequence[Part]) -> list[Part]:
        """Return parts without those that are called copies of others among them."""
        others = [part for part in opened if not is_copy(part.key)]
        named = {_words(part.key) for part in others}

        def is_copied(part: Part) -> bool:
            self._budget.spend(1)
            return _words(part.key) - _COPIES in named or any(
                self._scale.agree(part.value, other.value) for other in others
            )

        return [part for part in opened if not (is_copy(part.key) and is_copied(part))]

    def _empty(self) -> Node | None:
        """Return the place of a known name that has nothing in it."""
        node = self._top
        for _ in range(MAX_DEPTH):
            parts = {
                part.key: part
                for part in inner_parts(node.record, self._budget)
                if part.key in ROOTS and is_mapping(part.value)
            }
            name = next((name for name in ROOTS if name in parts), None)
            if name is None:
                break
            node = node.inside(parts[name], self._budget)
        return node if node.way and self._is_empty(node.record) else None

    def _is_empty(self, record: Any) -> bool:
        return is_mapping(record) and not any(True for _ in parts_of(record, self._budget))

    def _training(self) -> tuple[str, ...]:
        """Return where optimizers lie that have tensors."""
        holders = Holders(self._budget, in_training=True)
        top = self._top.record
        if is_leaf(top) or not holders.has(top):
            return ()
        parts = [part for part in parts_of(top, self._budget) if holders.opens(part)]
        names = [self._budget.text_of(part.key) for part in parts if self.holders.leaves_out(part)]
        return tuple(names[:_MOST_PLACES]) or ("",)


def _spelled(node: Node) -> str:
    """Return how Python reaches a place."""
    return "".join(f"[{part.key!r}]" for _, part in node.way)


def is_copy(name: Any) -> bool:
    """Whether a name says that a network is an averaged copy of another."""
    return not _COPIES.isdisjoint(_words(name))


def _words(name: Any) -> frozenset[str]:
    if not isinstance(name, str):
        return frozenset()
    spaced = "".join(each if each.isalnum() else " " for each in name[:_MOST_CHARS].lower())
    return frozenset(word.rstrip("0123456789") for word in spaced.split())


_MOST_CHARS = 100


def _without(weight: Weight, other: Weight) -> Weight:
    return {place: numel for place, numel in weight.items() if place not in other}


def _first(pair: tuple[int, Part]) -> int:
    return pair[0]


def _numel(weight: Weight) -> int:
    return sum(weight.values())
