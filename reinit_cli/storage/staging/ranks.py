"""Say which of several processes this one is."""

from __future__ import annotations

from reinit_cli.lazy import dataclass


@dataclass(frozen=True, slots=True)
class Ranks:
    """One of several processes that write an output together.

    Attributes:
        rank: its number, from 0 on.
        count: how many there are, the world size.
        run_id: the name that all of them have for this run.
        timeout: the seconds that it waits for another that gives no sign of life.
        resumes: whether it goes on from what ranks of a run that ended early had finished.
    """

    rank: int
    count: int
    run_id: str
    timeout: float
    resumes: bool = False

    @property
    def is_first(self) -> bool:
        """Whether it makes the temporary, commits and reports."""
        return self.rank == 0

    @property
    def others(self) -> tuple[int, ...]:
        """The numbers of all others."""
        return tuple(rank for rank in range(self.count) if rank != self.rank)
