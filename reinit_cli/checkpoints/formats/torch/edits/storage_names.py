"""Find the storages that a pickle still names when parts of it have left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.records import (
    COMPOSED,
    Persistent,
    inside_of,
)
from reinit_cli.lazy import dataclass

Where = tuple[int, int]
"""The identity of what holds something, and its number there."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """What leaves a pickle.

    Attributes:
        changing: the identities of records that become others, wherever in the state dict they
            lie.
        staying: the places in it where they do not.
        dropped: the places of what is left out, or replaced in one place alone.
    """

    changing: frozenset[int] = frozenset()
    staying: frozenset[Where] = frozenset()
    dropped: frozenset[Where] = frozenset()

    def has(self, where: Where, part: Any, *, in_root: bool) -> bool:
        """Whether a part leaves the place where it lies."""
        if where in self.dropped:
            return True
        return in_root and id(part) in self.changing and where not in self.staying


def names_used(tops: Sequence[Any], root: Any, leaving: Leaving, budget: Budget) -> set[str]:
    """Return the names of the storages that lie in something that stays.

    Args:
        tops: what the pickle holds, and what it makes and drops.
        root: the state dict in it.
        leaving: what leaves it.
        budget: what is left of the file's.
    """
    used: set[str] = set()
    seen: set[tuple[int, bool]] = set()
    waiting = [
        (top, top is root)
        for top in tops
        if not leaving.has((id(None), 0), top, in_root=top is root)
    ]
    while waiting:
        record, in_root = waiting.pop()
        if (id(record), in_root) in seen:
            continue
        seen.add((id(record), in_root))
        if isinstance(record, Persistent) and isinstance(record.id, tuple) and len(record.id) > 2:
            used.add(str(record.id[2]))
        for at, _, part in inside_of(record, budget):
            if not isinstance(part, COMPOSED):
                continue
            if not leaving.has((id(record), at), part, in_root=in_root):
                budget.spend(1, _VISIT_NBYTES)
                waiting.append((part, in_root or part is root))
    return used


_VISIT_NBYTES = 120
