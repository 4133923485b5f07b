"""`reinit stats SOURCE [PATTERN...]`: what the values of tensors are like."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from reinit_cli.cli.options import (
    CONTEXT,
    PatternType,
    json_option,
    report_option,
    report_place,
    root_option,
    seed_option,
    weights_option,
)
from reinit_cli.patterns import Pattern
from reinit_cli.sources import find_source
from reinit_cli.text import plural, printable

if TYPE_CHECKING:
    from reinit_cli.measuring import Measured


class _DepthType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """How much of a key names a module: "module" for all but the last segment, or a number."""

    name = "depth"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """Read it."""
        if value == "module":
            from reinit_cli.measuring import WHOLE_MODULE

            return WHOLE_MODULE
        if not str(value).isdecimal() or not int(value):
            self.fail(f"{value!r} is neither 'module' nor a number of segments", param, ctx)
        return int(value)


@click.command("stats", context_settings=CONTEXT)
@click.argument("source")
@click.argument("patterns", type=PatternType(), nargs=-1, metavar="[PATTERN]...")
@click.option(
    "--by",
    "depth",
    type=_DepthType(),
    metavar="module|N",
    help="Measure modules together: what has all but the last segment in common, or the first N.",
)
@click.option("--check", is_flag=True, help="Exit 1 if there is NaN or an infinity.")
@weights_option
@root_option
@seed_option
@report_option
@click.option("-f", "--force", is_flag=True, help="Replace an existing report.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    patterns: tuple[Pattern, ...],
    depth: int | None,
    weights: str | None,
    root: str | None,
    seed: int,
    report: str | None,
    *,
    check: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Measure the tensors of SOURCE: mean, std, extremes, norm, zeros, NaN and infinities.

    Mean, std, extremes, norm and the histogram are those of the finite elements, in float64;
    complex elements count by their magnitudes. Tensors that are tied count once in a module.

    \b
    reinit stats model.safetensors
    reinit stats model.safetensors "layers.*" --by 2
    reinit stats model.safetensors --check --json
    """
    from reinit_cli.cli.keys import chosen_tensors
    from reinit_cli.measuring import BINS, measure_source, unmeasurable
    from reinit_cli.report.meter import Meter
    from reinit_cli.report.sheets import show
    from reinit_cli.report.statistics import statistics_form, statistics_sheet, without_histograms
    from reinit_cli.sketching import BINS as PICTURE_BINS

    found = find_source(source, weights, root)
    chosen = chosen_tensors(found.tensors, patterns)
    if not chosen:
        click.echo(f"error: no key of {printable(source)} matches", err=True)
        ctx.exit(1)
    reasons = {tensor.key: reason for tensor in chosen if (reason := unmeasurable(tensor))}
    tensors = [tensor for tensor in chosen if tensor.key not in reasons]
    place = report_place(report, (found.path,), has_pictures=bool(tensors), force=force)
    skipped = [f"{key}: {reason}" for key, reason in reasons.items()]
    with Meter(source, is_shown=not as_json) as meter:
        shows_histograms = as_json or sys.stdout.isatty()
        bins = PICTURE_BINS if place else BINS if shows_histograms else None
        passes = 2 if bins else 1
        told = meter.of(passes * sum(tensor.nbytes for tensor in tensors))
        measured = measure_source(found, tensors, depth, seed, told, bins=bins)
    title = "key" if depth is None else "module"
    if as_json:
        from reinit_cli.report.serial import dumps

        sys.stdout.write(dumps(statistics_form(measured, title, skipped)) + "\n")
    else:
        shown = measured if shows_histograms else without_histograms(measured)
        show(statistics_sheet(shown, title, skipped), sys.stdout)
    if place is not None:
        from reinit_cli.report.files import write_report
        from reinit_cli.report.statistics import page_of_statistics

        write_report(place, page_of_statistics(found, measured, title, skipped))
    ctx.exit(_checked(measured) if check else 0)


def _checked(measured: Sequence[Measured]) -> int:
    """Name what has NaN or infinities; return the exit code."""
    bad = list(_bad(measured))
    for text in bad:
        click.echo(f"error: {text}", err=True)
    return 1 if bad else 0


def _bad(measured: Sequence[Measured]) -> Iterator[str]:
    for each in measured:
        found = each.statistics
        if not found.is_finite:
            infinities = "1 infinity" if found.inf == 1 else f"{found.inf:,} infinities"
            of = plural(found.numel, "element")
            yield f"{printable(each.key)!r} has {found.nan:,} NaN and {infinities} in {of}"
