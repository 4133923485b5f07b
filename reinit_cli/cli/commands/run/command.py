"""`reinit run SOURCE...`: re-initialize tensors and write new checkpoints."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from reinit_cli.cli.commands.run.early import MISTAKES, tell_early
from reinit_cli.cli.commands.run.options import HEADINGS, run_options
from reinit_cli.cli.help import Command
from reinit_cli.cli.options import CONTEXT

if TYPE_CHECKING:
    from reinit_cli.cli.commands.run.asked import Asked
    from reinit_cli.cli.commands.run.results import Report
    from reinit_cli.cli.render.meter import Meter
    from reinit_cli.operations.batch import Planned
    from reinit_cli.operations.rewrite import ReportFile
    from reinit_cli.request.rule import Rule

SOME_FAILED = 3
"""The exit code if some inputs of a batch failed, and others did not."""


class _Run(Command):
    """Take `--record=FILE`, which was the name of `--record-to FILE`.

    Of several processes, one that is not understood lets the others know.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words.

        Raises:
            click.UsageError: they do not fit.
        """
        words = list(args)
        try:
            return super().parse_args(ctx, args)
        except MISTAKES as error:
            if not ctx.resilient_parsing:
                named, options = self._understood(words)
                # An option that is not known is taken for one.
                tell_early(error, [each for each in named if not each.startswith("-")], options)
            raise

    def _understood(self, words: list[str]) -> tuple[Sequence[str], dict[str, Any]]:
        """Return the sources and the options of a command line as far as they can be read."""
        ctx = click.Context(self, resilient_parsing=True, ignore_unknown_options=True)
        with suppress(*MISTAKES):
            super().parse_args(ctx, words)
        named = ctx.params.pop("sources", None)
        return named or ctx.args, ctx.params  # left over where the last option lacks its value

    def in_present_names(self, ctx: click.Context, args: Sequence[str]) -> Iterator[str]:
        """Yield the words of a command line with the present names of its options."""
        for word in super().in_present_names(ctx, args):
            is_former = word.startswith("--record=")
            yield word.replace("--record=", "--record-to=") if is_former else word


@click.command(
    "run",
    cls=_Run,
    context_settings=CONTEXT,
    usage="reinit [run] SOURCE... -r PATTERN=INIT[:ARGS] [OPTIONS]",
    tip="Quote patterns. All options: reinit run --help. Initializers: reinit inits",
    epilog="An option that a recipe sets is unset by --no-OPTION, such as --no-strict.",
    headings=HEADINGS,
)
@run_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    sources: tuple[str, ...],
    rules: tuple[Rule, ...],
    excluded: tuple[Rule, ...],
    configs: tuple[str, ...],
    files_from: str | None,
    jobs: int,
    record_to: str | None,
    report: str | None,
    *,
    record: bool | None,
    null: bool,
    keep_going: bool,
    verbose: bool,
    quiet: bool,
    progress: bool | None,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Re-initialize tensors of a checkpoint; copy everything else byte for byte.

    \b
    reinit model.safetensors -r "lm_head.weight=normal:std=0.02" -n
    reinit resnet50 -r "layer4.*=kaiming_normal:relu,fan_out" -x "*.bn*"
    reinit *.pt -c recipe.toml --seed 0..4 -o "out/{stem}-seed{seed}.pt"
    """
    started = time.monotonic()
    from reinit_cli.cli.commands.run.asked import read_asked
    from reinit_cli.cli.commands.run.results import Report, report_stream
    from reinit_cli.cli.render.meter import Meter
    from reinit_cli.cli.terminal import refuse_terminal, warn
    from reinit_cli.operations.batch import plan_batch
    from reinit_cli.operations.rewrite import telling_ranks
    from reinit_cli.request.cast import Cast, as_asked_for
    from reinit_cli.request.ranks import ranks_asked

    options["record"] = record_to or record or None
    options["dtype"] = as_asked_for(map(Cast.parse, options["dtype"]))
    options |= ranks_asked(options, os.environ)
    try:
        asked = read_asked(
            ctx,
            sources=sources,
            rules=(*rules, *excluded),
            configs=configs,
            files_from=files_from,
            null=null,
            options={
                **options,
                "measure": not quiet or as_json or report is not None,
                "measure_before": verbose,
                "sketch": report is not None,
            },
        )
    except MISTAKES as error:
        tell_early(error, sources, options)
        raise
    _check_beside(asked, report, dry_run=dry_run)
    if any(each.rank for each in asked.requests):  # rank 0 reports for all
        quiet, as_json, report, progress = True, False, None, False
    if asked.is_streamed and not dry_run:
        refuse_terminal(sys.stdout)
    if not asked.requests:
        warn([f"{files_from!r} names no file"])
    is_shown = not quiet and progress is not False
    with Meter(asked.name, is_shown=is_shown, is_forced=bool(progress)) as meter:
        with telling_ranks(() if dry_run else asked.requests):
            planned = plan_batch(asked.requests, keeps_going=keep_going, reads=asked.reads)
        told = Report(
            report_stream(planned, is_dry=dry_run),
            meter,
            len(asked.requests),
            is_batch=asked.is_batch,
            keeps_going=keep_going,
            as_json=as_json,
            verbose=verbose,
            quiet=quiet,
            started=started,
        )
        with told.naming_outputs(report):
            if dry_run:
                for each in planned:
                    told.take(each)
            else:
                with telling_ranks(asked.requests):
                    page = _page(report, planned, asked)
                _run(planned, told, meter, page, keeps_going=keep_going, at_once=jobs)
                if told.failure is not None:
                    meter.end()
    with told.naming_outputs(report):
        told.finish()
    ctx.meta["has flushed"] = True  # and an error has said what was written
    if told.failure is not None and not keep_going:
        raise told.failure
    ctx.exit(SOME_FAILED if told.failure is not None else 0)


def _page(report: str | None, planned: Sequence[Planned], asked: Asked) -> ReportFile | None:
    if report is None:
        return None
    from reinit_cli.cli.commands.run.page import report_file

    return report_file(report, planned, asked)


def _run(
    planned: Sequence[Planned],
    told: Report,
    meter: Meter,
    page: ReportFile | None,
    *,
    keeps_going: bool,
    at_once: int,
) -> None:
    """Run what is planned."""
    from reinit_cli.cli.terminal import note_downloads
    from reinit_cli.operations.batch import run_batch
    from reinit_cli.operations.downloads import downloads_for
    from reinit_cli.planning.job import Job

    jobs = [each for each in planned if isinstance(each, Job)]
    progress = meter.of(sum(job.nbytes for job in jobs))
    if not told.is_quiet:
        downloads = (each for job in jobs for each in downloads_for(job))
        note_downloads((job.source for job in jobs), downloads)
    run_batch(
        planned,
        told.take,
        progress,
        kept=told.keep,
        keeps_going=keeps_going,
        at_once=at_once,
        report=page,
    )


def _check_beside(asked: Asked, report: str | None, *, dry_run: bool) -> None:
    """Refuse a file next to the output if there is no output, or more than one.

    Raises:
        click.UsageError: such a file is asked for.
    """
    has_record = any(isinstance(each.record, str) for each in asked.requests)
    if has_record and asked.is_batch:
        raise click.UsageError("--record-to FILE is the record of one output; --record is in each")
    if report is not None and dry_run:
        raise click.UsageError("--report shows what was drawn, and a dry run draws nothing")
    if report is not None and asked.is_batch:
        raise click.UsageError("--report shows one rewrite; give it one source and one seed")
