"""List keys: one by one, in groups, or as a tree."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import click

from reinit_cli.checkpoints.find import find_source
from reinit_cli.cli.help import Command, option
from reinit_cli.cli.options import (
    CONTEXT,
    VIEW,
    CountType,
    display_options,
    json_option,
    quiet_option,
    root_option,
    source_argument,
    weights_option,
)
from reinit_cli.cli.pager import paged
from reinit_cli.cli.render.facts import place_facts
from reinit_cli.cli.render.json import VERSION, dumps
from reinit_cli.cli.render.table import Sheet, show
from reinit_cli.cli.screen import Screen, screen_of
from reinit_cli.cli.selection import refuse_unmatched, selection_options, warn_of_exclusions
from reinit_cli.cli.terminal import warn, warn_about
from reinit_cli.collector import collector_paused
from reinit_cli.lazy import dataclass
from reinit_cli.operations.keys import ORDERS, Listing, Selectors, list_keys
from reinit_cli.storage.location import without_secrets
from reinit_cli.tensors.info import TensorInfo

if TYPE_CHECKING:
    from reinit_cli.cli.render.listing import Pieces
    from reinit_cli.operations.outline import Group
    from reinit_cli.operations.tree import Branch


@click.command("keys", cls=Command, context_settings=CONTEXT)
@source_argument
@selection_options(ORDERS, "rows")
@option(
    "-l",
    "--long",
    is_flag=True,
    heading=VIEW,
    brief="Long listing, also in a pipe",
    help="Long listing, also in a pipe: shapes, dtypes, sizes, ties, and the pieces of sharded tensors",
)
@option(
    "--tree",
    is_flag=True,
    heading=VIEW,
    brief="Modules as a tree",
    help="Show modules as a tree, with the sums of each; layers that are alike are one",
)
@option(
    "--depth",
    type=CountType(),
    metavar="N",
    heading=VIEW,
    brief="Levels of --tree",
    help="Show N levels of --tree  [default: all]",
)
@option(
    "--group",
    is_flag=True,
    heading=VIEW,
    brief="Collapse repeated layers into one pattern",
    help="Collapse repeated layers into one pattern, which a rule takes as it is",
)
@option(
    "--count",
    is_flag=True,
    heading=VIEW,
    brief="The number of keys",
    help="Print the number of keys",
)
@option(
    "--meta",
    is_flag=True,
    heading=VIEW,
    brief="What else the file has",
    help="Outline what SOURCE holds, with or without a state dict; of a DCP folder also its version, origin and objects",
)
@option(
    "-0",
    "--null",
    is_flag=True,
    heading=VIEW,
    help="End each key with NUL instead of a newline",
)
@quiet_option
@weights_option
@root_option
@json_option
@display_options
@collector_paused()
def command(
    source: str,
    weights: str | None,
    root: str | None,
    *,
    selectors: Selectors,
    long: bool,
    tree: bool,
    depth: int | None,
    group: bool,
    count: bool,
    meta: bool,
    null: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """List the keys of SOURCE; exit with 1 if there are none, or a PATTERN matches none.

    On a terminal a table with shapes and dtypes; in a pipe one key per line. Nothing but
    names and shapes is read, and nothing is downloaded.

    \b
    reinit keys alexnet
    reinit keys model.safetensors --tree --depth 2
    reinit keys model.safetensors "*.bias" --sort bytes --head 10
    """
    forms = {"--tree": tree, "--group": group, "--count": count, "--meta": meta}
    _refuse_together(forms | {"--long": long, "--null": null, "--json": as_json})
    if meta and selectors != Selectors():
        raise click.UsageError("--meta shows all of SOURCE; PATTERN and its options choose keys")
    if count and selectors.head:
        raise click.UsageError("--count and --head cannot be combined")
    if depth and not tree:
        raise click.UsageError("--depth needs --tree")
    if meta:
        _show_contents(source, weights, root, as_json=as_json)
        return
    found = find_source(source, weights, root)
    source = without_secrets(source)
    warn_about((found,), root)
    listing = list_keys(found.tensors, selectors, selectors.layers(found))
    warn_of_exclusions(listing.choice, source)
    kind: Literal["key", "group", "branch"] = "branch" if tree else "group" if group else "key"
    sign = 1 if selectors.is_reversed else -1
    pieces = found.located.pieces if found.located else {}
    view = _View(kind, selectors.head, depth, selectors.order, sign, pieces)
    screen = screen_of(sys.stdout)
    if quiet and not as_json:
        pass
    elif count:
        counted = len(listing.tensors)
        click.echo(dumps({"version": VERSION, "count": counted}) if as_json else counted)
    elif as_json:
        sys.stdout.writelines(line + "\n" for line in view.forms(listing))
    elif not listing.tensors:
        pass
    elif tree or long or (screen.is_terminal and not null):
        sheet = view.sheet(listing, screen)
        facts = (*sheet.facts, *place_facts(found.located))
        with paged():
            show(replace(sheet, facts=facts), sys.stdout)
    else:
        _print_lines(view.names(listing), "\0" if null else "\n")
    refuse_unmatched(listing.choice, [each.key for each in found.tensors], source, is_answer=True)


_TOGETHER = frozenset(
    (
        *(("--group", "--long"), ("--group", "--null"), ("--tree", "--long")),
        *((view, "--json") for view in ("--tree", "--group", "--count", "--meta", "--long")),
    )
)
"""The pairs of options that do not contradict each other."""


def _refuse_together(options: Mapping[str, bool]) -> None:
    given = [name for name, is_given in options.items() if is_given]
    for at, first in enumerate(given):
        for second in given[at + 1 :]:
            if (first, second) not in _TOGETHER:
                raise click.UsageError(f"{first} and {second} cannot be combined")


_SIZES: Mapping[str, Callable[[TensorInfo], int]] = {
    "parameters": lambda tensor: tensor.numel,
    "bytes": lambda tensor: tensor.nbytes,
}


@dataclass(frozen=True, slots=True)
class _View:
    """How keys are shown.

    Attributes:
        kind: what a row is.
        head: how many rows are shown, or None for all.
        depth: how many levels of a tree.
        order: what the tensors are sorted by, or None.
        sign: 1 where the smallest comes first, otherwise -1.
        pieces: the file and the box of each piece of a tensor, where tensors lie in several.
    """

    kind: Literal["key", "group", "branch"]
    head: int | None
    depth: int | None
    order: str | None
    sign: int
    pieces: Pieces

    def groups(self, listing: Listing) -> list[Group]:
        """Return groups, sorted by their sums where tensors are sorted by sizes."""
        from reinit_cli.operations.outline import groups_of

        groups = groups_of(listing.tensors)
        if (size := _SIZES.get(self.order or "")) is not None:
            groups.sort(key=lambda group: self.sign * sum(map(size, group.tensors)))
        return groups

    def tree(self, listing: Listing) -> list[Branch]:
        """Return a tree, in which branches are sorted by their sums where tensors are."""
        from reinit_cli.operations.tree import sorted_tree, tree_of

        sums = (listing.repeated, listing.aliases, listing.buffers)
        tree = tree_of(listing.tensors, *sums, deepest=self.depth)
        match self.order:
            case "bytes":
                return sorted_tree(tree, lambda branch: self.sign * branch.nbytes)
            case "parameters":
                return sorted_tree(tree, lambda branch: self.sign * branch.parameters)
        return tree

    def sheet(self, listing: Listing, screen: Screen) -> Sheet:
        """Return a table, for people or for programs."""
        from reinit_cli.cli.render.listing import groups_sheet, keys_sheet, tree_sheet

        shown = screen if screen.is_terminal else None
        if self.kind == "branch":
            return tree_sheet(self.tree(listing), listing, self.head, shown)
        if self.kind == "group":
            return groups_sheet(self.groups(listing), listing, self.head, shown)
        return keys_sheet(listing, self.head, self.pieces, shown)

    def names(self, listing: Listing) -> list[str]:
        """Return what stands for each row in a pipe."""
        if self.kind == "group":
            return [group.pattern for group in self.groups(listing)[: self.head]]
        return [tensor.key for tensor in listing.tensors[: self.head]]

    def forms(self, listing: Listing) -> Iterator[str]:
        """Yield lines of JSON."""
        from reinit_cli.cli.render.listing import groups_form, key_forms, tree_form

        if self.kind == "branch":
            yield dumps(tree_form(self.tree(listing), self.head))
        elif self.kind == "group":
            yield dumps(groups_form(self.groups(listing), listing, self.head))
        else:
            yield from key_forms(listing, self.head, self.pieces)


def _print_lines(lines: Sequence[str], end: str) -> None:
    for first in range(0, len(lines), _LINES_AT_ONCE):  # all together would be kept three times
        text = "".join(line + end for line in lines[first : first + _LINES_AT_ONCE])
        sys.stdout.buffer.write(text.encode(errors="surrogatepass"))
    sys.stdout.buffer.flush()


_LINES_AT_ONCE = 10_000


def _show_contents(name: str, weights: str | None, root: str | None, *, as_json: bool) -> None:
    from reinit_cli.checkpoints.source import unused_root
    from reinit_cli.cli.render.contents import contents_form, contents_sheet
    from reinit_cli.operations.contents import describe

    holdings = describe(name, weights, root)
    warn(unused_root(root, (holdings.source,)) if holdings.source is not None else ())
    if as_json:
        sys.stdout.write(dumps(contents_form(holdings)) + "\n")
        return
    with paged():
        show(contents_sheet(holdings), sys.stdout)
