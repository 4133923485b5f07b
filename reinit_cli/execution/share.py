"""Split the work on one output between ranks: what each of them writes, the same for all.

Every rank makes the same plan and, from it, the same split, so nothing is sent between them.

What can be split: an output into its files, a file into its segments. A file stays whole where
it is no more than a quarter of what a rank has to do on average, as it is where each has four
files or more: a rank then opens few files, and no two write to the same one. In a file that is
split, small neighbors stay together.

What cannot be split: rows of a draw. All their places go to one rank, whichever files they are
in, since it would draw them again for each. Of a draw that does not come apart, such as one of
torch's own stream, these are all rows. `Late` and `Reserved` bytes depend on those of all ranks
and belong to the first, which writes them last.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from reinit_cli.execution.apart import comes_apart, run_of
from reinit_cli.execution.fill import Fill, FillPart, Recast
from reinit_cli.execution.joined import DrawOf, draw_of, joined_by_draws
from reinit_cli.lazy import dataclass
from reinit_cli.storage.segments import Check, Late, Range, Reserved, Segment

Owned = Mapping[str, frozenset[int]]
"""The segments that a rank writes: for each file in which it writes any, their positions."""

_FILES_PER_RANK = 4
"""Where each rank has as many whole files, none has more than 5/4 of the mean to do."""

_RUNS_PER_RANK = 32
"""How many runs of small neighbors a rank's work is cut into at least."""

_DRAWN_BYTE = 8
"""The time to draw a byte, where that to copy one is 1: measured with normals in bfloat16."""

_RECAST_BYTE = 2

_BEGIN = 1 << 12
"""The time to begin a segment; without it, all empty ones would go to one rank."""


@dataclass(frozen=True, slots=True)
class _Unit:
    """Segments that go to one rank.

    Attributes:
        cost: the time that they take, in bytes copied.
        places: the file of each, and its position there.
    """

    cost: int
    places: tuple[tuple[str, int], ...]


def shares_of(files: Mapping[str, Sequence[Segment]], count: int) -> tuple[Owned, ...]:
    """Return what each of several ranks writes; every segment belongs to one of them.

    Args:
        files: the segments of each file, by its path in the output.
        count: the number of ranks, at least one.
    """
    owned: list[dict[str, set[int]]] = [{} for _ in range(count)]
    for rank, unit in _assigned(_units(files, count), count):
        for name, at in unit.places:
            owned[rank].setdefault(name, set()).add(at)
    for name, segments in files.items():
        last = {at for at, segment in enumerate(segments) if _comes_last(segment)}
        if last:
            owned[0].setdefault(name, set()).update(last)
    return tuple({name: frozenset(each[name]) for name in files if name in each} for each in owned)


def cost_of(segment: Segment) -> int:
    """Return the time that a segment takes, in bytes copied; nothing for one that comes last."""
    if _comes_last(segment):
        return 0
    if isinstance(segment, Check):
        return _BEGIN + segment.length
    of = segment.fill if isinstance(segment, FillPart) else segment
    each = {Fill: _DRAWN_BYTE, Recast: _RECAST_BYTE}.get(type(of), 1)
    return _BEGIN + each * segment.nbytes


def _comes_last(segment: Segment) -> bool:
    return isinstance(segment, (Late, Reserved))


def _assigned(units: Iterable[_Unit], count: int) -> Iterator[tuple[int, _Unit]]:
    """Give units to ranks, the largest first, each to one that has least to do (Graham 1969)."""
    loads = [(0, rank) for rank in range(count)]
    for unit in sorted(units, key=lambda each: -each.cost):
        load, rank = loads[0]
        heapq.heapreplace(loads, (load + unit.cost, rank))
        yield rank, unit


def _units(files: Mapping[str, Sequence[Segment]], count: int) -> list[_Unit]:
    """Return what is not split: files with those that they share draws with, or parts of them."""
    common = _rows_in_common(files)
    wholes = [_whole(files, group) for group in joined_by_draws(files, common)]
    mean = sum(unit.cost for unit in wholes) // count
    found = []
    for unit in wholes:
        if count == 1 or unit.cost * _FILES_PER_RANK <= mean:
            found.append(unit)
        else:
            found += _parts(files, unit, common, mean // _RUNS_PER_RANK)
    return found


def _rows_in_common(files: Mapping[str, Sequence[Segment]]) -> DrawOf:
    """Return what says which rows of which draw a segment has in common with others."""
    places: dict[int, list[FillPart]] = {}
    for segments in files.values():
        for segment in segments:
            if isinstance(segment, FillPart):
                places.setdefault(id(segment.fill), []).append(segment)
    found: dict[int, Hashable] = {}
    for draw, parts in places.items():
        runs = _runs(parts)
        found |= {id(part): (draw, run) for part, run in zip(parts, runs, strict=False)}
    return lambda segment: found.get(id(segment)) or draw_of(segment)


def _runs(parts: Sequence[FillPart]) -> list[Range]:
    """Return the rows of a draw that each of its places has; none where it does not come apart."""
    fill = parts[0].fill
    if not comes_apart(fill) or any(part.stride is not None for part in parts):
        return []
    runs = [run_of(part.box, fill.step.tensor.shape) for part in parts]
    return runs if _are_apart(set(runs)) else []


def _are_apart(runs: Iterable[Range]) -> bool:
    """Whether no two of different runs overlap."""
    return all(first[1] <= second[0] for first, second in pairwise(sorted(runs)))


def _whole(files: Mapping[str, Sequence[Segment]], names: Iterable[str]) -> _Unit:
    places = [
        (name, at)
        for name in names
        for at, segment in enumerate(files[name])
        if not _comes_last(segment)
    ]
    return _Unit(sum(cost_of(files[name][at]) for name, at in places), tuple(places))


def _parts(
    files: Mapping[str, Sequence[Segment]], unit: _Unit, common: DrawOf, small: int
) -> Iterator[_Unit]:
    """Yield the rows of draws in some files, and all else in runs of neighbors.

    Args:
        files: all segments.
        unit: which of them.
        common: which rows of which draw a segment has.
        small: the cost up to which neighbors stay together.
    """
    draws: dict[Hashable, list[tuple[str, int]]] = {}
    run: list[tuple[str, int]] = []
    cost = 0
    for name, at in unit.places:
        segment = files[name][at]
        if (draw := common(segment)) is not None:
            draws.setdefault(draw, []).append((name, at))
            continue
        own = cost_of(segment)
        if run and (cost + own > small or run[-1][0] != name):
            yield _Unit(cost, tuple(run))
            run, cost = [], 0
        run.append((name, at))
        cost += own
    if run:
        yield _Unit(cost, tuple(run))
    for places in draws.values():
        yield _Unit(sum(cost_of(files[name][at]) for name, at in places), tuple(places))
