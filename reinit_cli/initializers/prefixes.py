"""Find the prefix that the keys of one checkpoint have and those of another do not.

Wrappers put one in front of every key: `module.` (DataParallel), `_orig_mod.` (torch.compile),
`model.` (Lightning).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_MOST_BEGINNINGS = 20
"""The most beginnings of a key that are tried; keys come from strangers."""

_LONGEST = 2_000
"""The longest key whose beginnings are tried."""

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each key."""


class Prefix(NamedTuple):
    """A prefix by which keys differ.

    Attributes:
        text: the prefix, with its dot.
        is_removed: whether it is taken away, rather than put in front.
    """

    text: str
    is_removed: bool

    def applied(self, key: str) -> str | None:
        """Return the other name of a key; None where it has not the prefix."""
        if not self.is_removed:
            return self.text + key
        return key.removeprefix(self.text) if key.startswith(self.text) else None


def beginnings(key: str) -> Iterator[tuple[str, str]]:
    """Yield what a key may have in front of another key, and that other key."""
    at = key.find(".") if len(key) <= _LONGEST else -1
    for _ in range(_MOST_BEGINNINGS):
        if at < 0:
            return
        yield key[: at + 1], key[at + 1 :]
        at = key.find(".", at + 1)


def fitting_prefixes(mine: Shapes, theirs: Shapes) -> tuple[Prefix, ...]:
    """Return the prefixes that make the keys of one checkpoint those of another.

    Half the tensors of the smaller one must be found in the other, in their shapes. Where they
    are found without a prefix, there is none.

    Args:
        mine: the tensors whose keys are changed.
        theirs: those of the other checkpoint.
    """
    needed = max(1, (min(len(mine), len(theirs)) + 1) // 2)
    if sum(theirs.get(key) == shape for key, shape in mine.items()) >= needed:
        return ()
    removed = _count(mine, theirs)
    added = _count(theirs, mine)
    return (
        *(Prefix(text, is_removed=True) for text, count in removed.items() if count >= needed),
        *(Prefix(text, is_removed=False) for text, count in added.items() if count >= needed),
    )


def _count(longer: Shapes, shorter: Shapes) -> Counter[str]:
    """Count the keys that are others without a prefix, by the prefix."""
    return Counter(
        text
        for key, shape in longer.items()
        for text, rest in beginnings(key)
        if shorter.get(rest) == shape
    )
