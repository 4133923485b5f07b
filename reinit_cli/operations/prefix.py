"""Find the prefix that keys of one source have and those of another do not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from itertools import product

from reinit_cli.initializers.prefixes import Prefix, beginnings, common_beginnings
from reinit_cli.lazy import dataclass
from reinit_cli.request.pattern import Pattern

_MOST_SHARED = 5
"""The most keys of both sources that a rename leaves alone one by one."""

_BACKSLASH = "\\"

_LEAST_SHARE = 0.9
"""The share of the keys that a prefix must explain, of those that either source has alone."""


@dataclass(frozen=True, slots=True)
class PrefixDifference:
    """A prefix by which keys differ.

    Attributes:
        prefix: what makes keys of the first source those of the second.
        explained: how many keys are the same but for it.
        unexplained: how many others only one of the sources has, after a rename by it.
        shared: a few keys that both sources have, and that a prefix in front would change.
    """

    prefix: Prefix
    explained: int = 0
    unexplained: int = 0
    shared: tuple[str, ...] = ()

    @property
    def rename(self) -> str:
        """The rename that makes keys of the first source those of the second."""
        removed, added = self.prefix
        if removed or not self.shared:
            old = Pattern.escape(removed).replace("=", "[=]") if removed else ""
            return f"{old}*={Pattern.escape(added) if added else ''}*"
        others = "|".join(f"{re.escape(key)}$" for key in self.shared)
        return f"re:(?!{others})(.*)={added.replace(_BACKSLASH, 2 * _BACKSLASH)}{_BACKSLASH}1"

    def applied(self, key: str) -> str:
        """Return the name of a key of the first source under the rename."""
        name = None if key in self.shared else self.prefix.applied(key)
        return key if name is None else name


def prefix_between(first: AbstractSet[str], second: AbstractSet[str]) -> PrefixDifference | None:
    """Return the prefix that explains nearly all differences between keys, or None.

    Args:
        first: the keys of a source.
        second: those of the other.
    """
    mine, theirs = first - second, second - first
    if not mine or not theirs:
        return None
    found = [_explaining(prefix, first, second) for prefix in _likely(mine, theirs)]
    fitting = [
        each
        for each in found
        if each.explained >= _LEAST_SHARE * min(len(mine), len(theirs))
        and each.unexplained < (len(mine) + len(theirs)) / 2
    ]
    return min(fitting, key=lambda each: (each.unexplained, each.rename), default=None)


def _likely(mine: AbstractSet[str], theirs: AbstractSet[str]) -> Iterator[Prefix]:
    """Yield the prefixes that may explain why keys differ."""
    removed = Counter(text for key in mine for text, rest in beginnings(key) if rest in theirs)
    added = Counter(text for key in theirs for text, rest in beginnings(key) if rest in mine)
    yield from (Prefix(removed=text) for text, _ in removed.most_common(2))
    yield from (Prefix(added=text) for text, _ in added.most_common(2))
    both = product(common_beginnings(mine), common_beginnings(theirs))
    yield from (Prefix(old, new) for old, new in both)


def _explaining(
    prefix: Prefix, first: AbstractSet[str], second: AbstractSet[str]
) -> PrefixDifference:
    both = first & second
    is_risky = not prefix.removed and len(both) <= _MOST_SHARED
    difference = PrefixDifference(prefix, shared=tuple(sorted(both)) if is_risky else ())
    renamed = [difference.applied(key) for key in first]
    names = set(renamed)
    # Two keys of one name would be refused.
    clashes = len(renamed) - len(names)
    explained = len(names & second) - len(both)
    left = len(names ^ second) + clashes * len(first)
    return replace(difference, explained=explained, unexplained=left)
