"""Find the prefix that the keys of one checkpoint have and those of another do not.

Wrappers put one in front of every key: `module.` (DataParallel), `_orig_mod.` (torch.compile),
`model.` (Lightning).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from itertools import product
from typing import NamedTuple

_MOST_BEGINNINGS = 20
"""The most beginnings of a key that are tried; keys come from strangers."""

_LONGEST = 2_000
"""The longest key whose beginnings are tried."""

_MOST_COMMON = 3
"""The most beginnings of all keys that are tried."""

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each key."""


class Prefix(NamedTuple):
    """A change of what keys have in front.

    Attributes:
        removed: the prefix that is taken away, with its dot, or "".
        added: the one that is put in its place, or "".
    """

    removed: str = ""
    added: str = ""

    def applied(self, key: str) -> str | None:
        """Return the other name of a key; None where it has not the prefix."""
        return self.added + key[len(self.removed) :] if key.startswith(self.removed) else None


def beginnings(key: str) -> Iterator[tuple[str, str]]:
    """Yield what a key may have in front of another key, and that other key."""
    at = key.find(".") if len(key) <= _LONGEST else -1
    for _ in range(_MOST_BEGINNINGS):
        if at < 0:
            return
        yield key[: at + 1], key[at + 1 :]
        at = key.find(".", at + 1)


def common_beginnings(keys: Collection[str]) -> list[str]:
    """Return the shortest beginnings that more than half of some keys have."""
    counts = Counter(text for key in keys for text, _ in beginnings(key))
    return sorted(text for text, count in counts.items() if 2 * count > len(keys))[:_MOST_COMMON]


def fitting_prefixes(mine: Shapes, theirs: Shapes) -> tuple[Prefix, ...]:
    """Return the prefixes that make the keys of one checkpoint those of another.

    Half the tensors of the smaller one must be found in the other, in their shapes. Where they
    are found without a prefix, there is none. That both have a prefix of their own is what is
    thought of last.

    Args:
        mine: the tensors whose keys are changed.
        theirs: those of the other checkpoint.
    """
    needed = max(1, (min(len(mine), len(theirs)) + 1) // 2)
    if sum(theirs.get(key) == shape for key, shape in mine.items()) >= needed:
        return ()
    removed, added = _count(mine, theirs), _count(theirs, mine)
    one_sided = (
        *(Prefix(removed=text) for text, count in removed.items() if count >= needed),
        *(Prefix(added=text) for text, count in added.items() if count >= needed),
    )
    both = product(common_beginnings(mine), common_beginnings(theirs)) if not one_sided else ()
    exchanged = (Prefix(old, new) for old, new in both)
    return one_sided or tuple(each for each in exchanged if _found(each, mine, theirs) >= needed)


def _count(longer: Shapes, shorter: Shapes) -> Counter[str]:
    """Count the keys that are others without a prefix, by the prefix."""
    return Counter(
        text
        for key, shape in longer.items()
        for text, rest in beginnings(key)
        if shorter.get(rest) == shape
    )


def _found(prefix: Prefix, mine: Shapes, theirs: Shapes) -> int:
    """Count the tensors that are found under another prefix."""
    names = ((prefix.applied(key), shape) for key, shape in mine.items())
    return sum(name is not None and theirs.get(name) == shape for name, shape in names)
