"""`reinit diff A B [PATTERN...]`: what differs between two sources."""

from __future__ import annotations

import sys
from collections.abc import Sequence

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
from reinit_cli.patterns import KeyIndex, Pattern
from reinit_cli.sources import Source, find_source


@click.command("diff", context_settings=CONTEXT)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.argument("patterns", type=PatternType(), nargs=-1, metavar="[PATTERN]...")
@click.option(
    "--rtol",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Let values be apart by this share of B's.",
)
@click.option(
    "--atol",
    type=click.FloatRange(min=0),
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
    from reinit_cli.comparing import Tolerance, compare, compare_keys
    from reinit_cli.report.meter import Meter

    sources = [_found(text, weights, root) for text in (first, second)]
    mine, theirs = sources
    place = report_place(report, (mine.path, theirs.path), has_pictures=not keys_only, force=force)
    chosen = _chosen([tensor.key for source in sources for tensor in source.tensors], patterns)
    if keys_only:
        found = compare_keys(mine, theirs, chosen.__contains__)
    else:
        with Meter(f"{first} and {second}", is_shown=not quiet) as meter:
            told = meter.of(sum(tensor.nbytes for tensor in mine.tensors))
            found = compare(mine, theirs, chosen.__contains__, Tolerance(rtol, atol), seed, told)
    names = (first, second)
    if as_json:
        from reinit_cli.report.comparisons import differences_form
        from reinit_cli.report.serial import dumps

        sys.stdout.write(dumps(differences_form(found, names, shows_same=shows_same)) + "\n")
    elif not quiet:
        from reinit_cli.report.comparisons import differences_sheet
        from reinit_cli.report.sheets import show

        show(differences_sheet(found, names, shows_same=shows_same), sys.stdout)
    if place is not None:
        from reinit_cli.report.comparisons import page_of_differences
        from reinit_cli.report.files import write_report
        from reinit_cli.sketching import measure_changed

        pictures = ([], []) if keys_only else measure_changed(mine, theirs, found, seed)
        write_report(place, page_of_differences(found, names, pictures, shows_same=shows_same))
    ctx.exit(1 if any(each.differs for each in found) else 0)


def _chosen(keys: Sequence[str], patterns: Sequence[Pattern]) -> set[str]:
    """Return the keys that match a pattern, or all where there is none.

    Raises:
        click.UsageError: a pattern matches none.
    """
    if not patterns:
        return set(keys)
    index = KeyIndex(keys)
    chosen: set[str] = set()
    for pattern in patterns:
        selected = index.select(pattern)
        if not selected:
            raise click.UsageError(f"no key of either source matches {pattern.text!r}")
        chosen.update(keys[at] for at in selected)
    return chosen


def _found(text: str, weights: str | None, root: str | None) -> Source:
    # Weights are chosen for models, and one of two sources may be a file.
    return find_source(text, weights if text.isidentifier() else None, root)
