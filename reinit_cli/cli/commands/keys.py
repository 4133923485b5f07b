"""List keys: one by one, in groups, or as a tree."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import click

from reinit_cli.checkpoints.find import find_source
from reinit_cli.cli.help import Command
from reinit_cli.cli.options import (
    CONTEXT,
    display_options,
    json_option,
    root_option,
    weights_option,
)
from reinit_cli.cli.pager import paged
from reinit_cli.cli.parameters import (
    PatternType,
)
from reinit_cli.cli.render.facts import place_facts
from reinit_cli.cli.render.json import dumps
from reinit_cli.cli.render.table import Column, Sheet, show
from reinit_cli.cli.screen import screen_of
from reinit_cli.cli.terminal import warn_about
from reinit_cli.collector import collector_paused
from reinit_cli.operations.keys import ORDERS, Listing, list_keys
from reinit_cli.operations.outline import Branch, Group
from reinit_cli.request.pattern import Pattern
from reinit_cli.tensors.counts import count, counted_text
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import nbytes, shape


@click.command("keys", cls=Command, context_settings=CONTEXT)
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
    type=click.Choice(list(ORDERS)),
    help="Sort by this, sizes from the largest.  [default: the order of SOURCE]",
)
@click.option("--count", is_flag=True, help="Print the number of keys.")
@click.option(
    "--meta", is_flag=True, help="Outline what SOURCE holds, with or without a state dict."
)
@click.option("-0", "--null", is_flag=True, help="End each key with a NUL instead of a newline.")
@weights_option
@root_option
@json_option
@display_options
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
    if meta:
        _show_contents(source, weights, root, as_json=as_json)
        return
    found = find_source(source, weights, root)
    warn_about((found,))
    listing = list_keys(found.tensors, patterns, excluded, order)
    is_terminal = screen_of(sys.stdout).is_terminal
    if count:
        click.echo(len(listing.tensors))
    elif as_json:
        sys.stdout.writelines(line + "\n" for line in key_forms(listing))
    elif tree or long or (is_terminal and not null):
        sheet = _sheet(listing, tree=tree, group=group, is_terminal=is_terminal)
        facts = (*sheet.facts, *place_facts(found.located))
        with paged():
            show(replace(sheet, facts=facts), sys.stdout)
    else:
        _print_lines(_names(listing.tensors, group=group), "\0" if null else "\n")
    ctx.exit(0 if listing.tensors else 1)


_TOGETHER = frozenset(
    (("--group", "--long"), ("--group", "--null"), ("--meta", "--json"), ("--tree", "--long"))
)
"""The pairs of options that do not contradict each other."""


def _refuse_together(options: Mapping[str, bool]) -> None:
    given = [name for name, is_given in options.items() if is_given]
    for at, first in enumerate(given):
        for second in given[at + 1 :]:
            if (first, second) not in _TOGETHER:
                raise click.UsageError(f"{first} and {second} do not go together")


def _sheet(listing: Listing, *, tree: bool, group: bool, is_terminal: bool) -> Sheet:
    from reinit_cli.operations.outline import groups_of, tree_of

    if tree:
        branches = tree_of(listing.tensors, listing.repeated, listing.buffers)
        return tree_sheet(branches, listing, is_indented=is_terminal)
    if group:
        return groups_sheet(groups_of(listing.tensors), listing)
    return keys_sheet(listing)


def _names(tensors: Sequence[TensorInfo], *, group: bool) -> Collection[str]:
    if not group:
        return [tensor.key for tensor in tensors]
    from reinit_cli.operations.outline import groups_of

    return [each.pattern for each in groups_of(tensors)]


def _print_lines(lines: Collection[str], end: str) -> None:
    text = "".join(line + end for line in lines)
    sys.stdout.buffer.write(text.encode(errors="surrogatepass"))
    sys.stdout.buffer.flush()


def _show_contents(name: str, weights: str | None, root: str | None, *, as_json: bool) -> None:
    from reinit_cli.cli.render.contents import contents_form, contents_sheet, outline_sheet
    from reinit_cli.operations.contents import describe

    holdings = describe(name, weights, root)
    if as_json:
        sys.stdout.write(dumps(contents_form(holdings)) + "\n")
        return
    with paged():
        show(contents_sheet(holdings), sys.stdout)
        if holdings.parts:
            show(outline_sheet(holdings.parts), sys.stdout)


_SIZES = (Column("parameters", is_number=True), Column("bytes", is_number=True))


_COLUMNS = (Column("key"), Column("shape"), Column("dtype"), *_SIZES, Column("mark"))


_GROUP_COLUMNS = (
    *(Column("keys"), Column("count", is_number=True), Column("shape"), Column("dtype")),
    *_SIZES,
    Column("mark"),
)


_TREE_COLUMNS = (
    *(Column("module"), Column("tensors", is_number=True), Column("shape"), Column("dtype")),
    *_SIZES,
    Column("mark"),
)


def keys_sheet(listing: Listing) -> Sheet:
    """Return a row for each key, and the totals."""
    rows = [
        (
            tensor.key,
            *_kind(tensor),
            *_sizes((tensor,), listing),
            _mark(tensor, listing),
        )
        for tensor in listing.tensors
    ]
    return Sheet(_COLUMNS, rows, _totals(listing)).without_empty_columns()


def groups_sheet(groups: Sequence[Group], listing: Listing) -> Sheet:
    """Return a row for each group of keys that differ in numbers only, and the totals."""
    rows = [
        (
            group.pattern,
            f"×{len(group.tensors)}" if len(group.tensors) > 1 else "",
            *_kind(group.tensors[0]),
            *_sizes(group.tensors, listing),
            _mark(group.tensors[0], replace(listing, aliases={})),
        )
        for group in groups
    ]
    return Sheet(_GROUP_COLUMNS, rows, _totals(listing)).without_empty_columns()


def tree_sheet(tree: Sequence[Branch], listing: Listing, *, is_indented: bool) -> Sheet:
    """Return a row for each module with the sums of what is in it, and for each tensor.

    Args:
        tree: modules, each before what is in it.
        listing: the keys that are in it.
        is_indented: whether a row shows its last name below its module's, or its whole path.
    """
    rows = [
        (
            "  " * branch.depth + branch.name if is_indented else branch.path,
            "" if branch.tensor else f"{branch.leaves:,}",
            *(_kind(branch.tensor) if branch.tensor else ("", "")),
            *(
                _sizes((branch.tensor,), listing)
                if branch.tensor
                else (f"{branch.parameters:,}", nbytes(branch.nbytes))
            ),
            _mark(branch.tensor, listing) if branch.tensor else "",
        )
        for branch in tree
    ]
    return Sheet(_TREE_COLUMNS, rows, _totals(listing)).without_empty_columns()


def _totals(listing: Listing) -> tuple[tuple[str, str], ...]:
    return (("total", counted_text(listing.counts)),)


def _sizes(tensors: Sequence[TensorInfo], listing: Listing) -> tuple[str, str]:
    """Return the parameters and bytes of tensors, so that the columns add up to the totals."""
    counts = count(tensors, listing.repeated, listing.buffers)
    is_counted = any(tensor.key not in listing.repeated for tensor in tensors)
    return f"{counts.parameters:,}" if counts.parameters else "", nbytes(
        counts.nbytes
    ) if is_counted else ""


def _kind(tensor: TensorInfo) -> tuple[str, str]:
    return shape(tensor.shape) if tensor.nbytes or not tensor.carried else "", tensor.dtype


def _mark(tensor: TensorInfo, listing: Listing) -> str:
    if tensor.key in listing.aliases:
        return f"tied to {listing.aliases[tensor.key]}"
    return tensor.carried or ("buffer" if tensor.key in listing.buffers else "")


def key_forms(listing: Listing) -> Iterator[str]:
    """Yield a line for each key."""
    for tensor in listing.tensors:
        # It has no float that could be NaN, and there may be a hundred thousand.
        yield json.dumps(
            {
                "key": tensor.key,
                "shape": tensor.shape,
                "dtype": tensor.dtype,
                "nbytes": tensor.nbytes,
                "alias_of": listing.aliases.get(tensor.key),
                "is_buffer": tensor.key in listing.buffers,
            }
        )
