"""Show what differs between two sources."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from reinit_cli.checkpoints.source import Source
from reinit_cli.cli.options import (
    CONTEXT,
    DistanceType,
    json_option,
    report_option,
    report_place,
    root_option,
    seed_option,
    weights_option,
)
from reinit_cli.cli.parameters import (
    PatternType,
)
from reinit_cli.cli.render.file import write_report
from reinit_cli.cli.render.html import Page, without_folders
from reinit_cli.cli.render.json import VERSION, dumps
from reinit_cli.cli.render.meter import Meter
from reinit_cli.cli.render.panels import panels_of_differences
from reinit_cli.cli.render.table import Column, Sheet, show
from reinit_cli.operations.diff import (
    Difference,
    chosen_keys,
    compare,
    compare_keys,
    counts_of,
    find_both,
    measure_changed,
)
from reinit_cli.request.pattern import Pattern
from reinit_cli.storage.destination import CHECKPOINT
from reinit_cli.tensors.distance import Tolerance
from reinit_cli.text import number, plural, shape

if TYPE_CHECKING:
    from reinit_cli.operations.stats import Measured


@click.command("diff", context_settings=CONTEXT)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.argument("patterns", type=PatternType(), nargs=-1, metavar="[PATTERN]...")
@click.option(
    "--rtol",
    type=DistanceType(),
    default=0.0,
    show_default=True,
    help="Let values be apart by this share of B's.",
)
@click.option(
    "--atol",
    type=DistanceType(),
    default=0.0,
    show_default=True,
    help="Let values be apart by this much.",
)
@click.option("--keys-only", is_flag=True, help="Compare keys, shapes and dtypes; read no tensor.")
@click.option("--all", "shows_same", is_flag=True, help="Show what does not differ too.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; the exit code tells.")
@weights_option
@root_option
@seed_option
@report_option
@click.option("-f", "--force", is_flag=True, help="Replace an existing report.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    first: str,
    second: str,
    patterns: tuple[Pattern, ...],
    rtol: float,
    atol: float,
    weights: str | None,
    root: str | None,
    seed: int,
    report: str | None,
    *,
    force: bool,
    keys_only: bool,
    shows_same: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Tell what differs between A and B; exit 0 if nothing does, 1 if something does.

    Tensors are told to be added, removed, moved to another key, of another shape or dtype,
    or of other values, and how far those are apart: the largest difference, the norm of the
    difference over that of A's tensor, the share of elements that changed, and the cosine.

    \b
    reinit diff model.safetensors model-reinit.safetensors
    reinit diff old.pt new.safetensors "layers.*" --rtol 1e-5
    """
    mine, theirs = find_both(first, second, weights, root)
    reads = dict.fromkeys((*mine.reads, *theirs.reads), CHECKPOINT)
    place = report_place(report, reads, has_pictures=not keys_only, force=force)
    _refuse_unmatched((mine, theirs), patterns)
    chosen = chosen_keys((mine, theirs), patterns)
    if keys_only:
        found = compare_keys(mine, theirs, chosen.__contains__)
    else:
        with Meter(f"{first} and {second}", is_shown=not quiet) as meter:
            progress = meter.of(sum(tensor.nbytes for tensor in mine.tensors))
            found = compare(
                mine, theirs, chosen.__contains__, Tolerance(rtol, atol), seed, progress
            )
    names = (first, second)
    if as_json:
        sys.stdout.write(dumps(differences_form(found, names, shows_same=shows_same)) + "\n")
    elif not quiet:
        show(differences_sheet(found, names, shows_same=shows_same), sys.stdout)
    if place is not None:
        pictures = ([], []) if keys_only else measure_changed(mine, theirs, found, seed)
        write_report(place, page_of_differences(found, names, pictures, shows_same=shows_same))
    ctx.exit(1 if any(each.differs for each in found) else 0)


def _refuse_unmatched(sources: Iterable[Source], patterns: Sequence[Pattern]) -> None:
    """Refuse a pattern that matches no key.

    Raises:
        click.UsageError: it does not.
    """
    for pattern in patterns:
        if not chosen_keys(sources, [pattern]):
            raise click.UsageError(f"no key of either source matches {pattern.text!r}")


_COLUMNS = (
    Column("change"),
    Column("key"),
    Column("what"),
    *(Column(title, is_number=True) for title in ("max abs", "relative L2", "changed", "cosine")),
)


def differences_sheet(
    found: Sequence[Difference], names: tuple[str, str], *, shows_same: bool
) -> Sheet:
    """Return a row for each key that differs, and the counts.

    Args:
        found: what was found.
        names: those of the sources.
        shows_same: whether keys that do not differ have rows too.
    """
    rows = [_row(each) for each in found if each.differs or shows_same]
    facts = [("from", names[0]), ("to", names[1]), ("keys", _counted(found))]
    return Sheet(_COLUMNS, rows, facts).without_empty_columns()


def page_of_differences(
    found: Sequence[Difference],
    names: tuple[str, str],
    measured: tuple[Sequence[Measured], Sequence[Measured]],
    *,
    shows_same: bool,
) -> Page:
    """Return the same as a page, with pictures.

    Args:
        found: what was found.
        names: those of the sources.
        measured: what was measured of either source, for the pictures.
        shows_same: whether keys that do not differ have rows too.
    """
    shown = tuple(without_folders(name, (name,)) for name in names)
    sheet = differences_sheet(found, (shown[0], shown[1]), shows_same=shows_same)
    panels = list(panels_of_differences(found, *measured))
    left = sum(each.distance is not None for each in found) - len(panels)
    return Page(
        "reinit diff",
        f"{shown[0]} → {shown[1]}",
        sheet.facts,
        [],
        [("Keys", sheet)],
        panels,
        f"The {len(panels)} largest; {plural(left, 'tensor')} more differ." if left else "",
    )


def _counted(found: Sequence[Difference]) -> str:
    return ", ".join(f"{count:,} {_WORDS[change]}" for change, count in counts_of(found).items())


_WORDS = {
    "same": "the same",
    "added": "added",
    "removed": "removed",
    "moved": "moved",
    "shape": "of another shape",
    "dtype": "of another dtype",
    "values": "with other values",
    "bits": "with other bits of equal values",
    "unknown": "no plain tensors and not compared",
}


def _row(each: Difference) -> tuple[str, ...]:
    distance = each.distance
    numbers = ("", "", "", "")
    if distance is not None:
        share = distance.changed / distance.numel
        numbers = (
            number(distance.max_abs),
            number(distance.relative_l2),
            f"{share:.2%}",
            "" if math.isnan(distance.cosine) else f"{distance.cosine:.6f}",
        )
    return (each.change, each.key, _what(each), *numbers)


def _what(each: Difference) -> str:
    first, second = each.first, each.second
    if first is None or second is None:
        there = first or second
        assert there is not None
        return f"{shape(there.shape)} {there.dtype}"
    match each.change:
        case "moved":
            return f"→ {second.key}"
        case "shape":
            return f"{shape(first.shape)} → {shape(second.shape)}"
        case "dtype":
            return f"{first.dtype} → {second.dtype}"
        case "unknown":
            return first.carried or ""
    return f"{shape(first.shape)} {first.dtype}"


def differences_form(
    found: Sequence[Difference], names: tuple[str, str], *, shows_same: bool
) -> dict[str, Any]:
    """Return the same for JSON."""
    return {
        "version": VERSION,
        "first": names[0],
        "second": names[1],
        "counts": counts_of(found),
        "differences": [_form(each) for each in found if each.differs or shows_same],
    }


def _form(each: Difference) -> dict[str, Any]:
    first, second, distance = each.first, each.second, each.distance
    form: dict[str, Any] = {
        "key": each.key,
        "change": each.change,
        "shape": [tensor.shape if tensor else None for tensor in (first, second)],
        "dtype": [tensor.dtype if tensor else None for tensor in (first, second)],
    }
    if each.change == "moved" and second is not None:
        form["moved_to"] = second.key
    if distance is not None:
        form |= {
            "numel": distance.numel,
            "changed": distance.changed,
            "max_abs": distance.max_abs,
            "relative_l2": distance.relative_l2,
            "cosine": distance.cosine,
        }
    return form
