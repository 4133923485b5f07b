"""Measure the values of tensors: moments, extremes, NaN and infinities, histograms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from reinit_cli.checkpoints.folder import tensor_looked_into
from reinit_cli.checkpoints.source import Source
from reinit_cli.execution.fetch import announce_views
from reinit_cli.lazy import dataclass
from reinit_cli.operations.downloads import fetch_tensors
from reinit_cli.storage.segments import View
from reinit_cli.tensors.blocks import blocks_as_stored
from reinit_cli.tensors.histogram import Histogram, histogram_of
from reinit_cli.tensors.info import TensorInfo, tied_groups
from reinit_cli.tensors.moments import Moments, Statistics, statistics_of
from reinit_cli.text import named, natural
from reinit_cli.threads import Progress, aside, side_by_side

WHOLE_MODULE = -1
"""The depth at which tensors with all but the last segment in common are measured together."""

BINS = 16
"""The bins of a histogram; each is a character on a terminal."""


@dataclass(frozen=True, slots=True, repr=False)
class Measured:
    """The statistics of a tensor or a module.

    Attributes:
        key: the tensor's key, or the path of the module.
        tensors: the number of tensors.
        statistics: statistics of all their elements.
        histogram: a histogram of all their elements, or None.
        nbytes: the size of the tensors.
    """

    key: str
    tensors: int
    statistics: Statistics
    histogram: Histogram | None = None
    nbytes: int = 0

    def __repr__(self) -> str:
        """Show the most telling numbers."""
        return f"<Measured {named(self.key)}: {self.statistics.summary}>"


def unmeasurable(tensor: TensorInfo) -> str | None:
    """Say why a tensor is not measured, or None."""
    if tensor.fillable_dtype is None:
        return tensor.carried or f"{tensor.dtype} has no numbers that torch reads"
    return "its elements overlap in memory" if tensor.overlaps_itself else None


def measurable(
    source: Source, chosen: Sequence[TensorInfo], most: int | None = None
) -> tuple[list[TensorInfo], Mapping[str, str]]:
    """Return the tensors of a source that can be measured, and why the others cannot.

    Args:
        source: the source.
        chosen: entries of it.
        most: how many will be measured; nothing is opened for those after them. None for all.
    """
    found, reasons = list[TensorInfo](), dict[str, str]()
    for tensor in chosen:
        is_after = most is not None and len(found) >= most
        known = tensor if is_after else tensor_looked_into(source, tensor)
        if reason := unmeasurable(known):
            reasons[tensor.key] = reason
        else:
            found.append(known)
    return found, reasons


def measure_source(
    source: Source,
    tensors: Sequence[TensorInfo],
    depth: int | None,
    seed: int,
    progress: Progress,
    *,
    bins: int | None,
    has_one_range: bool = False,
) -> list[Measured]:
    """Measure tensors of a source, alone or with those of their module.

    Args:
        source: the source.
        tensors: those of its entries that are measured.
        depth: how many segments of a key name a module; counted from the end where it is
            negative; None to measure each tensor alone.
        seed: of a model that is built without weights.
        progress: called with the bytes of each tensor that is done; twice with `bins`.
        bins: of the histograms, which read everything once more; None to count none.
        has_one_range: whether all histograms are counted over the range of all values.
    """
    groups = _groups(source, tensors, depth)
    members = {path: [tensor.key for tensor in inside] for path, inside in groups.items()}
    fetch_tensors(source, [tensor.key for tensor in tensors], progress)
    with source.open(seed) as contents:
        views = {
            tensor.key: contents.view(tensor) for inside in groups.values() for tensor in inside
        }
        alone = measure(views, progress)
        together = {
            path: sum((alone[key] for key in keys), start=Statistics())
            for path, keys in members.items()
        }
        all_of_it = sum((each.finite for each in together.values()), start=Moments())
        finite = {
            path: all_of_it if has_one_range else each.finite for path, each in together.items()
        }
        ranges = {
            key: (finite[path].low, finite[path].high)
            for path, keys in members.items()
            for key in keys
            if together[path].finite.numel
        }
        wanted = {key: views[key] for key in ranges} if bins else {}
        counted = histograms(wanted, ranges, progress, bins or BINS)
        contents.check_unchanged()
    return [
        Measured(
            path,
            len(keys),
            together[path],
            _joined([counted[key] for key in keys if key in counted]),
            sum(tensor.nbytes for tensor in groups[path]),
        )
        for path, keys in members.items()
    ]


MEASURES: Mapping[str, Callable[[Measured], Any]] = {
    "key": lambda each: natural(each.key),
    "parameters": lambda each: -each.statistics.numel,
    "bytes": lambda each: -each.nbytes,
    "mean": lambda each: _largest_first(each.statistics.finite.mean, each),
    "std": lambda each: _largest_first(each.statistics.finite.std, each),
    "min": lambda each: _largest_first(each.statistics.finite.low, each),
    "max": lambda each: _largest_first(each.statistics.finite.high, each),
    "norm": lambda each: _largest_first(each.statistics.norm, each),
    "zeros": lambda each: -each.statistics.zeros,
    "nan": lambda each: -each.statistics.nan,
    "inf": lambda each: -each.statistics.inf,
}
"""What measurements can be sorted by, from the largest; what has no finite element has none."""


def _largest_first(value: float, each: Measured) -> float | None:
    return -value if each.statistics.finite.numel else None


def _joined(parts: Sequence[Histogram]) -> Histogram | None:
    return sum(parts[1:], start=parts[0]) if parts else None


def _groups(
    source: Source, tensors: Sequence[TensorInfo], depth: int | None
) -> Mapping[str, list[TensorInfo]]:
    """Return what is measured together; of ties, which are one tensor, only the first."""
    if depth is None:
        return {tensor.key: [tensor] for tensor in tensors}
    ties = tied_groups(source.tensors)
    groups: dict[str, list[TensorInfo]] = {}
    for tensor in tensors:
        if ties.get(tensor.key, (tensor.key,))[0] == tensor.key:
            segments = tensor.key.split(".")
            count = depth if depth < 0 else min(depth, len(segments) - 1)
            groups.setdefault(".".join(segments[:count]), []).append(tensor)
    return groups


def measure(views: Mapping[str, View], progress: Progress) -> dict[str, Statistics]:
    """Measure tensors, side by side.

    Args:
        views: for each key its tensor, of a dtype that can be filled.
        progress: called with the bytes of each tensor that is done.

    Returns:
        For each key its statistics; they do not depend on the number of threads.
    """

    def count(key: str, view: View) -> Statistics:
        del key
        return statistics_of(blocks_as_stored(view))

    return _side_by_side(views, count, progress)


def histograms(
    views: Mapping[str, View],
    ranges: Mapping[str, tuple[float, float]],
    progress: Progress,
    bins: int = BINS,
) -> dict[str, Histogram]:
    """Count the finite elements of tensors in bins, side by side.

    Args:
        views: for each key its tensor.
        ranges: for each key the smallest and the largest value.
        progress: called with the bytes of each tensor that is done.
        bins: how many.
    """

    def count(key: str, view: View) -> Histogram:
        return histogram_of(blocks_as_stored(view), *ranges[key], bins)

    return _side_by_side(views, count, progress)


_Found = TypeVar("_Found")


def _side_by_side(
    views: Mapping[str, View], work: Callable[[str, View], _Found], progress: Progress
) -> dict[str, _Found]:
    def one(item: tuple[str, View]) -> tuple[str, _Found]:
        found = work(*item)
        progress(item[1].nbytes)
        return item[0], found

    def measure_all() -> dict[str, _Found]:
        if order := announce_views(views):
            return dict(one((key, views[key])) for key in order)
        return dict(side_by_side(one, views.items()))

    return aside(measure_all)
