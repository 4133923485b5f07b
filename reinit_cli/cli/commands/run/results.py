"""Report the results of a rewrite, while it works and at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from reinit_cli.cli.render.meter import Meter
from reinit_cli.cli.streams import flush_output
from reinit_cli.cli.terminal import note, print_error, warn, warn_of_inputs
from reinit_cli.errors import InputError, OutputUnwritableError, ReinitError
from reinit_cli.operations.batch import (
    Failure,
    Planned,
    Result,
    Skipped,
    error_of,
    request_of,
)
from reinit_cli.operations.rewrite import Outcome
from reinit_cli.planning.job import Job
from reinit_cli.storage.writer import note_written


class Report:
    """The results of a command, reported one by one or together.

    Args:
        stream: where the report is written.
        meter: the progress bar, which makes room for lines.
        total: how many results there are to be.
        is_batch: whether inputs are named and counted.
        keeps_going: whether a failure is reported immediately, and does not stop the others.
        as_json: whether each result is a line of JSON.
        verbose: whether each tensor has a row.
        quiet: whether only errors are reported.
        started: when the command did, by the monotonic clock.
    """

    def __init__(
        self,
        stream: TextIO,
        meter: Meter,
        total: int,
        *,
        is_batch: bool,
        keeps_going: bool,
        as_json: bool,
        verbose: bool,
        quiet: bool,
        started: float,
    ) -> None:
        self._started = started
        self._stream = stream
        self._meter = meter
        self._total = total
        self._is_batch = is_batch
        self._keeps_going = keeps_going
        self._as_json = as_json
        self._verbose = verbose
        self._quiet = quiet
        self._results: list[Result] = []
        self._is_counted = False

    @property
    def is_quiet(self) -> bool:
        """Whether only errors are reported."""
        return self._quiet

    @property
    def failure(self) -> ReinitError | None:
        """The error of the first input that failed, if one did."""
        for result in self._results:
            if error := error_of(result):
                source = request_of(result).called
                return InputError(source, error) if self._is_batch else error
        return None

    def keep(self, result: Result) -> None:
        """Take a result that is reported later, once."""
        if not self._results or self._results[-1] is not result:
            self._results.append(result)

    def take(self, result: Result) -> None:
        """Take a result, and report what does not have to wait for the others."""
        self.keep(result)
        error = error_of(result) if self._keeps_going else None
        # The failure of a lone input is raised, and reported then.
        is_raised = isinstance(result, Failure) and not self._is_batch and not self._keeps_going
        has_line = self._as_json and not is_raised
        if error or has_line:
            with self._meter.aside():
                self._report_now(result, error, has_line=has_line)

    def _report_now(self, result: Result, error: ReinitError | None, *, has_line: bool) -> None:
        if error:
            from reinit_cli.cli.hints import explain

            said = explain(InputError(request_of(result).called, error), ())
            print_error(type(error).__name__, *said, as_json=self._as_json)
        if has_line:
            from reinit_cli.cli.render.json import dumps

            self._stream.write(dumps(_form(result)) + "\n")
            self._stream.flush()

    def finish(self) -> None:
        """Report the rest: warnings, tables, and the number of inputs."""
        if not self._quiet:
            self._warn()
            if not self._as_json:
                self._show()
        self.count(is_needed=not self._quiet)
        flush_output()

    @contextmanager
    def naming_outputs(self, page: str | None) -> Iterator[None]:
        """Let an error of standard output, or an interruption, say what was written before.

        Args:
            page: the path of a report, or None.
        """
        try:
            yield
        except OutputUnwritableError as error:
            if error.kind == "stream":
                note_written(self._written(page), error)
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            if not self._is_batch:
                if not hasattr(error, "__notes__"):  # by who wrote it
                    note_written(self._written(page), error)
            elif not self._is_counted:
                self.count()
            raise

    def _written(self, page: str | None) -> list[str]:
        """Return the paths of what was written."""
        done = [each for each in self._results if isinstance(each, Outcome) and not each.error]
        written = [path for each in done for path in each.job.writes]
        return [*written, *([page] if written and page is not None else [])]

    def count(self, *, is_needed: bool = True) -> None:
        """Say how many inputs are done, if there are several or one has failed."""
        has_failed = self.failure is not None
        if is_needed or (has_failed and (self._is_batch or self._keeps_going)):
            from reinit_cli.cli.commands.run.inputs import counted, skipped_line

            self._stream.flush()
            self._is_counted = True
            if self._is_batch or (self._keeps_going and has_failed):
                note(counted(self._results, self._total))
                return
            for skipped in (each for each in self._results if isinstance(each, Skipped)):
                note(skipped_line(skipped))

    def _warn(self) -> None:
        about: dict[str, list[str]] = {}
        for result in self._results:
            if isinstance(result, (Job, Outcome)):
                job = _job(result)
                for warning in job.plan.warnings:
                    about.setdefault(warning, []).append(job.request.called)
        if self._is_batch:
            warn_of_inputs(about)
        else:
            warn(about)

    def _show(self) -> None:
        if not self._results:
            return
        from reinit_cli.cli.commands.run.tables import Tables
        from reinit_cli.cli.pager import paged

        is_output = self._stream is sys.stdout
        seconds = time.monotonic() - self._started
        tables = Tables(self._results, seconds, is_batch=self._is_batch, verbose=self._verbose)
        with paged():
            tables.show_on(sys.stdout if is_output else self._stream)


def report_stream(planned: Sequence[Planned], *, is_dry: bool) -> TextIO:
    """Return the stream of the report: standard error if a checkpoint goes to standard output."""
    is_streamed = any(isinstance(each, Job) and each.destination.path is None for each in planned)
    return sys.stderr if is_streamed and not is_dry else sys.stdout


def _job(result: Job | Outcome) -> Job:
    return result.job if isinstance(result, Outcome) else result


def _form(result: Result) -> dict[str, object]:
    from reinit_cli.cli.commands.run.form import failure_form, job_form, skipped_form

    if isinstance(result, Failure):
        return failure_form(result)
    if isinstance(result, Skipped):
        return skipped_form(result)
    return job_form(_job(result), result if isinstance(result, Outcome) else None)
