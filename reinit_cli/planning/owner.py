"""Say which rule decides what happens to a key, or to a part of its tensor."""

from __future__ import annotations

from reinit_cli.lazy import dataclass
from reinit_cli.request.rule import Rule


@dataclass(frozen=True, slots=True)
class Owner:
    """A rule that decides what happens to a key.

    Attributes:
        rule: the rule; for a key of a new head, the rule that a user would write for it.
        rank: the owner of the highest rank decides; the rank of a rule is its position.
        head: the key of the new head, or "".
    """

    rule: Rule
    rank: int
    head: str = ""

    @property
    def insists(self) -> bool:
        """Whether it names its keys, rather than taking what it can fill."""
        return not self.rule.pattern.is_wildcard

    @property
    def position(self) -> int | None:
        """The position of its rule, where a user gave one."""
        return None if self.head else self.rank
