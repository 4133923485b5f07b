"""Show what differs between two sources."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import click

from reinit_cli.cli.help import Command, argument, option
from reinit_cli.cli.options import (
    CONTEXT,
    VIEW,
    DistanceType,
    display_options,
    json_option,
    overwrite_report_option,
    quiet_option,
    rename_option,
    report_option,
    report_place,
    root_option,
    seed_option,
    source_stream_option,
    weights_option,
)
from reinit_cli.cli.pager import paged
from reinit_cli.cli.render.differences import (
    Compared,
    Rows,
    differences_form,
    differences_sheet,
    page_of_differences,
    rows_of,
    summary,
)
from reinit_cli.cli.render.file import write_report
from reinit_cli.cli.render.json import dumps
from reinit_cli.cli.render.meter import Meter
from reinit_cli.cli.render.table import Sheet, show
from reinit_cli.cli.screen import screen_of
from reinit_cli.cli.selection import refuse_unmatched, selection_options, warn_of_exclusions
from reinit_cli.cli.terminal import note_downloads, warn_about
from reinit_cli.operations.diff import (
    compare,
    compare_keys,
    downloads_to_compare,
    find_both,
    keys_of,
    measure_changed,
    names_of,
    prefix_of,
)
from reinit_cli.operations.difference import DIFFERENCE_ORDERS
from reinit_cli.operations.keys import Selectors, choice_of
from reinit_cli.operations.layers import layers_for_both
from reinit_cli.request.rename import Rename
from reinit_cli.storage.destination import CHECKPOINT
from reinit_cli.storage.location import without_secrets
from reinit_cli.tensors.distance import Tolerance

_COMPARISON = "Comparison"


@click.command("diff", cls=Command, context_settings=CONTEXT)
@argument("first", metavar="A", help="The source to compare with: a checkpoint or a model")
@argument("second", metavar="B", help="The source that may differ")
@selection_options(DIFFERENCE_ORDERS, "rows")
@option(
    "--rtol",
    type=DistanceType(),
    default=0.0,
    metavar="X",
    heading=_COMPARISON,
    brief="Relative tolerance  [default: 0]",
    help="Relative tolerance: a share of B's value  [default: 0]",
)
@option(
    "--atol",
    type=DistanceType(),
    default=0.0,
    metavar="X",
    heading=_COMPARISON,
    brief="Absolute tolerance  [default: 0]",
    help="Absolute tolerance  [default: 0]",
)
@option(
    "--keys-only",
    is_flag=True,
    heading=_COMPARISON,
    brief="Compare keys, shapes and dtypes; read no tensor",
    help="Compare keys, shapes and dtypes; read no tensor",
)
@option(
    "--stat",
    is_flag=True,
    heading=VIEW,
    brief="Collapse repeated layers",
    help="Collapse repeated layers, with the largest changes",
)
@option(
    "--all",
    "shows_same",
    is_flag=True,
    heading=VIEW,
    brief="Also show unchanged tensors",
    help="Also show unchanged tensors",
)
@quiet_option
@rename_option
@weights_option
@root_option
@seed_option
@source_stream_option
@report_option
@overwrite_report_option
@json_option
@display_options
@click.pass_context
def command(
    ctx: click.Context,
    first: str,
    second: str,
    rtol: float,
    atol: float,
    rename: tuple[Rename, ...],
    weights: str | None,
    root: str | None,
    seed: int,
    stream: str,
    report: str | None,
    *,
    selectors: Selectors,
    force: bool,
    stat: bool,
    keys_only: bool,
    shows_same: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compare A and B; exit 0 if they are the same, 1 if they differ, 2 on an error.

    Reports tensors that were added, removed, moved to another key, or changed in shape, dtype
    or values; for changed values the largest difference, relative L2 (the norm of the
    difference over that of A's tensor), the share of elements that changed, and the cosine.
    --rename renames keys of A first; a prefix that explains the differences between keys is
    named. --weights, --root, --seed and --stream hold for A and for B.

    \b
    reinit diff model.safetensors model-reinit.safetensors --stat
    reinit diff old.pt new.safetensors "layers.*" --sort relative_l2 --head 10
    reinit diff ddp.pt model.pt --rename "module.*=*"
    """
    mine, theirs = find_both(first, second, weights, root, stream)
    first, second = without_secrets(first), without_secrets(second)
    warn_about((mine, theirs), root)
    reads = dict.fromkeys((*mine.reads, *theirs.reads), CHECKPOINT)
    place = report_place(report, reads, has_pictures=not keys_only, force=force)
    names = names_of(mine, rename)
    keys = keys_of((mine, theirs), names)
    choice = choice_of(
        keys,
        selectors.patterns,
        selectors.excluded,
        layers_for_both(selectors.all_patterns, mine, theirs, names),
    )
    warn_of_exclusions(choice, _EITHER)
    refuse_unmatched(choice, keys, _EITHER, of=first)
    is_chosen = {keys[at] for at in choice.positions}.__contains__
    if not keys_only:
        note_downloads((mine, theirs), downloads_to_compare(mine, theirs, is_chosen, names))
    if keys_only:
        found = compare_keys(mine, theirs, is_chosen, names)
    else:
        with Meter(f"{first} and {second}", is_shown=not quiet) as meter:
            progress = meter.of(sum(tensor.nbytes for tensor in mine.tensors))
            tolerance = Tolerance(rtol, atol)
            found = compare(mine, theirs, is_chosen, tolerance, seed, progress, names)
    compared = Compared(first, second, found, rename, prefix_of(found))
    rows = rows_of(found, selectors, shows_same=shows_same, collapses=stat)
    shown = rows[: selectors.head]
    if as_json:
        sys.stdout.write(dumps(differences_form(compared, shown, collapses=stat)) + "\n")
    elif not quiet:
        with paged():
            _show(summary(compared, len(rows) - len(shown)), shown)
    if place is not None:
        pictures = ([], []) if keys_only else measure_changed(mine, theirs, found, seed)
        write_report(place, page_of_differences(compared, shown, pictures))
    ctx.exit(1 if any(each.differs for each in found) else 0)


_EITHER = "either source"


def _show(facts: Sequence[tuple[str, str]], rows: Rows) -> None:
    """Show the summary, then the rows, of which there may be many."""
    screen = screen_of(sys.stdout)
    if not screen.is_terminal:
        show(replace(differences_sheet(rows, None), facts=facts), sys.stdout)
        return
    show(Sheet((), (), facts), sys.stdout)
    if rows:
        sys.stdout.write("\n")
        show(differences_sheet(rows, screen), sys.stdout)
