"""Declare what changes in a config."""

from __future__ import annotations

from reinit_cli.lazy import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """A member of a config that changes.

    Attributes:
        file: the name of the config.
        member: its path, with dots.
        was, now: its values; of labels how many there are. It was None where it is added.
    """

    file: str
    member: str
    was: object
    now: object

    def __str__(self) -> str:
        """Say it as a table has it."""
        now = _shown(self.now)
        return (
            f"{self.member} {_shown(self.was)} → {now}"
            if self.was is not None
            else (f"{self.member} {now} (added)")
        )


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
