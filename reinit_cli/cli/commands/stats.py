"""Measure tensors: mean, std, extremes, NaN and infinities."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from reinit_cli.checkpoints.find import find_source
from reinit_cli.checkpoints.model import drawn_from
from reinit_cli.cli.help import Command, option
from reinit_cli.cli.options import (
    CONTEXT,
    VIEW,
    display_options,
    json_option,
    overwrite_report_option,
    quiet_option,
    report_option,
    report_place,
    root_option,
    seed_option,
    source_argument,
    source_stream_option,
    weights_option,
)
from reinit_cli.cli.pager import paged
from reinit_cli.cli.render.file import write_report
from reinit_cli.cli.render.html import Page, without_folders
from reinit_cli.cli.render.json import VERSION, dumps
from reinit_cli.cli.render.listing import head_fact
from reinit_cli.cli.render.meter import Meter
from reinit_cli.cli.render.overview import spreads_of_statistics
from reinit_cli.cli.render.panels import panels_of_statistics
from reinit_cli.cli.render.table import Cell, Column, Sheet, Value, show
from reinit_cli.cli.screen import screen_of
from reinit_cli.cli.selection import refuse_unmatched, selection_options, warn_of_exclusions
from reinit_cli.cli.terminal import note_downloads, print_error, warn_about
from reinit_cli.errors import CheckFailedError
from reinit_cli.execution.sketches import BINS as PICTURE_BINS
from reinit_cli.execution.sketches import PICTURES
from reinit_cli.operations.downloads import download_of_tensors
from reinit_cli.operations.keys import ORDERS, Selectors, list_keys
from reinit_cli.operations.stats import BINS, MEASURES, WHOLE_MODULE, measurable, measure_source
from reinit_cli.storage.destination import CHECKPOINT
from reinit_cli.storage.location import without_secrets
from reinit_cli.text import one_line, plural, printable

if TYPE_CHECKING:
    from reinit_cli.checkpoints.source import Source
    from reinit_cli.operations.stats import Measured
    from reinit_cli.tensors.histogram import Histogram


_MOST_DIGITS = 18
"""Of a number of segments."""


class _DepthType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """How much of a key names a module: "module" for all but the last segment, or a number."""

    name = "depth"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """Read it."""
        if value == "module":
            return WHOLE_MODULE
        digits = str(value)
        if not re.fullmatch(f"[0-9]{{1,{_MOST_DIGITS}}}", digits) or not int(digits):
            self.fail(f"{value!r} is neither 'module' nor a number of segments", param, ctx)
        return int(digits)


_ORDERS = dict.fromkeys((*ORDERS, *MEASURES))

_MEASURED = MEASURES.keys() - ORDERS.keys()
"""What is known of a tensor only when it has been read."""


@click.command("stats", cls=Command, context_settings=CONTEXT)
@source_argument
@selection_options(_ORDERS, "rows")
@option(
    "--by",
    type=_DepthType(),
    metavar="module|N",
    heading=VIEW,
    brief="One row a module",
    help="Group by module, or by the first N parts of the key",
)
@option(
    "--same-range",
    "has_one_range",
    is_flag=True,
    heading=VIEW,
    help="Draw all histograms over one range, from the smallest value to the largest",
)
@option(
    "--fail-nan",
    "fails",
    is_flag=True,
    heading=VIEW,
    brief="Exit with 1 if there is NaN or an infinity",
    was=("--check",),
    help="Name the tensors that have NaN or infinities, and exit with 1 if there are any",
)
@weights_option
@root_option
@seed_option
@source_stream_option
@report_option
@overwrite_report_option
@quiet_option
@json_option
@display_options
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    by: int | None,
    weights: str | None,
    root: str | None,
    seed: int,
    stream: str,
    report: str | None,
    *,
    selectors: Selectors,
    has_one_range: bool,
    fails: bool,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Measure the tensors of SOURCE: mean, std, range, norm, zeros, NaN and infinities.

    Mean, std, range, norm and the histogram are those of the finite elements, in float64;
    complex elements count by their magnitudes. Tensors that are tied count once in a module.

    \b
    reinit stats model.safetensors
    reinit stats model.safetensors "layers.*" --by 2
    reinit stats model.safetensors --fail-nan --json
    """
    found = drawn_from(find_source(source, weights, root), stream)
    source = without_secrets(source)
    warn_about((found,), root)
    listing = list_keys(found.tensors, selectors, selectors.layers(found))
    warn_of_exclusions(listing.choice, source)
    refuse_unmatched(listing.choice, [each.key for each in found.tensors], source, is_answer=True)
    is_cut = by is None and not fails and selectors.order not in _MEASURED
    most = selectors.head if is_cut else None
    tensors, reasons = measurable(found, listing.tensors, most)
    count = len(tensors)
    tensors = tensors[:most]  # the others are not even read
    note_downloads((found,), (download_of_tensors(found, [each.key for each in tensors]),))
    reads = dict.fromkeys(found.reads, CHECKPOINT)
    place = report_place(report, reads, has_pictures=bool(tensors), force=force)
    skipped = [f"{key}: {reason}" for key, reason in reasons.items()]
    with Meter(source, is_shown=not (as_json or quiet)) as meter:
        shows_histograms = as_json or screen_of(sys.stdout).is_terminal
        bins = PICTURE_BINS if place else BINS if shows_histograms else None
        passes = 2 if bins else 1
        progress = meter.of(passes * sum(tensor.nbytes for tensor in tensors))
        measured = measure_source(
            found, tensors, by, seed, progress, bins=bins, has_one_range=has_one_range
        )
    title = "key" if by is None else "module"
    shown = _shown(measured, selectors)
    if as_json:
        sys.stdout.write(dumps(statistics_form(shown, title, skipped)) + "\n")
    elif not quiet:
        total = (count, count) if by is None else (len(measured), count)
        sheet = statistics_sheet(shown, title, skipped, total, for_people=shows_histograms)
        with paged():
            show(sheet, sys.stdout)
    if place is not None:
        write_report(place, page_of_statistics(found, shown, title, skipped))
    ctx.exit(_checked(measured, as_json=as_json) if fails else 0)


def _shown(measured: Sequence[Measured], selectors: Selectors) -> Sequence[Measured]:
    """Return the rows that are shown; the tensors were in the order that is known of them."""
    ordered = selectors.arranged(measured, MEASURES) if selectors.order in MEASURES else measured
    return ordered[: selectors.head]


def _checked(measured: Sequence[Measured], *, as_json: bool) -> int:
    """Name what has NaN or infinities; return the exit code."""
    bad = list(_bad(measured))
    for text in bad:
        print_error(CheckFailedError.__name__, one_line(text), None, as_json=as_json)
    return 1 if bad else 0


def _bad(measured: Sequence[Measured]) -> Iterator[str]:
    for each in measured:
        found = each.statistics
        if not found.is_finite:
            infinities = "1 infinity" if found.inf == 1 else f"{found.inf:,} infinities"
            of = plural(found.numel, "element")
            yield f"{printable(each.key)!r} has {found.nan:,} NaN and {infinities} in {of}"


_HEIGHTS = " ▁▂▃▄▅▆▇█"


_MEASURES = (
    Column("elements", "count", rank=7),
    Column("mean", "number", rank=2),
    Column("std", "number", rank=1),
    *(Column(name, "number", rank=5) for name in ("min", "max")),
    Column("norm", "number", rank=9),
    Column("zeros", "count", rank=8),
    *(Column(name, "count") for name in ("NaN", "Inf")),
    Column("histogram", "picture", rank=6),
)


def statistics_sheet(
    measured: Sequence[Measured],
    title: str,
    skipped: Sequence[str],
    total: tuple[int, int] | None = None,
    *,
    for_people: bool = True,
) -> Sheet:
    """Return a row for each tensor or module.

    Args:
        measured: what is shown.
        title: what the rows are: "key" or "module".
        skipped: what was not measured, each with its reason.
        total: how many rows and tensors there are, where not all are shown.
        for_people: whether zeros are left out.
    """
    columns = (Column(title, "key"), *_MEASURES)
    rows, tensors = total or (len(measured), sum(each.tensors for each in measured))
    facts = [*head_fact(len(measured), rows, title), ("total", plural(tensors, "tensor"))]
    facts += [("skipped", each) for each in skipped]
    if span := _span(measured):
        facts.append(("histograms", span))
    return Sheet(columns, [_row(each, for_people=for_people) for each in measured], facts)


def _span(measured: Sequence[Measured]) -> str:
    """Return the range of all histograms, where it is one and not that of each row."""
    ranges = {(each.histogram.low, each.histogram.high) for each in measured if each.histogram}
    if len(ranges) != 1 or len(measured) == 1:
        return ""
    ((low, high),) = ranges
    return f"from {low:.4g} to {high:.4g}"


def without_histograms(measured: Sequence[Measured]) -> list[Measured]:
    """Return the measurements without their histograms, for where there is no room."""
    return [replace(each, histogram=None) for each in measured]


def page_of_statistics(
    source: Source, measured: Sequence[Measured], title: str, skipped: Sequence[str]
) -> Page:
    """Return the same as a page, with pictures.

    Args:
        source: what was measured.
        measured: what was found.
        title: what the rows are: "key" or "module".
        skipped: what was not measured, each with its reason.
    """
    sheet = statistics_sheet(without_histograms(measured), title, skipped).without_empty_columns()
    largest = sorted(measured, key=lambda each: -each.statistics.numel)[:PICTURES]
    chosen = {each.key for each in largest}
    panels = list(panels_of_statistics([each for each in measured if each.key in chosen]))
    return Page(
        "reinit stats",
        without_folders(source.name, (source.name,)),
        sheet.plain_facts,
        [
            f"{each.key} has {plural(each.statistics.nan, 'NaN')} and {each.statistics.inf:,} Inf"
            for each in measured
            if not each.statistics.is_finite
        ],
        [("Modules" if title == "module" else "Tensors", sheet)],
        panels,
        len(measured),
        list(spreads_of_statistics(measured)),
    )


def _row(each: Measured, *, for_people: bool) -> tuple[Value | Cell, ...]:
    found = each.statistics
    finite = found.finite
    moments = (finite.mean, finite.std, finite.low, finite.high, found.norm)
    nothing = None if for_people else 0
    return (
        each.key,
        found.numel,
        *(value if finite.numel else None for value in moments),
        found.zeros or nothing,
        *(Cell(count, "error") if count else nothing for count in (found.nan, found.inf)),
        drawn(each.histogram.coarser(BINS)) if each.histogram is not None else None,
    )


def drawn(histogram: Histogram) -> str:
    """Return a histogram as a character for each bin; only an empty bin is blank."""
    most = max(histogram.counts)
    top = len(_HEIGHTS) - 1
    heights = (-(-count * top // most) if most else 0 for count in histogram.counts)
    return "".join(_HEIGHTS[height] for height in heights)


def statistics_form(
    measured: Sequence[Measured], title: str, skipped: Sequence[str]
) -> dict[str, Any]:
    """Return the same for JSON: as "tensors", or as "modules"."""
    rows = [_form(each, title) for each in measured]
    return {
        "version": VERSION,
        "tensors" if title == "key" else "modules": rows,
        "skipped": skipped,
    }


def _form(each: Measured, title: str) -> Mapping[str, Any]:
    found, histogram = each.statistics, each.histogram
    finite = found.finite
    has_any = bool(finite.numel)
    form: dict[str, Any] = {
        title: each.key,
        "numel": found.numel,
        "mean": finite.mean if has_any else None,
        "std": finite.std if has_any else None,
        "min": finite.low if has_any else None,
        "max": finite.high if has_any else None,
        "norm": found.norm,
        "zeros": found.zeros,
        "nan": found.nan,
        "inf": found.inf,
    }
    if histogram is not None:
        form["histogram"] = {
            "low": histogram.low,
            "high": histogram.high,
            "counts": histogram.coarser(BINS).counts,
        }
    return form
