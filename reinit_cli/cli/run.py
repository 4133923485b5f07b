"""`reinit run SOURCE`: re-initialise tensors and write a new checkpoint."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from reinit_cli.cli.options import (
    CONTEXT,
    DtypeType,
    PatternType,
    RuleType,
    SizeType,
    device_option,
    json_option,
    report_option,
    report_place,
    root_option,
    seed_option,
    weights_option,
)

if TYPE_CHECKING:
    from reinit_cli.patterns import Pattern
    from reinit_cli.rewriting import Job, Outcome
    from reinit_cli.rules import Rule


@click.command("run", context_settings=CONTEXT)
@click.argument("source")
@click.option(
    "-r",
    "--rule",
    "rules",
    type=RuleType(),
    multiple=True,
    metavar="PATTERN=INIT[:ARGS]",
    help="Fill what the pattern matches; repeatable, and the last rule that matches a key owns it.",
)
@click.option(
    "-x",
    "--exclude",
    "excluded",
    type=PatternType(),
    multiple=True,
    metavar="PATTERN",
    help="Leave what the pattern matches as it is: short for a last rule PATTERN=keep.",
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="Write to this file, its suffix choosing the format, or to standard output with '-'.  "
    "[default: SOURCE-reinit beside the source]",
)
@weights_option
@root_option
@click.option(
    "--dtype", type=DtypeType(), metavar="DTYPE", help="Cast floating tensors to this dtype."
)
@click.option(
    "--shard-size",
    "shard_nbytes",
    type=SizeType(),
    metavar="SIZE",
    help="Write a folder of safetensors files, each with at most so many bytes of tensors: "
    "5GB, 500MB, 2GiB.",
)
@click.option(
    "--drop-non-tensors",
    is_flag=True,
    help="Lose what a file that is laid out anew cannot hold: optimizer state, epochs, objects.",
)
@click.option(
    "--refuse-unknown-globals",
    is_flag=True,
    help="Refuse a pickle that names what torch.load(weights_only=True) does.",
)
@click.option(
    "--no-verify-crc",
    is_flag=True,
    help="Go on where the bytes of a torch archive are not those that it recorded.",
)
@seed_option
@device_option
@click.option("-f", "--force", is_flag=True, help="Replace an existing output.")
@click.option("--in-place", is_flag=True, help="Replace the source by the output.")
@click.option("--sync", is_flag=True, help="Force a new output to the disk before it is reported.")
@click.option("--strict", is_flag=True, help="Make every skipped tensor an error.")
@click.option(
    "--allow-unmatched", is_flag=True, help="Only warn of a rule that matches or fills nothing."
)
@click.option(
    "--check",
    is_flag=True,
    help="Test each draw against its law, before rounding; if one fails, write nothing and exit 1.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Show the plan; read no tensor, write nothing.")
@report_option
@json_option
@click.option("-v", "--verbose", is_flag=True, help="Show a row for each tensor.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def command(
    source: str,
    rules: tuple[Rule, ...],
    excluded: tuple[Pattern, ...],
    output: str | None,
    weights: str | None,
    seed: int,
    device: str,
    report: str | None,
    *,
    verbose: bool,
    quiet: bool,
    dry_run: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Re-initialise tensors of SOURCE and write a new checkpoint.

    SOURCE is a torchvision model's name, pretrained unless --weights says otherwise, or a
    checkpoint: safetensors, what torch.save writes, a Hugging Face folder, or - for stdin.

    \b
    PATTERN  * any characters, dots too · ? one · [abc] [!abc] · {a,b} {0..8} · re:REGEX
    INIT     torch.nn.init's names without the underscore, or keep; `reinit inits` lists them
    ARGS     std=0.02,mean=0 · a nonlinearity: relu · a mode: fan_out · min_ndim=2

    \b
    reinit alexnet -r "features.*.weight=xavier_uniform:relu"
    reinit resnet50 -r "layer4.*=kaiming_normal:relu,fan_out" -x "*.bn*"
    reinit model.safetensors -r "lm_head.weight=normal:std=0.02" --dry-run
    """
    from reinit_cli.cli.terminal import refuse_terminal, warn
    from reinit_cli.planning import Options
    from reinit_cli.report.meter import Meter
    from reinit_cli.rewriting import Request, execute, prepare
    from reinit_cli.rules import Rule
    from reinit_cli.sources import DASH

    if (output or source) == DASH and not dry_run:
        refuse_terminal(sys.stdout)
    if report is not None and dry_run:
        raise click.UsageError("--report shows what was drawn, and a dry run draws nothing")
    request = Request(
        source=source,
        rules=(*rules, *(Rule.keeping(pattern.text) for pattern in excluded)),
        output=output,
        weights=weights,
        options=Options(
            seed,
            device,
            flags.pop("strict"),
            flags.pop("allow_unmatched"),
            flags.pop("check"),
        ),
        measure_before=verbose,
        sketch=report is not None,
        verify_crc=not flags.pop("no_verify_crc"),
        **flags,
    )
    with Meter(source, is_shown=not quiet) as meter:
        job = prepare(request)
        paths = (job.source.path, job.destination.path)
        place = report_place(report, paths, has_pictures=bool(job.pictured), force=request.force)
        outcome = None if dry_run else execute(job, meter.of(job.nbytes))
    if not quiet:
        warn(job.plan.warnings)
        _report(job, outcome, as_json=as_json, verbose=verbose)
    if outcome is not None:
        outcome.insist()
        if place is not None:
            from reinit_cli.report.files import write_report
            from reinit_cli.report.rewrites import page_of_rewrite

            write_report(place, page_of_rewrite(outcome))


def _report(job: Job, outcome: Outcome | None, *, as_json: bool, verbose: bool) -> None:
    # A checkpoint on standard output owns it.
    is_streamed = outcome is not None and job.destination.path is None
    stream = sys.stderr if is_streamed else sys.stdout
    if as_json:
        from reinit_cli.report.serial import dumps, job_form

        stream.write(dumps(job_form(job, outcome)) + "\n")
        return
    from reinit_cli.report.rewrites import rules_sheet, steps_sheet
    from reinit_cli.report.sheets import show

    if verbose:
        show(steps_sheet(job, outcome), stream)
    show(rules_sheet(job, outcome), stream)
