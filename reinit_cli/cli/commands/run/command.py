"""`reinit run SOURCE...`: re-initialise tensors and write new checkpoints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from reinit_cli.cli.options import (
    CONTEXT,
    CountType,
    allow_path_option,
    arch_option,
    device_option,
    json_option,
    rename_option,
    report_option,
    root_option,
    seeds_option,
    weights_option,
)
from reinit_cli.cli.parameters import (
    CastType,
    PatternType,
    RecordType,
    ResizeType,
    RuleType,
    SizeType,
)

if TYPE_CHECKING:
    from reinit_cli.cli.commands.run.asked import Asked
    from reinit_cli.cli.commands.run.results import Report
    from reinit_cli.cli.render.meter import Meter
    from reinit_cli.operations.batch import Failure
    from reinit_cli.operations.rewrite import ReportFile
    from reinit_cli.planning.job import Job
    from reinit_cli.request.pattern import Pattern
    from reinit_cli.request.rule import Rule

SOME_FAILED = 3
"""The exit code if some inputs of a batch failed, and others did not."""


class _Run(click.Command):
    """Take `--record` with or without `=FILE`, and never the next word for its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give a bare `--record` its empty value."""
        end = args.index("--") if "--" in args else len(args)
        options = ["--record=" if arg == "--record" else arg for arg in args[:end]]
        return super().parse_args(ctx, [*options, *args[end:]])


@click.command("run", cls=_Run, context_settings=CONTEXT)
@click.argument("sources", nargs=-1, metavar="SOURCE...")
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
    help="Write to this file, its suffix choosing the format, or to standard output with '-'. "
    "For several inputs name a folder/, or use {stem}, {suffix}, {name}, {parent} and {seed}.  "
    "[default: SOURCE-reinit beside the source]",
)
@click.option(
    "-c",
    "--config",
    "configs",
    multiple=True,
    metavar="FILE",
    help="Take rules and options from a recipe, TOML or JSON, from the plan that -n --json "
    "printed, or from a record or an output that holds one; repeatable. The command line's "
    "rules come after, its options override.",
)
@allow_path_option
@click.option(
    "--files-from",
    metavar="FILE",
    help="Take more sources from this file, a line each; '-' is standard input.",
)
@click.option("-0", "--null", is_flag=True, help="A NUL ends each line of --files-from.")
@click.option(
    "-j",
    "--jobs",
    type=CountType(),
    default=1,
    show_default=True,
    metavar="N",
    help="Make so many outputs side by side.",
)
@click.option(
    "--keep-going",
    is_flag=True,
    help="Go on with the other inputs where one fails; exit 3 then.",
)
@weights_option
@root_option
@arch_option
@click.option(
    "--num-classes",
    type=CountType(),
    metavar="N",
    help="Give a torchvision model a head of so many classes, drawn by its own default.",
)
@rename_option
@click.option(
    "--drop",
    type=PatternType(),
    multiple=True,
    metavar="PATTERN",
    help="Leave out what the pattern matches, by the source's keys; repeatable.",
)
@click.option(
    "--only",
    type=PatternType(),
    multiple=True,
    metavar="PATTERN",
    help="Take nothing but what the pattern matches, by the source's keys; repeatable.",
)
@click.option(
    "--resize",
    type=ResizeType(),
    multiple=True,
    metavar="PATTERN=N[:INIT]",
    help="Change the first dimension of what the pattern matches, and of its bias: what fits is "
    "kept unless a rule fills the whole, and new rows are filled by INIT, such as mean or "
    "normal:std=0.02.",
)
@click.option(
    "--with-buffers/--no-with-buffers",
    default=None,
    help="Reset the running statistics of a BatchNorm whose weight or bias a rule fills.",
)
@click.option(
    "--untie/--no-untie",
    default=None,
    help="Make tied keys tensors of their own, each with its own stream.",
)
@click.option(
    "--keep-config/--no-keep-config",
    default=None,
    help="Leave the config.json of a folder as it is where tensors are resized, cast or untied.",
)
@click.option(
    "--reset-optimizer/--no-reset-optimizer",
    default=None,
    help="Give the optimizer's slots of exactly the parameters that rules fill what a new "
    "optimizer starts with.",
)
@click.option(
    "--optimizer-order",
    metavar="FILE|ndim",
    help="Take the optimizer's parameters, where they have no names, for the keys in the lines "
    "of FILE, group after group; ndim stands for matrices first, then vectors. "
    "[default: what shapes and the order of the state dict tell]",
)
@click.option(
    "--dtype",
    type=CastType(),
    multiple=True,
    metavar="[PATTERN=]DTYPE",
    help="Cast floating tensors to this dtype, or those that the pattern matches; repeatable, "
    "and the last that matches a tensor decides.",
)
@click.option(
    "--saturate/--no-saturate",
    default=None,
    help="With --dtype, make numbers beyond the dtype its largest; without, they are an error.",
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
    "--tensors-only/--no-tensors-only",
    default=None,
    help="Write the state dict's tensors and nothing else: no optimizer state, epochs, objects.",
)
@click.option(
    "--drop-non-tensors/--no-drop-non-tensors",
    "tensors_only",
    default=None,
    hidden=True,
    help="The older name of --tensors-only.",
)
@click.option(
    "--copy",
    type=PatternType(),
    multiple=True,
    metavar="PATTERN",
    help="Copy what the pattern matches of a folder's files, even if it would be left out next to "
    "new weights; repeatable.",
)
@click.option(
    "--fix-index/--no-fix-index",
    default=None,
    help="Write a new index where that of a folder's shards is missing or wrong.",
)
@click.option(
    "--refuse-unknown-globals/--no-refuse-unknown-globals",
    default=None,
    help="Refuse a pickle that names what torch.load(weights_only=True) does.",
)
@click.option(
    "--verify-crc/--no-verify-crc",
    default=None,
    help="Stop, or go on, where the bytes of a torch archive are not those that it recorded.",
)
@seeds_option
@device_option
@click.option("-f", "--force", is_flag=True, help="Replace an existing output.")
@click.option("--in-place", is_flag=True, help="Replace the source by the output.")
@click.option("--sync", is_flag=True, help="Force a new output to the disk before it is reported.")
@click.option("--strict/--no-strict", default=None, help="Make every skipped tensor an error.")
@click.option(
    "--allow-unmatched/--no-allow-unmatched",
    default=None,
    help="Only warn of a rule that matches or fills nothing.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Test each draw against its law, before rounding; if one fails, write nothing and exit 1.",
)
@click.option(
    "--record",
    type=RecordType(),
    metavar="[=FILE]",
    help="Write what made the output into it, for `reinit verify`; with =FILE beside it.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Show the plan; read no tensor, write nothing.")
@report_option
@json_option
@click.option("-v", "--verbose", is_flag=True, help="Show a row for each tensor.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    sources: tuple[str, ...],
    rules: tuple[Rule, ...],
    excluded: tuple[Pattern, ...],
    configs: tuple[str, ...],
    files_from: str | None,
    jobs: int,
    report: str | None,
    *,
    null: bool,
    keep_going: bool,
    verbose: bool,
    quiet: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Re-initialise tensors of each SOURCE and write new checkpoints.

    SOURCE is a torchvision model's name, pretrained unless --weights says otherwise, or a
    checkpoint: safetensors, what torch.save writes, a Hugging Face folder, or - for stdin.

    \b
    PATTERN  * any characters, dots too · ? one · [abc] [!abc] · {a,b} {0..8} · re:REGEX
    INIT     torch.nn.init's names without the underscore, default, transforms such as noise,
             or keep; `reinit inits` lists all
    ARGS     std=0.02,mean=0 · a nonlinearity: relu · a mode: fan_out · min_ndim=2 · keep_zeros=true

    \b
    reinit alexnet -r "features.*.weight=xavier_uniform:relu"
    reinit resnet50 -r "layer4.*=kaiming_normal:relu,fan_out" -x "*.bn*"
    reinit model.safetensors -r "lm_head.weight=normal:std=0.02" --dry-run
    reinit *.pt -c recipe.toml --seed 0..4 -o "out/{stem}-seed{seed}.pt"
    """
    from reinit_cli.cli.commands.run.asked import read_asked
    from reinit_cli.cli.commands.run.page import report_file
    from reinit_cli.cli.commands.run.results import Report, report_stream
    from reinit_cli.cli.render.meter import Meter
    from reinit_cli.cli.terminal import refuse_terminal, warn
    from reinit_cli.operations.batch import plan_batch
    from reinit_cli.request.cast import Cast, as_asked_for
    from reinit_cli.request.rule import Rule

    options["dtype"] = as_asked_for(map(Cast.parse, options["dtype"]))
    asked = read_asked(
        ctx,
        sources=sources,
        rules=(*rules, *(Rule.keeping(pattern.text) for pattern in excluded)),
        configs=configs,
        files_from=files_from,
        null=null,
        options={**options, "measure_before": verbose, "sketch": report is not None},
    )
    _check_beside(asked, report, dry_run=dry_run)
    if asked.is_streamed and not dry_run:
        refuse_terminal(sys.stdout)
    if not asked.requests:
        warn([f"{files_from!r} names no file"])
    with Meter(asked.name, is_shown=not quiet) as meter:
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
        )
        with told.naming_outputs(report):
            if dry_run:
                for each in planned:
                    told.take(each)
            else:
                page = report_file(report, planned, asked)
                _run(planned, told, meter, page, keeps_going=keep_going, at_once=jobs)
    with told.naming_outputs(report):
        told.finish()
    ctx.meta["has flushed"] = True  # and an error has said what was written
    if told.failure is not None and not keep_going:
        raise told.failure
    ctx.exit(SOME_FAILED if told.failure is not None else 0)


def _run(
    planned: Sequence[Job | Failure],
    told: Report,
    meter: Meter,
    page: ReportFile | None,
    *,
    keeps_going: bool,
    at_once: int,
) -> None:
    """Run what is planned; if that is interrupted, report how many outputs are done."""
    from reinit_cli.operations.batch import Failure, run_batch

    progress = meter.of(sum(each.nbytes for each in planned if not isinstance(each, Failure)))
    try:
        run_batch(
            planned, told.take, progress, keeps_going=keeps_going, at_once=at_once, report=page
        )
    except (KeyboardInterrupt, SystemExit):
        told.count()
        raise


def _check_beside(asked: Asked, report: str | None, *, dry_run: bool) -> None:
    """Refuse a file next to the output if there is no output, or more than one.

    Raises:
        click.UsageError: such a file is asked for.
    """
    has_record = any(isinstance(each.record, str) for each in asked.requests)
    if has_record and asked.is_batch:
        raise click.UsageError("--record=FILE is the record of one output; --record is in each")
    if report is not None and dry_run:
        raise click.UsageError("--report shows what was drawn, and a dry run draws nothing")
    if report is not None and asked.is_batch:
        raise click.UsageError("--report shows one rewrite; give it one source and one seed")
