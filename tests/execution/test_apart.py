"""Rows of a tensor that are drawn alone are those of the whole, and no more is drawn."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reinit_cli.execution import apart
from reinit_cli.execution.apart import comes_apart, dims_of, rows_met, run_of, whole
from reinit_cli.execution.engine import write_together
from reinit_cli.execution.fill import Fill, FillPart, Recast
from reinit_cli.storage.segments import Box, Reserved, Segment, View
from reinit_cli.tensors.blocks import Blocks
from reinit_cli.tensors.elements import Elements
from reinit_cli.tensors.moments import Moments
from reinit_cli.threads import unwatched
from tests.execution.fills import Memory, Watched, boxes_at, bytes_in, drawn, fill_of

Case = tuple[tuple[int, ...], list[Box], list[int]]
"""The shape of a tensor, how it is cut, and the rank that writes each piece."""


@st.composite
def _cases(draw: st.DrawFn) -> Case:
    shape = tuple(draw(st.lists(st.integers(1, 9), max_size=4)))
    cuts = tuple(tuple(draw(st.lists(st.integers(0, 8), max_size=3))) for _ in shape)
    boxes = boxes_at(shape, cuts)
    owners = draw(st.lists(st.integers(0, 2), min_size=len(boxes), max_size=len(boxes)))
    return shape, boxes, owners


class _Counted:
    """Adds up the moments of what is drawn."""

    def __init__(self) -> None:
        self.moments = Moments()

    def see_before(self, blocks: Blocks, moments: Moments) -> None:
        del blocks, moments

    def see(self, block: Elements, moments: Moments) -> None:
        del block
        self.moments += moments


def _written(fill: Fill, boxes: list[Box], owners: list[int], seen: _Counted) -> bytes:
    """Return a file as ranks write it, each its own pieces, one after the other."""
    itemsize = fill.nbytes // fill.step.tensor.numel
    parts = [FillPart(fill, prod(dims_of(box)) * itemsize, box) for box in boxes]
    writer = Memory()

    for rank in sorted(set(owners)):
        own: list[Segment] = [
            part if owner == rank else Reserved(part.nbytes)
            for part, owner in zip(parts, owners, strict=True)
        ]
        write_together({"": own}, {"": writer}, "cpu", unwatched, Watched(seen))
    return bytes(writer.data)


@settings(max_examples=80, deadline=None)
@given(
    _cases(), st.sampled_from([1, 7, 1 << 18]), st.sampled_from(["float32", "bfloat16", "float64"])
)
@example(((2, 3), [((0, 1), (0, 3)), ((1, 2), (0, 3))], [0, 1]), 1, "complex64")
def test_any_pieces_of_a_draw_have_the_bytes_of_the_whole(
    case: Case, block_numel: int, dtype: str
) -> None:
    shape, boxes, owners = case
    fill = (
        fill_of(shape, "trunc_normal:std=0.5", dtype)
        if dtype != "complex64"
        else fill_of(shape, "ones", dtype)
    )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apart, "BLOCK_NUMEL", block_numel)
        written = _written(fill, boxes, owners, _Counted())

    assert written == b"".join(bytes_in(drawn(fill), box) for box in boxes)


@given(_cases(), st.sampled_from([1, 7, 1 << 18]))
def test_rows_that_boxes_meet_come_once_and_in_order(case: Case, block_numel: int) -> None:
    shape, boxes, _ = case
    shape = tuple(dim for dim in shape if dim != 1) or (1,)
    boxes = boxes_at(shape, tuple((dim // 2,) for dim in shape))[::2]
    numbers = torch.arange(prod(shape)).reshape(shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apart, "BLOCK_NUMEL", block_numel)
        met = list(rows_met(boxes, shape))

    found: list[int] = []
    for first, box in met:
        block = numbers[tuple(slice(*span) for span in box)].reshape(-1).tolist()
        assert block == list(range(first, first + len(block)))
        found += block
    runs = {run_of(box, shape) for box in boxes}
    assert found == sorted(number for run in runs for number in range(*run))


def test_ranks_that_write_rows_draw_these_alone() -> None:
    fill = fill_of((64, 3, 5))
    boxes = boxes_at((64, 3, 5), ((10, 30, 31), (), ()))
    seen = _Counted()

    _written(fill, boxes, [0, 1, 0, 2], seen)

    assert seen.moments.numel == 64 * 3 * 5
    assert seen.moments.mean == pytest.approx(drawn(fill).double().mean().item(), rel=1e-12)


_FILL, _VIEW = fill_of((8, 8)), View((), "float32", (0,))


@pytest.mark.parametrize(
    "other",
    [
        replace(_FILL, is_tested=True),
        replace(_FILL, is_kept=True),
        replace(_FILL, before=_VIEW),
        replace(_FILL, zeros=_VIEW),
        replace(_FILL, step=replace(_FILL.step, first_element=3)),
        fill_of((8, 8), "orthogonal"),
        fill_of((8, 8), stream="torch-1"),
        Recast("w", _VIEW, "bfloat16", 0),
    ],
    ids=["tested", "kept", "measured", "zeros", "new rows", "orthogonal", "torch-1", "cast"],
)
def test_what_depends_on_more_than_places_stays_whole(other: Fill | Recast) -> None:
    assert comes_apart(_FILL)
    assert not comes_apart(other)


@pytest.mark.parametrize(
    ("init", "stream"), [("orthogonal", "philox-1"), ("normal:std=1", "torch-1")]
)
def test_pieces_of_what_does_not_come_apart_have_the_bytes_of_the_whole_too(
    init: str, stream: str
) -> None:
    fill = fill_of((30, 20), init, stream=stream)
    boxes = boxes_at((30, 20), ((7, 19), (5,)))

    written = _written(fill, boxes, [0, 1, 0, 1, 1, 0], _Counted())

    assert written == b"".join(bytes_in(drawn(fill), box) for box in boxes)


def test_the_run_of_a_tensor_is_all_of_it() -> None:
    assert run_of(None, (3, 4)) == run_of(whole((3, 4)), (3, 4)) == (0, 12)
    assert run_of(((1, 2), (1, 3)), (3, 4)) == (5, 7)
    assert run_of(((1, 3), (1, 3)), (3, 4)) == (4, 12)
    assert run_of((), ()) == (0, 1)
