"""Render differences as a table, a page, or JSON."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reinit_cli.cli.render.html import Page, without_folders
from reinit_cli.cli.render.json import VERSION
from reinit_cli.cli.render.listing import times
from reinit_cli.cli.render.overview import spreads_of_differences
from reinit_cli.cli.render.panels import panels_of_differences
from reinit_cli.cli.render.table import Cell, Column, Sheet, Value
from reinit_cli.cli.screen import Screen, Style
from reinit_cli.lazy import dataclass
from reinit_cli.operations.difference import DIFFERENCE_ORDERS, Difference, counts_of, grouped
from reinit_cli.operations.keys import Selectors
from reinit_cli.operations.prefix import PrefixDifference
from reinit_cli.request.rename import Rename
from reinit_cli.tensors.distance import Distance
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import plural, shape

if TYPE_CHECKING:
    from reinit_cli.operations.stats import Measured


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


Rows = Sequence[tuple[Difference, int]]
"""Differences, and how many tensors each stands for."""


def rows_of(
    found: Sequence[Difference], selectors: Selectors, *, shows_same: bool, collapses: bool
) -> Rows:
    """Return what is shown of differences, in order.

    Args:
        found: all of them.
        selectors: their order.
        shows_same: whether keys that do not differ have rows too.
        collapses: whether those that are alike are one row.
    """
    chosen = [each for each in found if each.differs or shows_same]
    groups = {id(each.worst): each for each in grouped(chosen)} if collapses else {}
    worst = [each.worst for each in groups.values()] if collapses else chosen
    ordered = selectors.arranged(worst, DIFFERENCE_ORDERS)
    return [(each, groups[id(each)].count if collapses else 1) for each in ordered]


def summary(compared: Compared, hidden: int = 0) -> list[tuple[str, str]]:
    """Return the counts of differences, and what explains them, as facts.

    Args:
        compared: what was found.
        hidden: how many rows are not shown.
    """
    found = compared.found
    facts = [("from", compared.first), ("to", compared.second), ("tensors", counted(found))]
    facts += [("renamed by", each.text) for each in compared.rename]
    if (prefix := compared.prefix) is not None:
        facts.append(("prefix", _about(prefix, compared)))
    if hidden:
        facts.append(("not shown", plural(hidden, "row")))
    return facts


def differences_sheet(rows: Rows, screen: Screen | None) -> Sheet:
    """Return a row for each difference.

    Args:
        rows: the differences.
        screen: where people see them; None for programs.
    """
    changes = {each.change for each, _ in rows}
    columns = (
        Column("change"),
        Column("key", "key"),
        Column("count", "count"),
        # What changed is the last to leave.
        Column("shape", rank=0 if "shape" in changes else 5),
        Column("dtype", rank=0 if "dtype" in changes else 6),
        Column("moved to", "key"),
        Column("max diff", "number", rank=1),
        Column("relative L2", "number", rank=2),
        Column("% changed", "number", rank=3),
        Column("cosine", "number", rank=7),
    )
    return Sheet(columns, [_row(*each, screen) for each in rows])


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
    compared: Compared, rows: Rows, measured: tuple[Sequence[Measured], Sequence[Measured]]
) -> Page:
    """Return the same as a page, with pictures.

    Args:
        compared: what was found.
        rows: what is shown of it.
        measured: what was measured of either source, for the pictures.
    """
    names = (compared.first, compared.second)
    first, second = (without_folders(name, (name,)) for name in names)
    found = compared.found
    panels = list(panels_of_differences(found, *measured))
    return Page(
        "reinit diff",
        f"{first} → {second}",
        summary(replace(compared, first=first, second=second)),
        [],
        [("Keys", differences_sheet(rows, Screen()).without_empty_columns())],
        panels,
        sum(each.distance is not None for each in found),
        list(spreads_of_differences(found, *measured)),
    )


def counted(found: Sequence[Difference]) -> str:
    """Return "2 changed, 1 added, 4 identical"."""
    counts = dict(counts_of(found))
    changes = {change: counts.pop(change) for change in _CHANGED if change in counts}
    texts = []
    if changes:
        parts = ", ".join(f"{count:,} {_CHANGED[change]}" for change, count in changes.items())
        is_plain = list(changes) == ["values"]
        texts.append(f"{sum(changes.values()):,} changed" + ("" if is_plain else f" ({parts})"))
    texts += [f"{counts[change]:,} {word}" for change, word in _WORDS.items() if change in counts]
    return ", ".join(texts) or "none"


_CHANGED = {
    "shape": "in shape",
    "dtype": "in dtype",
    "values": "in values",
    "bits": "in bits only",
}

_WORDS = {
    "added": "added",
    "removed": "removed",
    "moved": "moved",
    "same": "identical",
    "unknown": "not compared",
}


_STYLES: Mapping[str, Style] = {"added": "good", "removed": "error", "same": "dim"}


def _row(each: Difference, count: int, screen: Screen | None) -> tuple[Value | Cell, ...]:
    first, second = each.first, each.second
    arrow = " -> " if screen is not None and not screen.is_unicode else " → "
    shapes = _both(first, second, lambda tensor: shape(tensor.shape))
    dtypes = _both(first, second, lambda tensor: tensor.carried or tensor.dtype)
    return (
        Cell(each.change, _STYLES.get(each.change, "changed")),
        each.key,
        times(count, screen),
        _changed(each, "shape", arrow.join(shapes)),
        _changed(each, "dtype", arrow.join(dtypes)),
        second.key if each.change == "moved" and second is not None else None,
        *_numbers(each.distance, for_people=screen is not None),
    )


def _numbers(distance: Distance | None, *, for_people: bool) -> tuple[Value, ...]:
    if distance is None:
        return None, None, None, None
    cosine = None if math.isnan(distance.cosine) else distance.cosine
    return (
        distance.max_abs,
        distance.relative_l2,
        100 * distance.changed / distance.numel,
        # Four digits would make many of them 1.
        f"{cosine:.6f}" if for_people and cosine is not None else cosine,
    )


def _changed(each: Difference, change: str, text: str) -> Cell:
    return Cell(text, "changed" if each.change == change else None)


def _both(
    first: TensorInfo | None, second: TensorInfo | None, text: Callable[[TensorInfo], str]
) -> list[str]:
    """Return what two tensors have in common, or the two."""
    return list(dict.fromkeys(text(each) for each in (first, second) if each is not None))


def differences_form(compared: Compared, rows: Rows, *, collapses: bool = False) -> dict[str, Any]:
    """Return the same for JSON: as "differences", or as "groups"."""
    found, prefix = compared.found, compared.prefix
    form: dict[str, Any] = {
        "version": VERSION,
        "first": compared.first,
        "second": compared.second,
        "counts": counts_of(found),
    }
    if collapses:
        form["groups"] = [_group_form(each, count) for each, count in rows]
    else:
        form["differences"] = [_form(each) for each, _ in rows]
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


def _group_form(each: Difference, count: int) -> dict[str, Any]:
    form = _form(each)
    return {"pattern": form.pop("key"), "count": count, **form}


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
