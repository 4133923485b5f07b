"""Render keys as a table, in groups, as a tree, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reinit_cli.cli.render.json import VERSION
from reinit_cli.cli.render.table import Column, Sheet
from reinit_cli.cli.screen import Screen
from reinit_cli.operations.keys import Listing
from reinit_cli.operations.outline import Group
from reinit_cli.operations.tree import Branch
from reinit_cli.storage.segments import Box
from reinit_cli.tensors.counts import Counts, count, counted_text
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import plural, shape

_KIND = (Column("shape"), Column("dtype", rank=1))

_SIZES = (Column("parameters", "count", rank=4), Column("bytes", "nbytes", rank=2))

_MARK = Column("kind", rank=3)

_COLUMNS = (Column("key", "key"), *_KIND, *_SIZES, _MARK)

_COLUMNS_OF_PIECES = (
    *_COLUMNS[:-1],
    *(Column("pieces", "count", rank=5), Column("files", rank=6)),
    _MARK,
)

Pieces = Mapping[str, Sequence[tuple[str, Box]]]
"""The file and the box of each piece of a tensor, by its key."""

_GROUP_COLUMNS = (Column("keys", "key"), Column("count", "count"), *_KIND, *_SIZES, _MARK)

_TREE_COLUMNS = (
    *(Column("module", "key"), Column("count", "count"), Column("tensors", "count", rank=5)),
    *_KIND,
    *_SIZES,
    _MARK,
)


def keys_sheet(
    listing: Listing,
    head: int | None = None,
    pieces: Pieces | None = None,
    screen: Screen | None = None,
) -> Sheet:
    """Return a row for each key, and the totals.

    Args:
        listing: the keys.
        head: how many rows are shown.
        pieces: those of each tensor, where tensors lie in several.
        screen: where people see it; None for programs.
    """
    rows: list[tuple[str | int | None, ...]] = [
        (
            tensor.key,
            *_kind(tensor),
            *_sizes((tensor,), listing),
            *(_pieces(pieces.get(tensor.key, ()), screen) if pieces else ()),
            _mark(tensor, listing),
        )
        for tensor in listing.tensors[:head]
    ]
    facts = (*head_fact(len(rows), len(listing.tensors), "key"), *_totals(listing))
    return Sheet(_COLUMNS_OF_PIECES if pieces else _COLUMNS, rows, facts)


def _pieces(
    pieces: Sequence[tuple[str, Box]], screen: Screen | None
) -> tuple[int | None, str | None]:
    """Return how many pieces a tensor has, and the files of them: a thousand ranks may have one."""
    files = list(dict.fromkeys(file for file, _ in pieces))
    if screen is not None and len(files) > 1:
        return len(pieces), f"{files[0]} and {len(files) - 1:,} more"
    return len(pieces) or None, ", ".join(files) or None


def groups_sheet(
    groups: Sequence[Group],
    listing: Listing,
    head: int | None = None,
    screen: Screen | None = None,
) -> Sheet:
    """Return a row for each group of keys that differ in numbers only, and the totals.

    Args:
        groups: the groups.
        listing: the keys that are in them.
        head: how many rows are shown.
        screen: where people see them; None for programs.
    """
    rows = [
        (
            group.pattern,
            times(len(group.tensors), screen),
            *_kind(group.tensors[0]),
            *_sizes(group.tensors, listing),
            _mark(group.tensors[0], replace(listing, aliases={})),
        )
        for group in groups[:head]
    ]
    facts = (*head_fact(len(rows), len(groups), "group"), *_totals(listing))
    return Sheet(_GROUP_COLUMNS, rows, facts)


def times(count: int, screen: Screen | None) -> str | int | None:
    """Return "×12" for people, and nothing for one; the number itself for programs."""
    if screen is None:
        return count
    return f"{'×' if screen.is_unicode else 'x'}{count:,}" if count > 1 else None


def tree_sheet(
    tree: Sequence[Branch],
    listing: Listing,
    head: int | None = None,
    screen: Screen | None = None,
) -> Sheet:
    """Return a row for each module with the sums of its contents, and for each tensor.

    Args:
        tree: modules, each before its contents.
        listing: the keys that are in it.
        head: how many rows are shown.
        screen: where people see it: the name of a row, joined by a line to that of its module;
            None for programs, which get its path.
    """
    # Lines are no help where a row of a narrow screen is a block of several.
    is_narrow = screen is not None and (screen.limit or _NARROWEST_TREE) < _NARROWEST_TREE
    has_lines = screen is not None and not is_narrow
    is_ascii = screen is not None and not screen.is_unicode
    depths = [branch.depth for branch in tree]
    lines = tree_lines(depths, is_ascii=is_ascii) if has_lines else ()
    rows = [
        (
            lines[at] + _with_times(branch, screen) if has_lines else branch.path,
            None if has_lines else times(branch.copies, screen),
            None if branch.tensor and screen else branch.leaves,
            *(_kind(branch.tensor) if branch.tensor else (None, None)),
            branch.parameters or None,
            branch.nbytes if branch.nbytes or not branch.tensor else None,
            _mark(branch.tensor, listing) if branch.tensor else None,
        )
        for at, branch in enumerate(tree[:head])
    ]
    facts = (*head_fact(len(rows), len(tree), "row"), *_totals(listing))
    return Sheet(_TREE_COLUMNS, rows, facts)


_NARROWEST_TREE = 40


def _with_times(branch: Branch, screen: Screen | None) -> str:
    count = times(branch.copies, screen)
    return f"{branch.name} {count}" if count else branch.name


def tree_lines(depths: Sequence[int], *, is_ascii: bool = False) -> list[str]:
    """Return for each row of a tree what joins it to the row that it lies in.

    Args:
        depths: how deep each row lies, in order; a row lies in the last one that is less deep.
        is_ascii: whether the screen has no other characters.
    """
    tee, corner, line = ("|- ", "`- ", "|  ") if is_ascii else ("├─ ", "└─ ", "│  ")
    found = []
    goes_on: list[bool] = []  # for each depth, whether another row of it follows
    for depth in reversed(depths):
        goes_on += [False] * (depth + 1 - len(goes_on))
        around = "".join(line if each else "   " for each in goes_on[1:depth])
        found.append(around + (tee if goes_on[depth] else corner) if depth else "")
        goes_on[depth:] = [True]
    return found[::-1]


def head_fact(shown: int, of: int, noun: str) -> tuple[tuple[str, str], ...]:
    """Return the fact that not all rows are shown, where that is so."""
    return (("shown", f"the first {shown:,} of {plural(of, noun)}"),) if shown < of else ()


def _totals(listing: Listing) -> tuple[tuple[str, str], ...]:
    return (("total", counted_text(listing.counts)),)


def _sizes(tensors: Sequence[TensorInfo], listing: Listing) -> tuple[int | None, int | None]:
    """Return the parameters and bytes of tensors, so that the columns add up to the totals."""
    if len(tensors) == 1:  # as a hundred thousand rows have it
        (tensor,) = tensors
        if tensor.key in listing.repeated:
            return None, None
        return (tensor.key not in listing.buffers and tensor.numel) or None, tensor.nbytes
    counts = count(tensors, listing.repeated, listing.buffers)
    is_counted = any(tensor.key not in listing.repeated for tensor in tensors)
    return counts.parameters or None, counts.nbytes if is_counted else None


def _kind(tensor: TensorInfo) -> tuple[str | None, str]:
    return shape(tensor.shape) if tensor.nbytes or not tensor.carried else None, tensor.dtype


def _mark(tensor: TensorInfo, listing: Listing) -> str | None:
    if tensor.key in listing.aliases:
        return f"tied to {listing.aliases[tensor.key]}"
    return tensor.carried or ("buffer" if tensor.key in listing.buffers else None)


def key_forms(
    listing: Listing, head: int | None = None, pieces: Pieces | None = None
) -> Iterator[str]:
    """Yield a line of JSON for each key."""
    for tensor in listing.tensors[:head]:
        # It has no float that could be NaN, and there may be a hundred thousand.
        yield json.dumps(
            {
                "key": tensor.key,
                **_kind_form(tensor),
                "nbytes": tensor.nbytes,
                "alias_of": listing.aliases.get(tensor.key),
                "is_buffer": tensor.key in listing.buffers,
                **(_pieces_form(pieces.get(tensor.key, ())) if pieces else {}),
            }
        )


def _pieces_form(pieces: Sequence[tuple[str, Box]]) -> dict[str, Any]:
    return {
        "pieces": [
            {
                "file": file,
                "offsets": [start for start, _ in box],
                "shape": [end - start for start, end in box],
            }
            for file, box in pieces
        ]
    }


def groups_form(
    groups: Sequence[Group], listing: Listing, head: int | None = None
) -> dict[str, Any]:
    """Return groups of keys for JSON."""
    return {
        "version": VERSION,
        "groups": [
            {
                "pattern": group.pattern,
                "count": len(group.tensors),
                **_kind_form(group.tensors[0]),
                **_sizes_form(count(group.tensors, listing.repeated, listing.buffers)),
            }
            for group in groups[:head]
        ],
    }


def tree_form(tree: Sequence[Branch], head: int | None = None) -> dict[str, Any]:
    """Return a tree for JSON: a list in which each module comes before its contents."""
    return {
        "version": VERSION,
        "tree": [
            {
                "path": branch.path,
                "depth": branch.depth,
                "count": branch.copies,
                "is_module": branch.tensor is None,
                "tensors": branch.leaves,
                **_sizes_form(branch),
                **(_kind_form(branch.tensor) if branch.tensor else {}),
            }
            for branch in tree[:head]
        ],
    }


def _sizes_form(sums: Counts | Branch) -> dict[str, int]:
    return {"parameters": sums.parameters, "buffers": sums.buffers, "nbytes": sums.nbytes}


def _kind_form(tensor: TensorInfo) -> dict[str, Any]:
    return {"shape": tensor.shape, "dtype": tensor.dtype}
