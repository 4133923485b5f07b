"""Hold what is seen of all draws of a run: statistics, tests and histograms.

Of an output that several processes write, each sees its own draws, and one learns of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import Any

from reinit_cli.execution.checks import Checks, Finding
from reinit_cli.execution.fill import Form, Observer
from reinit_cli.execution.measures import Filled, Measures
from reinit_cli.execution.sketches import Sketch, Sketches
from reinit_cli.planning.job import Job
from reinit_cli.planning.plan import Step
from reinit_cli.tensors.histogram import Histogram
from reinit_cli.tensors.moments import Moments


class Observations:
    """What is seen of the draws of a job."""

    def __init__(self, job: Job) -> None:
        """See what a job asks for."""
        self._checks = Checks(job.plan)
        self._sketches = Sketches(job.pictured)
        self._measures = Measures(is_asked=job.request.measure)
        steps = (*job.plan.steps, *job.plan.slots)
        self._order = [share.key for step in steps for share in step.shares]
        self._learned: dict[str, Filled] = {}
        self._learned_sketches: dict[str, Sketch] = {}

    def observe(self, step: Step) -> list[Observer]:
        """Return who looks at the draw of a step."""
        watching = (self._measures, self._checks, self._sketches)
        return [each for each in (one.observe(step) for one in watching) if each]

    def have_passed(self) -> bool:
        """Test what was drawn since the last time; say whether all of it passed."""
        return self._checks.have_passed()

    @property
    def have_failed(self) -> bool:
        """Whether a test failed."""
        return self._checks.have_failed

    @property
    def findings(self) -> Mapping[str, Sequence[Finding]]:
        """What the tests found, by key."""
        return self._checks.findings

    def filled(self) -> dict[str, Filled]:
        """Return the statistics of each key, in the order of the plan."""
        found = {**self._measures.filled(), **self._learned}
        return {key: found[key] for key in self._order if key in found}

    def sketches(self) -> dict[str, Sketch]:
        """Return the histograms of each key."""
        return {**self._learned_sketches, **self._sketches.sketches()}

    def form(self) -> Form:
        """Return all of it as JSON, for another process."""
        self._checks.have_passed()
        filled = self._measures.filled()
        sketches = self._sketches.sketches()
        return {
            "filled": {
                key: [astuple(each.after), each.before and astuple(each.before)]
                for key, each in filled.items()
            },
            "findings": {
                key: [astuple(each) for each in found] for key, found in self.findings.items()
            },
            "sketches": {
                key: [each.before and astuple(each.before), each.after and astuple(each.after)]
                for key, each in sketches.items()
            },
        }

    def forget(self) -> None:
        """Forget what was seen."""
        self._checks.forget()
        self._measures.forget()

    def take_over(self, form: Form) -> None:
        """Count what another process saw of whole tensors as seen."""
        for filled in _filled_in(form):
            self._measures.learn(filled)
        self._learn_findings(form)
        assert not form["sketches"]  # they show the values before, which this process reads

    def learn(self, form: Form) -> None:
        """Take over what a rank saw; of a large tensor, each saw some rows."""
        for rows in _filled_in(form):
            known = self._learned.get(rows.key)
            self._learned[rows.key] = rows if known is None else known + rows
        self._learn_findings(form)
        for key, sketch in form["sketches"].items():
            self._learned_sketches[key] = Sketch(*map(_histogram, sketch))

    def _learn_findings(self, form: Form) -> None:
        for key, found in form["findings"].items():
            self._checks.learn(key, [Finding(*each) for each in found])


def _filled_in(form: Form) -> Iterator[Filled]:
    for key, (after, before) in form["filled"].items():
        yield Filled(key, Moments(*after), before and Moments(*before))


def _histogram(form: Sequence[Any] | None) -> Histogram | None:
    return None if form is None else Histogram(form[0], form[1], tuple(form[2]))
