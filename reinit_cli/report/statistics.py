"""What tensors are like, as a sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reinit_cli.measuring import BINS
from reinit_cli.report.pages import Page, without_folders
from reinit_cli.report.panels import panels_of_statistics
from reinit_cli.report.serial import VERSION
from reinit_cli.report.sheets import Column, Sheet
from reinit_cli.sketching import PICTURES
from reinit_cli.text import number, plural

if TYPE_CHECKING:
    from reinit_cli.histograms import Histogram
    from reinit_cli.measuring import Measured
    from reinit_cli.sources import Source

_HEIGHTS = " ▁▂▃▄▅▆▇█"
_MEASURES = ("elements", "mean", "std", "min", "max", "norm", "zeros", "NaN", "Inf")


def statistics_sheet(measured: Sequence[Measured], title: str, skipped: Sequence[str]) -> Sheet:
    """Return a row for each tensor or module.

    Args:
        measured: what is shown.
        title: what the rows are: "key" or "module".
        skipped: what was not measured, each with its reason.
    """
    columns = (
        Column(title),
        *(Column(name, is_number=True) for name in _MEASURES),
        Column("histogram"),
    )
    facts = [("total", plural(sum(each.tensors for each in measured), "tensor"))]
    facts += [("skipped", each) for each in skipped]
    return Sheet(columns, [_row(each) for each in measured], facts).without_empty_columns()


def without_histograms(measured: Sequence[Measured]) -> list[Measured]:
    """Return what was measured as it is shown where there is no room for pictures."""
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
    sheet = statistics_sheet(without_histograms(measured), title, skipped)
    largest = sorted(measured, key=lambda each: -each.statistics.numel)[:PICTURES]
    chosen = {each.key for each in largest}
    panels = list(panels_of_statistics([each for each in measured if each.key in chosen]))
    left = len(measured) - len(largest)
    return Page(
        "reinit stats",
        without_folders(source.name, (source.name,)),
        sheet.facts,
        [
            f"{each.key} has {plural(each.statistics.nan, 'NaN')} and {each.statistics.inf:,} Inf"
            for each in measured
            if not each.statistics.is_finite
        ],
        [("Modules" if title == "module" else "Tensors", sheet)],
        panels,
        f"The {len(largest)} largest; {plural(left, title)} more were measured." if left else "",
    )


def _row(each: Measured) -> tuple[str, ...]:
    found = each.statistics
    finite = found.finite
    moments = (finite.mean, finite.std, finite.low, finite.high, found.norm)
    return (
        each.key,
        f"{found.numel:,}",
        *(number(value) if finite.numel else "" for value in moments),
        *(f"{count:,}" if count else "" for count in (found.zeros, found.nan, found.inf)),
        drawn(each.histogram.coarser(BINS)) if each.histogram is not None else "",
    )


def drawn(histogram: Histogram) -> str:
    """Return a histogram as a character for each bin; what is there is never blank."""
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
        "std": finite.std,
        "min": finite.low,
        "max": finite.high,
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
