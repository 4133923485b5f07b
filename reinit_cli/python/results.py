"""Lists of results that a notebook shows as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from reinit_cli.operations.difference import Difference
from reinit_cli.operations.stats import Measured
from reinit_cli.text import Field, html_section, html_table, plural, shape


class Measurements(list[Measured]):
    """The results of `stats`, in the order of the source."""

    def __repr__(self) -> str:
        """Show how much it is."""
        return f"<Measurements of {self._count}>"

    def _repr_html_(self) -> str:
        """Show them in a notebook."""
        columns = ("key", "elements", "mean", "std", "min", "max", "zeros", "NaN", "infinite")
        return html_section(
            self._count, html_table(columns, [_measured_row(each) for each in self])
        )

    @property
    def _count(self) -> str:
        is_alone = all(each.tensors == 1 for each in self)
        return plural(len(self), "tensor" if is_alone else "module")


def _measured_row(each: Measured) -> tuple[Field, ...]:
    found = each.statistics
    finite = found.finite
    numbers = (finite.mean, finite.std, finite.low, finite.high) if finite.numel else (None,) * 4
    return each.key, found.numel, *numbers, found.zeros, found.nan, found.inf


class Differences(list[Difference]):
    """The results of `diff`, in the order of the first source."""

    def __repr__(self) -> str:
        """Show how much differs."""
        return f"<Differences: {self._count}>"

    def _repr_html_(self) -> str:
        """Show what differs in a notebook."""
        columns = ("key", "change", "first", "second", "elements", "max difference", "relative L2")
        rows = [_difference_row(each) for each in self if each.differs]
        return html_section(self._count, html_table(columns, rows) if rows else "")

    @property
    def _count(self) -> str:
        return ", ".join(self._counts()) or "nothing was compared"

    def _counts(self) -> Iterator[str]:
        counts = Counter(each.change for each in self)
        for change, count in counts.items():
            yield f"{count:,} {_CHANGES.get(change, change)}"


_CHANGES = {
    "same": "identical",
    "shape": "with another shape",
    "dtype": "with another dtype",
    "values": "with other values",
    "bits": "with other bits",
    "unknown": "not compared",
}
"""What is said of a change; of others it is its name."""


def _difference_row(each: Difference) -> tuple[Field, ...]:
    sides = (
        "" if side is None else f"{side.dtype} {shape(side.shape)}"
        for side in (each.first, each.second)
    )
    far = each.distance
    numbers = (None,) * 3 if far is None else (far.changed, far.max_abs, far.relative_l2)
    return each.key, each.change, *sides, *numbers
