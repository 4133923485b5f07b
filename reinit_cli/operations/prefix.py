"""Find the prefix that keys of one source have and those of another do not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from reinit_cli.initializers.prefixes import beginnings
from reinit_cli.request.pattern import Pattern

_MOST_SHARED = 5
"""The most keys of both sources that a rename leaves alone one by one."""

_BACKSLASH = "\\"

_LEAST_SHARE = 0.9
"""The share of the keys that a prefix must explain, of those that either source has alone."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prefix by which keys differ.

    Attributes:
        text: the prefix, with its dot.
        is_removed: whether the first source has it, rather than the second.
        explained: how many keys are the same but for it.
        unexplained: how many others only one of the sources has, after a rename by it.
        shared: a few keys that both sources have, and that a prefix in front would change.
    """

    text: str
    is_removed: bool
    explained: int = 0
    unexplained: int = 0
    shared: tuple[str, ...] = ()

    @property
    def rename(self) -> str:
        """The rename that makes keys of the first source those of the second."""
        if self.is_removed:
            return f"{Pattern.escape(self.text).replace('=', '[=]')}*=*"
        if not self.shared:
            return f"*={Pattern.escape(self.text)}*"
        others = "|".join(f"{re.escape(key)}$" for key in self.shared)
        return f"re:(?!{others})(.*)={self.text.replace(_BACKSLASH, 2 * _BACKSLASH)}{_BACKSLASH}1"

    def applied(self, key: str) -> str:
        """Return the name of a key of the first source under the rename."""
        if self.is_removed:
            return key.removeprefix(self.text)
        return key if key in self.shared else self.text + key


def prefix_between(first: AbstractSet[str], second: AbstractSet[str]) -> Prefix | None:
    """Return the prefix that explains nearly all differences between keys, or None.

    Args:
        first: the keys of a source.
        second: those of the other.
    """
    mine, theirs = first - second, second - first
    if not mine or not theirs:
        return None
    removed = Counter(prefix for key in mine for prefix, rest in beginnings(key) if rest in theirs)
    added = Counter(prefix for key in theirs for prefix, rest in beginnings(key) if rest in mine)
    found = [
        *(_explaining(prefix, first, second, is_removed=True) for prefix in _likely(removed)),
        *(_explaining(prefix, first, second, is_removed=False) for prefix in _likely(added)),
    ]
    fitting = [
        each
        for each in found
        if each.explained >= _LEAST_SHARE * min(len(mine), len(theirs))
        and each.unexplained < (len(mine) + len(theirs)) / 2
    ]
    return min(fitting, key=lambda each: (each.unexplained, each.text), default=None)


def _likely(counts: Counter[str]) -> list[str]:
    return [prefix for prefix, _ in counts.most_common(2)]


def _explaining(
    text: str, first: AbstractSet[str], second: AbstractSet[str], *, is_removed: bool
) -> Prefix:
    both = first & second
    shared = tuple(sorted(both)) if not is_removed and len(both) <= _MOST_SHARED else ()
    prefix = Prefix(text, is_removed, shared=shared)
    renamed = [prefix.applied(key) for key in first]
    names = set(renamed)
    # Two keys of one name would be refused.
    clashes = len(renamed) - len(names)
    explained = len(names & second) - len(both)
    left = len(names ^ second) + clashes * len(first)
    return replace(prefix, explained=explained, unexplained=left)
