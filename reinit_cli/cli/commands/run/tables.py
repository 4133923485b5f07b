"""Show the results of a run as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TextIO

from reinit_cli.cli.commands.run.inputs import inputs_sheet
from reinit_cli.cli.commands.run.view import rules_sheet, steps_of_all, steps_sheet
from reinit_cli.cli.render.table import Sheet, show
from reinit_cli.cli.screen import screen_of
from reinit_cli.lazy import dataclass
from reinit_cli.operations.batch import Result
from reinit_cli.operations.rewrite import Outcome
from reinit_cli.planning.job import Job


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of a run.

    Attributes:
        results: what became of each input.
        seconds: how long all of it took.
        is_batch: whether inputs are named and counted.
        verbose: whether each tensor has a row.
    """

    results: Sequence[Result]
    seconds: float
    is_batch: bool
    verbose: bool

    def show_on(self, stream: TextIO) -> None:
        """Print them: all of them on a terminal, and one into a pipe."""
        is_raw = not screen_of(stream).is_terminal
        jobs = [_job_and_outcome(each) for each in self.results if isinstance(each, _PLANNED)]
        summary = self._summary(jobs, is_raw=is_raw)
        if is_raw and self.verbose and jobs:
            tensors = steps_of_all(jobs) if self.is_batch else steps_sheet(*jobs[0])
            show(replace(tensors, facts=summary.facts if summary else ()), stream)
            return
        for job, outcome in jobs if self.verbose else ():
            show(steps_sheet(job, outcome), stream)
            stream.write("\n")
            if self.is_batch:
                show(rules_sheet(job, outcome), stream)
                stream.write("\n")
        if summary is not None:
            show(summary, stream)

    def _summary(self, jobs: Sequence[tuple[Job, Outcome | None]], *, is_raw: bool) -> Sheet | None:
        """Return the table that sums everything up: of inputs, or of the rules of the only one."""
        if self.is_batch:
            return inputs_sheet(self.results, self.seconds, is_raw=is_raw)
        return rules_sheet(*jobs[0], self.seconds, is_raw=is_raw) if jobs else None


_PLANNED = (Job, Outcome)


def _job_and_outcome(result: Job | Outcome) -> tuple[Job, Outcome | None]:
    return (result.job, result) if isinstance(result, Outcome) else (result, None)
