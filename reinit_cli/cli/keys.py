"""`reinit keys SOURCE [PATTERN...]`: list keys."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from reinit_cli.cli.options import CONTEXT, PatternType, json_option, root_option, weights_option
from reinit_cli.collector import collector_paused
from reinit_cli.patterns import KeyIndex, Pattern
from reinit_cli.sources import Source, find_source
from reinit_cli.tensors import TensorInfo, repeated_keys, tied_groups

if TYPE_CHECKING:
    from reinit_cli.report.sheets import Sheet

_DIGITS = re.compile(r"([0-9]+)")


def _natural(tensor: TensorInfo) -> list[tuple[int, str]]:
    """Order keys as people count: layers.2 before layers.10."""
    parts = _DIGITS.split(tensor.key)
    return [(int(part or 0), "") if at % 2 else (0, part) for at, part in enumerate(parts)]


_ORDERS: Mapping[str, Callable[[TensorInfo], object]] = {
    "key": _natural,
    "parameters": lambda tensor: -tensor.numel,
    "bytes": lambda tensor: -tensor.nbytes,
    "shape": lambda tensor: tensor.shape,
    "dtype": lambda tensor: tensor.dtype,
}


@click.command("keys", context_settings=CONTEXT)
@click.argument("source")
@click.argument("patterns", type=PatternType(), nargs=-1, metavar="[PATTERN]...")
@click.option(
    "-x",
    "--exclude",
    "excluded",
    type=PatternType(),
    multiple=True,
    metavar="PATTERN",
    help="Leave out what the pattern matches.",
)
@click.option("-l", "--long", is_flag=True, help="List shapes and sizes in a pipe too.")
@click.option("--tree", is_flag=True, help="Show modules as a tree, with the sums of each.")
@click.option("--group", is_flag=True, help="Show keys that differ in numbers only as one pattern.")
@click.option(
    "--sort",
    "order",
    type=click.Choice(list(_ORDERS)),
    help="Sort by this, sizes from the largest.  [default: the order of SOURCE]",
)
@click.option("--count", is_flag=True, help="Print the number of keys.")
@click.option("--meta", is_flag=True, help="Show what SOURCE holds beside its tensors.")
@click.option("-0", "--null", is_flag=True, help="End each key with a NUL instead of a newline.")
@weights_option
@root_option
@json_option
@click.pass_context
@collector_paused()
def command(
    ctx: click.Context,
    source: str,
    patterns: tuple[Pattern, ...],
    excluded: tuple[Pattern, ...],
    weights: str | None,
    root: str | None,
    *,
    long: bool,
    tree: bool,
    group: bool,
    order: str | None,
    count: bool,
    meta: bool,
    null: bool,
    as_json: bool,
) -> None:
    """List the keys of SOURCE, or those that match a PATTERN; exit 1 if there are none.

    On a terminal a table with shapes and dtypes; in a pipe one key per line. Nothing but
    names and shapes is read, and nothing is downloaded.

    \b
    reinit keys alexnet
    reinit keys model.safetensors --group
    reinit keys model.safetensors "*.bias" | wc -l
    """
    forms = {"--tree": tree, "--group": group, "--count": count, "--meta": meta}
    _refuse_together(forms | {"--long": long, "--null": null, "--json": as_json})
    if meta and (patterns or excluded or order):
        raise click.UsageError("--meta shows SOURCE whole, so nothing chooses or sorts")
    found = find_source(source, weights, root)
    if meta:
        _show_contents(found, as_json=as_json)
        return
    chosen = chosen_tensors(found.tensors, patterns, excluded)
    if order:
        chosen.sort(key=_ORDERS[order])  # type: ignore[arg-type]
    groups = tied_groups(found.tensors)
    ties = _Ties(
        {key: tied[0] for key, tied in groups.items() if key != tied[0]},
        repeated_keys(chosen, groups),
    )
    is_terminal = sys.stdout.isatty()
    if count:
        click.echo(len(chosen))
    elif as_json:
        from reinit_cli.report.serial import key_forms

        sys.stdout.writelines(line + "\n" for line in key_forms(chosen, ties.aliases))
    elif tree or long or (is_terminal and not null):
        from reinit_cli.report.sheets import show

        show(_sheet(chosen, ties, tree=tree, group=group, is_terminal=is_terminal), sys.stdout)
    else:
        _print_lines(_names(chosen, group=group), "\0" if null else "\n")
    ctx.exit(0 if chosen else 1)


class _Ties(NamedTuple):
    """Which keys have one tensor.

    Attributes:
        aliases: for a tied key the first of its ties.
        repeated: the chosen keys that add nothing to a sum, since a tied one does.
    """

    aliases: Mapping[str, str]
    repeated: Collection[str]


_TOGETHER = frozenset(
    (("--group", "--long"), ("--group", "--null"), ("--meta", "--json"), ("--tree", "--long"))
)
"""Which two say how keys are shown without contradiction."""


def _refuse_together(asked: Mapping[str, bool]) -> None:
    given = [name for name, is_given in asked.items() if is_given]
    for at, first in enumerate(given):
        for second in given[at + 1 :]:
            if (first, second) not in _TOGETHER:
                raise click.UsageError(f"{first} and {second} do not go together")


def chosen_tensors(
    tensors: Sequence[TensorInfo], patterns: Sequence[Pattern], excluded: Sequence[Pattern] = ()
) -> list[TensorInfo]:
    """Return the tensors that match a pattern, or all where there is none, but the excluded."""
    if not patterns and not excluded:
        return list(tensors)
    index = KeyIndex([tensor.key for tensor in tensors])
    positions = set(range(len(tensors)))
    if patterns:
        positions = {at for pattern in patterns for at in index.select(pattern)}
    positions -= {at for pattern in excluded for at in index.select(pattern)}
    return [tensors[at] for at in sorted(positions)]


def _sheet(
    tensors: Sequence[TensorInfo],
    ties: _Ties,
    *,
    tree: bool,
    group: bool,
    is_terminal: bool,
) -> Sheet:
    from reinit_cli.outlines import groups_of, tree_of
    from reinit_cli.report.keys import groups_sheet, keys_sheet, tree_sheet

    if tree:
        return tree_sheet(tree_of(tensors, ties.repeated), *ties, is_indented=is_terminal)
    if group:
        return groups_sheet(groups_of(tensors), ties.repeated)
    return keys_sheet(tensors, *ties)


def _names(tensors: Sequence[TensorInfo], *, group: bool) -> Collection[str]:
    if not group:
        return [tensor.key for tensor in tensors]
    from reinit_cli.outlines import groups_of

    return [each.pattern for each in groups_of(tensors)]


def _print_lines(lines: Collection[str], end: str) -> None:
    text = "".join(line + end for line in lines)
    sys.stdout.buffer.write(text.encode(errors="surrogatepass"))
    sys.stdout.buffer.flush()


def _show_contents(source: Source, *, as_json: bool) -> None:
    from reinit_cli.report.keys import contents_form, contents_sheet

    if as_json:
        from reinit_cli.report.serial import dumps

        sys.stdout.write(dumps(contents_form(source)) + "\n")
    else:
        from reinit_cli.report.sheets import show

        show(contents_sheet(source), sys.stdout)
