"""What differs between two sources, as a sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reinit_cli.report.pages import Page, without_folders
from reinit_cli.report.panels import panels_of_differences
from reinit_cli.report.serial import VERSION
from reinit_cli.report.sheets import Column, Sheet
from reinit_cli.text import number, plural, shape

if TYPE_CHECKING:
    from reinit_cli.comparing import Difference
    from reinit_cli.measuring import Measured

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
    from reinit_cli.comparing import counts_of

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
    from reinit_cli.comparing import counts_of

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
