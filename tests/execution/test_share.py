"""Every segment of an output is written by one rank, the same on all, and none has much more to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinit_cli.execution.apart import dims_of
from reinit_cli.execution.fill import Fill, FillPart, Recast
from reinit_cli.execution.share import Owned, cost_of, shares_of
from reinit_cli.storage.segments import (
    Check,
    Copy,
    Late,
    Literal,
    Part,
    Reserved,
    Segment,
    View,
)
from reinit_cli.streams.stream import DEFAULT_STREAM
from tests.execution.fills import UNREAD, boxes_at, fill_of

Files = Mapping[str, Sequence[Segment]]

Sketch = tuple[str, int]
"""The kind of a segment, and its bytes; of a place of a draw in several, which one it is."""

_GB = 10**9
_NBYTES = st.one_of(st.integers(0, 9), st.integers(0, 10**7), st.integers(0, 10**11))
_KINDS = ("copy", "literal", "check", "fill", "recast", "late", "reserved", "part 0", "part 1")
_FILES = st.lists(st.lists(st.tuples(st.sampled_from(_KINDS), _NBYTES), max_size=8), max_size=7)
_COUNTS = st.integers(1, 9)


def _segment(sketch: Sketch, common: Mapping[str, Fill | Recast]) -> Segment:
    kind, nbytes = sketch
    if kind in common:
        return FillPart(common[kind], nbytes)
    data = Copy(UNREAD, 0, nbytes)
    view = View((Part(data),), "float32", (nbytes // 4,))
    made: dict[str, Segment] = {
        "copy": data,
        "literal": Literal(b"x" * (nbytes % 100)),
        "check": Check(UNREAD, 0, nbytes, 0, "w"),
        "recast": Recast("w", view, "bfloat16", nbytes),
        "late": Late(nbytes, (range(0),), lambda crcs: bytes(len(crcs))),
        "reserved": Reserved(nbytes),
    }
    return made[kind] if kind in made else fill_of((nbytes // 2,), dtype="bfloat16")


def _files(sketch: Sequence[Sequence[Sketch]]) -> dict[str, list[Segment]]:
    """Return what a rank makes of its plan: every rank has objects of its own."""
    view = View((), "float32", (0,))
    common: dict[str, Fill | Recast] = {
        "part 0": fill_of((8,), stream="torch-1"),
        "part 1": Recast("w", view, "bfloat16", 8),
    }
    return {
        f"{at}.bin": [_segment(each, common) for each in segments]
        for at, segments in enumerate(sketch)
    }


def _places(owned: Owned) -> Iterator[tuple[str, int]]:
    return ((name, at) for name, found in owned.items() for at in found)


def _loads(files: Mapping[str, Sequence[Segment]], shares: Sequence[Owned]) -> list[int]:
    return [sum(cost_of(files[name][at]) for name, at in _places(each)) for each in shares]


@given(_FILES, _COUNTS)
def test_every_segment_has_one_owner(sketch: list[list[Sketch]], count: int) -> None:
    files = _files(sketch)

    shares = shares_of(files, count)

    assert len(shares) == count
    written = [place for each in shares for place in _places(each)]
    expected = [(name, at) for name, segments in files.items() for at in range(len(segments))]
    assert sorted(written) == sorted(expected)
    assert all(found for each in shares for found in each.values())


@given(_FILES, _COUNTS)
def test_every_rank_splits_its_own_plan_the_same_way(
    sketch: list[list[Sketch]], count: int
) -> None:
    assert shares_of(_files(sketch), count) == shares_of(_files(sketch), count)


@given(_FILES, _COUNTS)
def test_all_places_of_a_draw_that_does_not_come_apart_go_to_one_rank(
    sketch: list[list[Sketch]], count: int
) -> None:
    files = _files(sketch)

    owners: dict[int, set[int]] = {}
    for rank, each in enumerate(shares_of(files, count)):
        for name, at in _places(each):
            segment = files[name][at]
            if isinstance(segment, FillPart):
                owners.setdefault(id(segment.fill), set()).add(rank)

    assert all(len(found) == 1 for found in owners.values())


@given(_FILES, _COUNTS)
def test_what_depends_on_all_ranks_comes_from_the_first(
    sketch: list[list[Sketch]], count: int
) -> None:
    files = _files(sketch)

    for each in shares_of(files, count)[1:]:
        assert not any(isinstance(files[name][at], (Late, Reserved)) for name, at in _places(each))


def _jobs(files: Mapping[str, Sequence[Segment]]) -> list[int]:
    """Return the costs of what no split can take apart."""
    alone, draws = [], dict[int, int]()
    for segments in files.values():
        for segment in segments:
            if isinstance(segment, FillPart):
                draws[id(segment.fill)] = draws.get(id(segment.fill), 0) + cost_of(segment)
            elif cost_of(segment):
                alone.append(cost_of(segment))
    return [*alone, *draws.values()]


def _best(jobs: Sequence[int], count: int) -> int:
    """Return the largest load of the best of all assignments."""
    return min(
        max(
            sum(cost for cost, to in zip(jobs, owners, strict=True) if to == rank)
            for rank in range(count)
        )
        for owners in product(range(count), repeat=len(jobs))
    )


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from(_KINDS), _NBYTES), max_size=4), max_size=2),
    st.integers(2, 3),
)
def test_no_rank_has_more_than_four_thirds_of_what_the_best_split_leaves_it(
    sketch: list[list[Sketch]], count: int
) -> None:
    files = _files(sketch)

    largest = max(_loads(files, shares_of(files, count)))

    assert 3 * largest <= 4 * _best(_jobs(files), count)


def test_with_four_files_each_no_two_ranks_write_to_the_same_file() -> None:
    sketch = [[("literal", 90), *[("copy", _GB // 100)] * 50, *[("fill", _GB // 100)] * 50]] * 64
    shares = shares_of(_files(sketch), 16)

    assert [len(each) for each in shares] == [4] * 16
    assert all(len(found) == 101 for each in shares for found in each.values())


def test_a_file_larger_than_its_quarter_is_split_though_there_are_many() -> None:
    small = [("copy", _GB // 10)]
    large = [("fill", _GB // 10)] * 100
    files = _files([large, *[small] * 100])

    shares = shares_of(files, 8)

    loads = _loads(files, shares)
    assert max(loads) * 8 <= 1.05 * sum(loads)
    assert all("0.bin" in each for each in shares)


def test_small_neighbors_in_a_file_alone_stay_together() -> None:
    """Two hosts that write to one page of a file on a network wait for each other."""
    sketch = [[("copy", 10_000)] * 100_000]

    shares = shares_of(_files(sketch), 4)

    borders = sum(at + 1 not in each["0.bin"] for each in shares for at in each["0.bin"])
    assert borders <= 4 * 40


def _folder(cuts: tuple[tuple[int, ...], ...], stream: str = DEFAULT_STREAM) -> Files:
    """Return files that each have a box of each of ten tensors, as ranks write them."""
    shape = (1 << 14, 1 << 10)
    boxes = boxes_at(shape, cuts)
    fills = [fill_of(shape, stream=stream) for _ in range(10)]
    return {
        f"__{rank}_0.distcp": [FillPart(fill, 4 * prod(dims_of(box)), box) for fill in fills]
        for rank, box in enumerate(boxes)
    }


def test_files_that_hold_rows_of_each_draw_stay_whole() -> None:
    files = _folder((tuple(range(0, 1 << 14, 1 << 8)), ()))

    shares = shares_of(files, 16)

    assert len(files) == 64
    assert [[len(found) for found in each.values()] for each in shares] == [[10] * 4] * 16


@pytest.mark.parametrize(
    ("cuts", "stream", "pieces"),
    [
        (((), tuple(range(0, 1 << 10, 1 << 7))), DEFAULT_STREAM, 10),
        (((1 << 12,), (100, 300)), DEFAULT_STREAM, 20),
        ((tuple(range(0, 1 << 14, 1 << 8)), ()), "torch-1", 10),
    ],
    ids=["columns", "both", "torch-1"],
)
def test_rows_that_several_files_hold_are_drawn_by_one_rank(
    cuts: tuple[tuple[int, ...], ...], stream: str, pieces: int
) -> None:
    files = _folder(cuts, stream)

    shares = shares_of(files, 3)

    drawn_by = [{_rows(files[name][at], stream) for name, at in _places(each)} for each in shares]
    assert len(set().union(*drawn_by)) == sum(map(len, drawn_by)) == pieces
    assert max(map(len, drawn_by)) <= -(-pieces // 3) + 1


def _rows(segment: Segment, stream: str) -> tuple[object, ...]:
    assert isinstance(segment, FillPart)
    assert segment.box is not None
    return id(segment.fill), *(segment.box[:1] if stream == DEFAULT_STREAM else ())
