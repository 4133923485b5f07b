"""Declare what differs between two sources; count, sort and group differences."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from reinit_cli.lazy import dataclass
from reinit_cli.operations.keys import ORDERS
from reinit_cli.operations.outline import alike
from reinit_cli.tensors.distance import Distance
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import named, natural, number

Change = Literal["same", "added", "removed", "moved", "shape", "dtype", "values", "bits", "unknown"]
"""shape, dtype: another one; values: others; bits: other bits of equal values (0 and -0, kinds
of NaN); unknown: what is not a plain tensor is not compared."""


@dataclass(frozen=True, slots=True, repr=False)
class Difference:
    """The difference of one key.

    Attributes:
        key: the key; for a moved tensor its key in the first source, after `rename`.
        change: the kind of change.
        first, second: its key, dtype, shape and size in each source, or None if it is missing.
        distance: how far the values are apart, if they were compared and differ.
    """

    key: str
    change: Change
    first: TensorInfo | None
    second: TensorInfo | None
    distance: Distance | None = None

    def __repr__(self) -> str:
        """Show what differs, and how far."""
        far = f" by {number(self.distance.max_abs)} at most" if self.distance is not None else ""
        return f"<Difference {named(self.key)}: {self.change}{far}>"

    @property
    def differs(self) -> bool:
        """Whether the sources differ in it, as far as that is known."""
        return self.change not in ("same", "unknown")


def counts_of(found: Sequence[Difference]) -> Mapping[str, int]:
    """Return how often each change occurs, in a fixed order."""
    order = ("same", "added", "removed", "moved", "shape", "dtype", "values", "bits", "unknown")
    counts = {change: sum(each.change == change for each in found) for change in order}
    return {change: count for change, count in counts.items() if count}


@dataclass(frozen=True, slots=True)
class Alike:
    """Differences of one kind whose keys differ in numbers only.

    Attributes:
        worst: one for all, its keys being patterns, and its distance the largest in each respect.
        count: how many.
    """

    worst: Difference
    count: int


def grouped(found: Sequence[Difference]) -> list[Alike]:
    """Return differences with those together that are of one kind and whose keys are alike."""
    groups = alike([each.key for each in found], [_kind(each) for each in found])
    return [_alike(pattern, [found[at] for at in inside]) for pattern, inside in groups]


def _kind(each: Difference) -> str:
    kinds = [f"{one.shape} {one.dtype}" if one else "" for one in (each.first, each.second)]
    moved = each.second.key if each.change == "moved" and each.second else ""
    return " ".join((each.change, *kinds, re.sub("[0-9]+", "0", moved)))


def _alike(pattern: str, found: Sequence[Difference]) -> Alike:
    distances = [each.distance for each in found if each.distance is not None]
    first, second = found[0].first, found[0].second
    if second is not None:
        moved = alike([each.second.key for each in found if each.second], [""] * len(found))
        second = replace(second, key=moved[0][0])
    worst = Difference(pattern, found[0].change, first, second, _worst(distances))
    return Alike(worst, len(found))


def _worst(distances: Sequence[Distance]) -> Distance | None:
    if not distances:
        return None
    return Distance(
        sum(each.numel for each in distances),
        sum(each.changed for each in distances),
        max(each.max_abs for each in distances),
        max(each.relative_l2 for each in distances),
        min((each.cosine for each in distances if not math.isnan(each.cosine)), default=math.nan),
    )


def _of_tensor(order: Callable[[TensorInfo], Any]) -> Callable[[Difference], Any]:
    def of(each: Difference) -> Any:
        tensor = each.first or each.second
        return order(tensor) if tensor is not None else None

    return of


def _of_distance(order: Callable[[Distance], float]) -> Callable[[Difference], Any]:
    def of(each: Difference) -> Any:
        value = order(each.distance) if each.distance is not None else math.nan
        return None if math.isnan(value) else value

    return of


DIFFERENCE_ORDERS: Mapping[str, Callable[[Difference], Any]] = {
    **{name: _of_tensor(order) for name, order in ORDERS.items()},
    "key": lambda each: natural(each.key),
    "change": lambda each: each.change,
    "max_abs": _of_distance(lambda distance: -distance.max_abs),
    "relative_l2": _of_distance(lambda distance: -distance.relative_l2),
    "changed": _of_distance(lambda distance: -distance.changed / max(1, distance.numel)),
    "cosine": _of_distance(lambda distance: distance.cosine),
}
"""What differences can be sorted by: the largest changes first, and so the smallest cosine."""
