"""Match rules against keys, with ties settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reinit_cli.errors import RuleError
from reinit_cli.request.pattern import KeyIndex
from reinit_cli.request.rule import Rule


@dataclass(slots=True)
class _Matches:
    """Which rule owns each key, and how many keys each rule matched."""

    owner: list[int | None]
    counts: list[int] = field(default_factory=list)


def match_rules(keys: Sequence[str], rules: Sequence[Rule]) -> _Matches:
    """Match every rule against all keys; the last that matches a key owns it."""
    found = _Matches(owner=[None] * len(keys))
    index = KeyIndex(keys)
    for at, rule in enumerate(rules):
        selected = index.select(rule.pattern)
        found.counts.append(len(selected))
        for position in selected:
            found.owner[position] = at
    return found


def settle_ties(
    owners: dict[str, int | None], ties: Mapping[str, tuple[str, ...]], rules: Sequence[Rule]
) -> dict[str, int | None]:
    """Give all keys of one tensor to the last rule that owns any of them."""
    settled = dict(owners)
    for group in set(ties.values()):
        owned = [(owner, key) for key in group if (owner := owners[key]) is not None]
        if not owned:
            continue
        last, winner = max(owned, key=lambda pair: pair[0])
        for at, key in owned:
            insists = not rules[at].pattern.is_wildcard
            if insists and rules[at].init != rules[last].init:
                problem = (
                    f"{key!r} and {winner!r} are one tensor, but rule {rules[at].text!r} "
                    f"and rule {rules[last].text!r} say different things of it"
                )
                raise RuleError(rules[at].text, problem, kind="tied")
        settled |= dict.fromkeys(group, last)
    return settled
