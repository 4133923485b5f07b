"""Any part of a tensor is drawn alone, as the whole has it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinit_cli.execution import boxes
from reinit_cli.execution.boxes import Taken, fill_box
from reinit_cli.streams.chance import Array


@st.composite
def _boxes(draw: st.DrawFn) -> tuple[tuple[int, ...], Taken]:
    shape = tuple(draw(st.lists(st.integers(1, 9), max_size=4)))
    taken = []
    for dim in shape:
        start = draw(st.integers(0, dim - 1))
        taken.append(range(start, draw(st.integers(start + 1, dim)), draw(st.integers(1, 4))))
    return shape, tuple(taken)


class _Counting:
    """Fills elements with their own indices, and remembers its calls."""

    def __init__(self) -> None:
        self.runs: list[tuple[int, int]] = []

    def __call__(self, run: Array, at: int) -> None:
        self.runs.append((at, len(run)))
        run[:] = np.arange(at, at + len(run))

    @property
    def numel(self) -> int:
        return sum(count for _, count in self.runs)


def _index(taken: Taken) -> tuple[slice, ...]:
    return tuple(slice(each.start, each.stop, each.step) for each in taken)


@settings(max_examples=300)
@given(_boxes(), st.sampled_from([1, 4, 64]), st.sampled_from([1, 7, 50]))
def test_a_box_has_the_elements_that_numpy_takes(
    box: tuple[tuple[int, ...], Taken], call_numel: int, span_numel: int
) -> None:
    shape, taken = box
    out = np.full(tuple(map(len, taken)), -1, np.float32)
    whole = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    fill = _Counting()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes, "_CALL_NUMEL", call_numel)
        patch.setattr(boxes, "_SPAN_NUMEL", span_numel)
        fill_box(out, fill, shape, taken)

    assert np.array_equal(out, whole[_index(taken)])
    ends = [at + count for at, count in fill.runs]
    assert all(end <= at for end, (at, _) in zip(ends, fill.runs[1:], strict=False))


@pytest.mark.parametrize(
    ("shape", "taken", "most_runs", "most_numel"),
    [
        ((50_304, 768), (range(50_257, 50_304), range(768)), 1, 47 * 768),
        ((10**5, 10**5), (range(7, 17), range(10**5)), 1, 10**6),
        ((10**5, 10**5), (range(1000), range(1000)), 1000, 10**6),
        ((10**6, 12), (range(10**6), range(3)), 50, 12 * 10**6),
        ((1000, 64, 3, 3), (range(1000), range(64), range(1, 2), range(1, 2)), 5, 576_000),
        ((10**4, 10**6), (range(0, 10**4, 2), range(5, 6)), 5000, 5000),
        ((3, 10**9), (range(3), range(10**8, 10**8 + 10)), 3, 30),
    ],
)
def test_a_box_costs_about_what_its_elements_cost(
    shape: tuple[int, ...], taken: Taken, most_runs: int, most_numel: int
) -> None:
    fill = _Counting()

    fill_box(np.empty(tuple(map(len, taken)), np.float64), fill, shape, taken)

    assert len(fill.runs) <= most_runs
    assert fill.numel <= most_numel
