"""Make the page that shows a rewrite, and find its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reinit_cli.cli.commands.run.asked import Asked
from reinit_cli.cli.commands.run.summary import TOOK
from reinit_cli.cli.commands.run.view import rules_sheet, steps_sheet
from reinit_cli.cli.options import report_place
from reinit_cli.cli.render.html import Page, without_folders
from reinit_cli.cli.render.overview import spreads_of_rewrite
from reinit_cli.cli.render.panels import panels_of_rewrite
from reinit_cli.operations.batch import Planned
from reinit_cli.operations.rewrite import Outcome, ReportFile
from reinit_cli.planning.job import Job
from reinit_cli.storage.destination import Destination


def report_file(report: str | None, planned: Sequence[Planned], asked: Asked) -> ReportFile | None:
    """Return the report of a lone job, after every check; None if none is asked for."""
    for job in planned:
        if isinstance(job, Job):
            in_use = {**asked.reads, **job.reads, **job.writes}
            has_pictures, force = bool(job.pictured), job.request.force
            place = report_place(report, in_use, has_pictures=has_pictures, force=force)
            return ReportFile(place, _page_of(place)) if place is not None else None
    return None


def _page_of(place: Destination) -> Callable[[Outcome], bytes]:
    def page(outcome: Outcome) -> bytes:
        from reinit_cli.cli.render.file import report_data

        return report_data(place, page_of_rewrite(outcome))

    return page


def page_of_rewrite(outcome: Outcome) -> Page:
    """Return a run as a page that is the same in every run and folder."""
    job = outcome.job
    paths = (job.source.path, job.source.name, job.destination.path)
    rules = rules_sheet(job, outcome).without_empty_columns()
    facts = [(name, value) for name, value in rules.plain_facts if name != TOOK]
    panels = list(panels_of_rewrite(outcome))
    return Page(
        "reinit run",
        without_folders(job.source.name, paths),
        [(name, without_folders(value, paths)) for name, value in facts],
        [without_folders(warning, paths) for warning in job.plan.warnings],
        [("Rules", rules), ("Tensors", steps_sheet(job, outcome).without_empty_columns())],
        panels,
        len(job.plan.draws),
        list(spreads_of_rewrite(outcome)),
    )
