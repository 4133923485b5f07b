"""Show what differs between two sources."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from reinit_cli.checkpoints.source import Source
from reinit_cli.cli.help import Command
from reinit_cli.cli.options import (
    CONTEXT,
    DistanceType,
    display_options,
    json_option,
    rename_option,
    report_option,
    report_place,
    root_option,
    seed_option,
    weights_option,
)
from reinit_cli.cli.pager import paged
from reinit_cli.cli.parameters import (
    PatternType,
)
from reinit_cli.cli.render.file import write_report
from reinit_cli.cli.render.html import Page, without_folders
from reinit_cli.cli.render.json import VERSION, dumps
from reinit_cli.cli.render.meter import Meter
from reinit_cli.cli.render.overview import spreads_of_differences
from reinit_cli.cli.render.panels import panels_of_differences
from reinit_cli.cli.render.table import Column, Sheet, show
from reinit_cli.cli.terminal import warn_about
from reinit_cli.operations.diff import (
    Difference,
    chosen_keys,
    compare,
    compare_keys,
    counts_of,
    find_both,
    measure_changed,
    names_of,
    prefix_of,
)
from reinit_cli.operations.prefix import PrefixDifference
from reinit_cli.request.pattern import Pattern
from reinit_cli.request.rename import Rename
from reinit_cli.storage.destination import CHECKPOINT
from reinit_cli.tensors.distance import Tolerance
from reinit_cli.text import number, plural, shape

if TYPE_CHECKING:
    from reinit_cli.operations.stats import Measured


@click.command("diff", cls=Command, context_settings=CONTEXT)
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
@rename_option
@weights_option
@root_option
@seed_option
@report_option
@click.option("-f", "--force", is_flag=True, help="Replace an existing report.")
@json_option
@display_options
@click.pass_context
def command(
    ctx: click.Context,
    first: str,
    second: str,
    patterns: tuple[Pattern, ...],
    rtol: float,
    atol: float,
    rename: tuple[Rename, ...],
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
    --rename gives keys of A other names first; a prefix that explains the differences between
    keys is named.

    \b
    reinit diff model.safetensors model-reinit.safetensors
    reinit diff old.pt new.safetensors "layers.*" --rtol 1e-5
    reinit diff ddp.pt model.pt --rename "module.*=*"
    """
    mine, theirs = find_both(first, second, weights, root)
    warn_about((mine, theirs))
    reads = dict.fromkeys((*mine.reads, *theirs.reads), CHECKPOINT)
    place = report_place(report, reads, has_pictures=not keys_only, force=force)
    names = names_of(mine, rename)
    _refuse_unmatched((mine, theirs), patterns, names)
    is_chosen = chosen_keys((mine, theirs), patterns, names).__contains__
    if keys_only:
        found = compare_keys(mine, theirs, is_chosen, names)
    else:
        with Meter(f"{first} and {second}", is_shown=not quiet) as meter:
            progress = meter.of(sum(tensor.nbytes for tensor in mine.tensors))
            tolerance = Tolerance(rtol, atol)
            found = compare(mine, theirs, is_chosen, tolerance, seed, progress, names)
    compared = Compared(first, second, found, rename, prefix_of(found))
    if as_json:
        sys.stdout.write(dumps(differences_form(compared, shows_same=shows_same)) + "\n")
    elif not quiet:
        with paged():
            show(differences_sheet(compared, shows_same=shows_same), sys.stdout)
    if place is not None:
        pictures = ([], []) if keys_only else measure_changed(mine, theirs, found, seed)
        write_report(place, page_of_differences(compared, pictures, shows_same=shows_same))
    ctx.exit(1 if any(each.differs for each in found) else 0)


@dataclass(frozen=True, slots=True)
class Compared:
    """Two sources after a comparison.

    Attributes:
        first, second: their names.
        found: what was found.
        rename: what gave keys of the first other names.
        prefix: a prefix by which the keys that only one of them has differ, or None.
    """

    first: str
    second: str
    found: Sequence[Difference]
    rename: Sequence[Rename] = ()
    prefix: PrefixDifference | None = None


def _refuse_unmatched(
    sources: tuple[Source, Source], patterns: Sequence[Pattern], names: Mapping[str, str]
) -> None:
    """Refuse a pattern that matches no key.

    Raises:
        click.UsageError: it does not.
    """
    for pattern in patterns:
        if not chosen_keys(sources, [pattern], names):
            raise click.UsageError(f"no key of either source matches {pattern.text!r}")


_COLUMNS = (
    Column("change"),
    Column("key"),
    Column("what"),
    *(Column(title, is_number=True) for title in ("max abs", "relative L2", "changed", "cosine")),
)


def differences_sheet(compared: Compared, *, shows_same: bool) -> Sheet:
    """Return a row for each key that differs, and the counts.

    Args:
        compared: what was found.
        shows_same: whether keys that do not differ have rows too.
    """
    found = compared.found
    rows = [_row(each) for each in found if each.differs or shows_same]
    facts = [("from", compared.first), ("to", compared.second), ("keys", _counted(found))]
    facts += [("renamed by", each.text) for each in compared.rename]
    if (prefix := compared.prefix) is not None:
        facts.append(("prefix", _about(prefix, compared)))
    return Sheet(_COLUMNS, rows, facts).without_empty_columns()


def _about(prefix: PrefixDifference, compared: Compared) -> str:
    """Say which keys a prefix explains, and what compares them."""
    differ = f"{plural(prefix.explained, 'key')} {'differ' if prefix.explained > 1 else 'differs'}"
    sides = zip(prefix.prefix, (compared.first, compared.second), strict=True)
    where = " and ".join(f"{text!r}, which {name} has in front" for text, name in sides if text)
    renames = [f"--rename {shlex.quote(each)}" for each in _renames(compared, prefix)]
    command = f"reinit diff {shlex.join((compared.first, compared.second))} {' '.join(renames)}"
    return f"{differ} only in {where}: {command}"


def _renames(compared: Compared, prefix: PrefixDifference) -> list[str]:
    return [*(each.text for each in compared.rename), prefix.rename]


def page_of_differences(
    compared: Compared,
    measured: tuple[Sequence[Measured], Sequence[Measured]],
    *,
    shows_same: bool,
) -> Page:
    """Return the same as a page, with pictures.

    Args:
        compared: what was found.
        measured: what was measured of either source, for the pictures.
        shows_same: whether keys that do not differ have rows too.
    """
    names = (compared.first, compared.second)
    first, second = (without_folders(name, (name,)) for name in names)
    found = compared.found
    shown = replace(compared, first=first, second=second)
    sheet = differences_sheet(shown, shows_same=shows_same)
    panels = list(panels_of_differences(found, *measured))
    return Page(
        "reinit diff",
        f"{first} → {second}",
        sheet.plain_facts,
        [],
        [("Keys", sheet)],
        panels,
        sum(each.distance is not None for each in found),
        list(spreads_of_differences(found, *measured)),
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


def differences_form(compared: Compared, *, shows_same: bool) -> dict[str, Any]:
    """Return the same for JSON."""
    found, prefix = compared.found, compared.prefix
    form: dict[str, Any] = {
        "version": VERSION,
        "first": compared.first,
        "second": compared.second,
        "counts": counts_of(found),
        "differences": [_form(each) for each in found if each.differs or shows_same],
    }
    if compared.rename:
        form["rename"] = [each.text for each in compared.rename]
    if prefix is not None:
        form["prefix"] = {
            "removed": prefix.prefix.removed,
            "added": prefix.prefix.added,
            "keys": prefix.explained,
            "rename": _renames(compared, prefix),
        }
    return form


def _form(each: Difference) -> dict[str, Any]:
    first, second, distance = each.first, each.second, each.distance
    form: dict[str, Any] = {
        "key": each.key,
        "change": each.change,
        "shape": [tensor.shape if tensor else None for tensor in (first, second)],
        "dtype": [tensor.dtype if tensor else None for tensor in (first, second)],
    }
    if first is not None and first.key != each.key:
        form["source_key"] = first.key
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
