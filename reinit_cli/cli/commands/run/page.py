"""Make the page that shows a rewrite, and find its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reinit_cli.cli.commands.run.asked import Asked
from reinit_cli.cli.commands.run.view import page_of_rewrite
from reinit_cli.cli.options import report_place
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
