"""Draw how wide tensors are against their place in a network: before, after, and expected."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from reinit_cli.lazy import dataclass
from reinit_cli.text import natural, number, printable

if TYPE_CHECKING:
    from reinit_cli.operations.difference import Difference
    from reinit_cli.operations.rewrite import Outcome
    from reinit_cli.operations.stats import Measured

WIDTH, HEIGHT = 960, 170
"""Of the picture, in units of its own; the numbers of layers lie below it."""

_TOP, _BOTTOM, _LEFT, _RIGHT = 8, 150, 52, 950
_MOST_LAYERS = 16
"""The layers that are named below the picture."""

_MOST_TITLES = 2_000
"""The tensors that are named when pointed at."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How wide the values of one tensor are.

    Attributes:
        key: the tensor's key.
        before, after: the std of its old and of its new values, or None.
        expected: that of what it was drawn from, or None.
    """

    key: str
    before: float | None
    after: float | None
    expected: float | None = None

    @property
    def stds(self) -> Iterator[float]:
        """Those that a logarithmic axis has a place for."""
        for std in (self.before, self.after, self.expected):
            if std is not None and 0 < std < math.inf:
                yield std


@dataclass(frozen=True, slots=True)
class _Axis:
    """From a std to its height, on a logarithmic axis; zero lies on the lower edge."""

    low: float
    high: float

    def y(self, std: float | None) -> float | None:
        if std is None or not math.isfinite(std):
            return None
        if std <= 0:
            return _BOTTOM
        share = (math.log10(std) - self.low) / (self.high - self.low)
        return round(_BOTTOM - 12 - share * (_BOTTOM - 12 - _TOP), 1)


def drawn(spreads: Sequence[Spread]) -> dict[str, object] | None:
    """Return the places of marks and labels; None where there is nothing to compare.

    Args:
        spreads: the tensors, as they are listed.
    """
    spreads = _by_depth(spreads)
    stds = [std for each in spreads for std in each.stds]
    if len(spreads) < 2 or not stds:
        return None
    low, high = math.floor(math.log10(min(stds))), math.ceil(math.log10(max(stds)))
    axis = _Axis(low, max(high, low + 1))
    step = (_RIGHT - _LEFT) / len(spreads)
    places = [round(_LEFT + (at + 0.5) * step, 1) for at in range(len(spreads))]
    return {
        "marks": [
            {
                "x": x,
                "before": axis.y(each.before),
                "after": axis.y(each.after),
                "expected": axis.y(each.expected),
                "title": _title(each) if len(spreads) <= _MOST_TITLES else "",
            }
            for x, each in zip(places, spreads, strict=True)
        ],
        "radius": round(max(1.2, min(4.0, step / 3)), 1),
        "powers": [
            (axis.y(10.0**power), f"1e{power}" if power else "1")
            for power in range(low, int(axis.high) + 1, math.ceil((axis.high - low) / 6))
        ],
        "layers": _layers(spreads, places),
        "has_zero": any(0 in (each.before, each.after) for each in spreads),
        "has_before": any(each.before is not None for each in spreads),
        "has_expected": any(each.expected is not None for each in spreads),
    }


_LAYER = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")
"""The number of a layer in a key."""


def _by_depth(spreads: Sequence[Spread]) -> Sequence[Spread]:
    """Return tensors in the order of the network, which is theirs unless layers go backwards.

    They do in files of safetensors, which sort by dtype and alphabet, and in a listing that was
    sorted by numbers.
    """
    reached: dict[str, str] = {}
    for each in spreads:
        if layer := _LAYER.search(each.key):
            before, at = each.key[: layer.start()], natural(layer[1])
            if at < reached.get(before, ""):
                return sorted(spreads, key=lambda spread: natural(spread.key))
            reached[before] = at
    return spreads


def _title(each: Spread) -> str:
    stds = [number(std) for std in (each.before, each.after) if std is not None]
    expected = f", expected {number(each.expected)}" if each.expected is not None else ""
    return f"{printable(each.key)}: std {' → '.join(stds)}{expected}"


def _layers(spreads: Sequence[Spread], places: Sequence[float]) -> list[tuple[float, str]]:
    """Return where the first tensor of each layer is, and the layer's number."""
    found: list[tuple[float, str]] = []
    last = None
    for x, each in zip(places, spreads, strict=True):
        numbers = _LAYER.search(each.key)
        if numbers and numbers[1] != last:
            last = numbers[1]
            found.append((x, last))
    return found[:: math.ceil(len(found) / _MOST_LAYERS) or 1]


def spreads_of_rewrite(outcome: Outcome) -> Iterator[Spread]:
    """Yield how wide each filled tensor was, is, and was expected to be."""
    for step in outcome.job.plan.draws:
        filled = outcome.filled.get(step.key)
        if filled is not None and filled.after.numel and (step.rule is not None or step.head):
            before = filled.before.std if filled.before is not None else None
            expected = step.follows.std if step.follows is not None else None
            yield Spread(step.key, before, filled.after.std, expected)


def spreads_of_statistics(measured: Iterable[Measured]) -> Iterator[Spread]:
    """Yield how wide each tensor or module is."""
    for each in measured:
        if each.statistics.finite.numel:
            yield Spread(each.key, None, each.statistics.finite.std)


def spreads_of_differences(
    found: Iterable[Difference], before: Iterable[Measured], after: Iterable[Measured]
) -> Iterator[Spread]:
    """Yield how wide each tensor whose values differ is in either source."""
    mine = {each.key: each.statistics.finite.std for each in before}
    theirs = {each.key: each.statistics.finite.std for each in after}
    for each in found:
        if each.first is not None and each.second is not None and each.first.key in mine:
            yield Spread(each.key, mine[each.first.key], theirs.get(each.second.key))
