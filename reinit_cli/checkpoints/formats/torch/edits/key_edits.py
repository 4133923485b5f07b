"""Rename and drop entries of a state dict in the dictionaries of a pickle that hold them.

The key of an entry is put together of the keys on the way to it. Whoever renames an entry of
a dictionary within the state dict can change its own part of the key, or that of the whole
dictionary where all of its entries move with it. Entries of lists, objects and modules have
no keys of their own in the pickle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from reinit_cli.checkpoints.formats.torch.contents.entries import Entry
from reinit_cli.checkpoints.formats.torch.contents.parts import is_leaf, is_mapping, parts_of
from reinit_cli.checkpoints.formats.torch.edits.spans import Pair, Spans
from reinit_cli.checkpoints.formats.torch.edits.writing import written_text
from reinit_cli.checkpoints.formats.torch.pickles.budget import MAX_DEPTH, Budget, has_text
from reinit_cli.checkpoints.formats.torch.pickles.records import pairs_of
from reinit_cli.checkpoints.formats.torch.pickles.tensor_call import Span

_PART_NBYTES = 200
"""What is noted of a part of the state dict takes."""


def key_edits(
    spans: Spans,
    root: Any,
    entries: Sequence[Entry],
    keys: Mapping[str, str | None],
    budget: Budget,
) -> dict[Span, bytes]:
    """Return what replaces the keys of entries, and what leaves entries out.

    Args:
        spans: of the pickle.
        root: the state dict.
        entries: all of its entries.
        keys: the new keys of those that get others, and None for those that are dropped.
        budget: what is left of the file's.

    Raises:
        UnsupportedFormatError: the pickle has no place for such keys.
    """
    ways = _ways(root, entries, budget)
    moves = []
    for entry in entries:
        way = ways.get(entry.key)
        if way is None:
            spans.refuse(f"it holds {entry.key!r} in a place that cannot be changed")
        moves.append(_Move(entry.key, keys.get(entry.key, entry.key), way, 0))
    names = _Names(spans)
    _decide(moves, names)
    return dict(names.edits(budget))


class _Part(NamedTuple):
    """A part of what the state dict is made of.

    Attributes:
        holder: what holds it.
        at: its number there.
        name: its key there, as text.
    """

    holder: Any
    at: int
    name: str


_Way = tuple[_Part, ...]
"""The parts on the way to an entry, itself included."""


class _Move(NamedTuple):
    """An entry on its way to another key.

    Attributes:
        key: its whole key.
        left: what is left of its new key at this depth; None where it is dropped.
        way: the way to it.
        depth: of this look at it.
    """

    key: str
    left: str | None
    way: _Way
    depth: int

    @property
    def part(self) -> _Part:
        """The part of the way at this depth."""
        return self.way[self.depth]

    @property
    def is_entry(self) -> bool:
        """Whether that is the entry itself."""
        return self.depth == len(self.way) - 1

    @property
    def below(self) -> str:
        """What comes after this part in the old key."""
        return ".".join(part.name for part in self.way[self.depth + 1 :])

    def within(self, name: str) -> _Move:
        """Return it at the next depth, after a part of that name."""
        left = None if self.left is None else self.left[len(name) + 1 :]
        return self._replace(left=left, depth=self.depth + 1)


def _ways(root: Any, entries: Sequence[Entry], budget: Budget) -> dict[str, _Way]:
    """Return the way to each entry, by its key."""
    wanted = {entry.key: entry.value for entry in entries}
    found: dict[str, _Way] = {}
    waiting: list[tuple[Any, str, _Way]] = [(root, "", ())]
    while waiting:
        record, prefix, way = waiting.pop()
        for key, value, at, *_ in parts_of(record, budget):
            if type(key) is not str and not has_text(key):
                continue
            budget.spend(1, _PART_NBYTES)
            name = budget.text_of(key)
            path = budget.made(prefix + name) if prefix else name
            longer = (*way, _Part(record, at, name))
            if path in wanted and wanted[path] is value:
                found[path] = longer
            elif not is_leaf(value) and len(way) < MAX_DEPTH:
                waiting.append((value, budget.made(f"{path}."), longer))
    return found


class _Names:
    """What becomes of the parts of dictionaries: the names that they get, or None.

    Attributes:
        spans: of the pickle.
    """

    def __init__(self, spans: Spans) -> None:
        self.spans = spans
        self._holders: dict[int, Any] = {}
        self._new: dict[int, dict[int, str | None]] = {}

    def note(self, part: _Part, name: str | None, key: str) -> None:
        """Note the new name of a part; None leaves it out.

        Args:
            part: the part.
            name: its new name.
            key: the entry for which this is, for people.
        """
        if name != part.name and not is_mapping(part.holder):
            what = "dropped" if name is None else "renamed"
            self.spans.refuse(f"{key!r} does not lie in a dictionary, so it cannot be {what}")
        holder = id(part.holder)
        self._holders[holder] = part.holder
        if self._new.setdefault(holder, {}).setdefault(part.at, name) != name:
            self.spans.refuse(f"{key!r} lies in a dictionary that it has in two places")

    def edits(self, budget: Budget) -> Iterator[tuple[Span, bytes]]:
        """Yield what replaces what."""
        for holder, new in self._new.items():
            record = self._holders[holder]
            if not is_mapping(record):
                continue
            old = [budget.text_of(key) for key, _ in pairs_of(record, budget)]
            changed = {at: name for at, name in new.items() if name != old[at]}
            if changed:
                self._check(old, changed)
                yield from _edits(self.spans.pairs(record), changed)

    def _check(self, old: list[str], changed: Mapping[int, str | None]) -> None:
        """Refuse names that a dictionary has already."""
        names = map(changed.get, range(len(old)), old)
        counts = Counter(name for name in names if name is not None)
        twice = next((name for name in changed.values() if name and counts[name] > 1), None)
        if twice is not None:
            self.spans.refuse(f"it holds {twice!r} already")


def _edits(
    pairs: Sequence[Pair], changed: Mapping[int, str | None]
) -> Iterator[tuple[Span, bytes]]:
    for at, name in changed.items():
        if name is None:
            yield from ((span, b"") for span in pairs[at].whole)
        else:
            yield pairs[at].key, written_text(name)


def _decide(moves: Sequence[_Move], names: _Names) -> None:
    """Decide on the names of parts at one depth, and of what is in them.

    Args:
        moves: the entries in one holder.
        names: what is decided.
    """
    groups: dict[int, list[_Move]] = {}
    for move in moves:
        groups.setdefault(move.part.at, []).append(move)
    for group in groups.values():
        first = group[0]
        if first.is_entry:
            names.note(first.part, first.left, first.key)
            continue
        name = _name_of(group, names.spans)
        names.note(first.part, name, first.key)
        _decide([move.within(name) for move in group], names)


def _name_of(group: Sequence[_Move], spans: Spans) -> str:  # noqa: RET503 (`refuse` raises)
    """Return the name of a part that holds entries, with which all their new keys start."""
    part = group[0].part
    kept = [move for move in group if move.left is not None]
    moved = [move for move in kept if not str(move.left).startswith(f"{part.name}.")]
    if not moved:
        return part.name
    for move in kept[:_MOST_TRIES]:
        name = str(move.left).removesuffix(f".{move.below}")
        if name != move.left and all(str(each.left).startswith(f"{name}.") for each in kept):
            return name
    spans.refuse(
        f"{moved[0].key!r} lies in a dictionary of its own, whose keys start with {part.name!r}"
    )


_MOST_TRIES = 10
"""The entries whose own names are taken for unchanged, one after the other."""
