"""Any run of a tensor that is drawn from an indexed stream has the elements of the whole."""

from __future__ import annotations

import gc
import itertools
import math
import operator
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinit_cli.initializers import Array, Chance, Law, UndefinedError, parse_init
from reinit_cli.initializers.blocks import Filler
from reinit_cli.initializers.drawing import drawn_blocks
from reinit_cli.initializers.families.replays import Patched, Region, Values
from reinit_cli.initializers.law import Constant, Normal, Uniform
from reinit_cli.initializers.norm import NormOf
from reinit_cli.initializers.truncated import TruncatedNormal
from reinit_cli.streams.philox.stream import PhiloxStream
from reinit_cli.tensors.moments import BLOCK_NUMEL
from reinit_cli.tensors.portions import Portions
from tests.streams import slow_philox

STREAM = PhiloxStream()
SEED = STREAM.seed_for(5, "layers.3.weight")
SHAPES = [(37,), (12, 30), (30, 12), (8, 4, 3), (12, 4, 3, 3)]
WHOLES = ["normal:0.5,2", "uniform:-1,3", "trunc_normal:a=-1,b=2", "constant:3", "prior_bias:0.3"]
WHOLES += ["log_uniform:0.001,0.1", "mamba_dt", "mamba_dt:a=5e-5,b=30", "mamba_a"]
WHOLES += ["unit_norm", "unit_norm:dim=1,norm=3", "spectral", "bilinear", "lora_orthogonal:B"]
WHOLES += ["orthogonal", "delta_orthogonal", "sparse:0.3", "eye", "identity:std=0.5", "dirac:2"]
PARTS = [(2, 0), (2, 1), (4, 1), (3, 2)]
COMPOUND = [
    *(f"block:parts={parts},axis={axis},inner=trunc_normal" for parts, axis in PARTS),
    "block:parts=2,axis=1,inner=orthogonal",
    "block:parts=2,axis=0,inner=orthogonal",
    *(f"icnr:inner={inner}" for inner in ("normal", "trunc_normal", "orthogonal", "sparse:0.3")),
]


def _chance() -> Chance:
    return STREAM.chance(SEED, "cpu")


def _laws() -> dict[str, tuple[Law, tuple[int, ...]]]:
    found: dict[str, tuple[Law, tuple[int, ...]]] = {}
    for text, shape in itertools.product((*WHOLES, *COMPOUND), SHAPES):
        try:
            law = parse_init(text).law(shape)
        except (UndefinedError, ValueError):
            continue
        if law is not None:
            found[f"{text} {shape}"] = law, shape
    found["a constructor's values"] = Values(np.arange(360.0).reshape(12, 30)), (12, 30)
    found["norms"] = NormOf(Normal(0.0, 1.0), (40, 3, 5), is_wide=False, dim=0), (40, 1, 1)
    return found


LAWS = _laws()
PARTS_OF_A_CONSTRUCTOR = (
    (Region(30, (2, 30), (30, 1)), Constant(0.0)),
    (Region(97, (50,), (1,)), Uniform(2.0, 3.0)),
    (Region(260, (3, 3), (30, 7)), TruncatedNormal(0.0, 1.0, -1.0, 2.0)),
    (Region(183, (3, 2, 4), (1, 60, 4)), Normal(9.0, 1.0)),
    (Region(359, (), ()), Constant(7.0)),
)


def _pieces(fill: Filler, numel: int, dtype: np.dtype, cuts: list[int], order: list[int]) -> Array:
    ends = sorted({0, numel, *(cut % (numel + 1) for cut in cuts)})
    runs = list(itertools.pairwise(ends))
    found = np.full(numel, np.nan, dtype)
    for at in sorted(range(len(runs)), key=lambda at: order[at % len(order)]):
        start, stop = runs[at]
        run = np.full(stop - start, np.nan, dtype)
        fill(run, start)
        found[start:stop] = run
    return found


@pytest.mark.parametrize("name", list(LAWS))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(
    st.lists(st.integers(0, 2**20), max_size=12),
    st.lists(st.integers(), min_size=1, max_size=12),
)
@settings(max_examples=6, deadline=None)
def test_runs_in_any_order_are_what_the_law_fills_a_whole_tensor_with(
    name: str, dtype: str, cuts: list[int], order: list[int]
) -> None:
    law, shape = LAWS[name]
    whole = np.empty(shape, dtype)
    law.fill(whole, _chance())
    fill = law.filler(shape, np.dtype(dtype), _chance())

    found = _pieces(fill, whole.size, np.dtype(dtype), cuts, order)

    assert found.tobytes() == whole.tobytes()


@given(
    st.lists(st.integers(0, 360), max_size=12),
    st.lists(st.integers(), min_size=1, max_size=12),
)
def test_parts_of_a_constructor_draw_the_elements_after_those_of_the_whole(
    cuts: list[int], order: list[int]
) -> None:
    numel, dtype = 360, np.dtype(np.float32)
    expected = np.empty(numel, dtype)
    Normal(0.0, 1.0).fill(expected, _chance())
    reached = numel
    for region, law in PARTS_OF_A_CONSTRUCTOR:
        drawn = np.empty(region.shape, dtype)
        law.fill(drawn, _chance().at(reached))
        for index in np.ndindex(region.shape):
            place = region.offset + sum(map(operator.mul, index, region.stride))
            expected[place] = drawn[index]
        reached += region.numel

    law = Patched(numel, Normal(0.0, 1.0), PARTS_OF_A_CONSTRUCTOR)
    found = _pieces(law.filler((12, 30), dtype, _chance()), numel, dtype, cuts, order)

    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", list(LAWS))
def test_blocks_are_the_whole_tensor(name: str) -> None:
    law, shape = LAWS[name]
    whole = np.empty(shape, np.float32)
    law.fill(whole, _chance())

    blocks = [block.copy() for block in drawn_blocks(law, shape, whole.dtype, _chance())]

    assert np.concatenate(blocks).tobytes() == whole.tobytes()


LARGE = (2**20, 2**14)
"""A tensor of 64 GiB."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("normal:0.5,2", lambda i: slow_philox.normal(SEED, i, 0.5, 2.0)),
        ("uniform:-1,3", lambda i: slow_philox.uniform(SEED, i, -1.0, 3.0)),
        ("trunc_normal:a=-1,b=2", lambda i: slow_philox.truncated(SEED, i, 0.0, 1.0, -1.0, 2.0)),
        ("constant:0.25", lambda _: 0.25),
        ("eye", lambda i: float(i // 2**14 == i % 2**14)),
        (
            "icnr:upscale=4,inner=normal",
            lambda i: slow_philox.normal(SEED, i // 2**18 * 2**14 + i % 2**14, 0.0, 1.0),
        ),
        (
            "block:parts=4,axis=1,inner=uniform",
            lambda i: slow_philox.uniform(
                SEED, i % 2**14 // 2**12 * 2**32 + i // 2**14 * 2**12 + i % 2**12, 0.0, 1.0
            ),
        ),
    ],
)
@given(st.integers(0, 2**34 - 1), st.integers(1, 60))
@settings(max_examples=10, deadline=None)
def test_an_element_of_a_tensor_larger_than_memory_is_what_its_definition_says(
    text: str, expected, at: int, count: int
) -> None:
    law = parse_init(text).law(LARGE)
    assert law is not None
    run = np.empty(min(count, 2**34 - at), np.float32)

    law.filler(LARGE, run.dtype, _chance())(run, at)

    for element in {0, len(run) // 2, len(run) - 1}:
        assert run[element] == np.float32(expected(at + element))


@pytest.mark.parametrize("inner", ["sparse:0.3", "orthogonal", "normal"])
@pytest.mark.parametrize("axis", [0, 1])
def test_each_part_of_a_block_is_a_tensor_that_begins_at_its_own_element(
    inner: str, axis: int
) -> None:
    shape, part = (12, 30), (6, 30) if axis == 0 else (12, 15)
    law, of_part = (
        parse_init(f"block:2,{inner},axis={axis}").law(shape),
        parse_init(inner).law(part),
    )
    assert law is not None
    assert of_part is not None
    drawn = np.empty(shape, np.float32)
    law.filler(shape, drawn.dtype, _chance())(drawn.reshape(-1), 0)

    for number, found in enumerate(np.split(drawn, 2, axis)):
        expected = np.empty(part, np.float32)
        of_part.fill(expected, _chance().at(number * 180))
        assert np.array_equal(found, expected)


ELEMENTWISE = [
    "normal",
    "uniform",
    "trunc_normal:a=-1,b=2",
    "zeros",
    "eye",
    "identity:std=0.1",
    "mamba_dt",
    "mamba_a",
    "unit_norm",
    "block:parts=4,axis=1,inner=trunc_normal",
    "block:parts=4,inner=trunc_normal",
    "icnr:upscale=4,inner=trunc_normal",
]


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        *((text, (4096, 2048)) for text in ELEMENTWISE),
        pytest.param("sparse:0.1", (4096, 2048), marks=pytest.mark.slow),
        pytest.param("block:parts=8,inner=orthogonal", (2048, 256), marks=pytest.mark.slow),
    ],
)
def test_a_large_tensor_is_filled_in_the_memory_that_its_law_says(
    text: str, shape: tuple[int, ...]
) -> None:
    law = parse_init(text).law(shape)
    assert law is not None
    said = law.filling_nbytes(shape, 4)
    assert said is not None
    assert (said == 0) == (text in ELEMENTWISE)
    run = np.empty(math.prod(shape) // 64, np.float32)
    law.filler(shape, run.dtype, _chance())(run[:1], 0)  # tables are made
    gc.collect()

    tracemalloc.start()
    fill = law.filler(shape, run.dtype, _chance())
    for at in range(0, math.prod(shape), len(run)):
        fill(run, at)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak <= said + 2**20 + 4 * run.nbytes


@pytest.mark.parametrize("text", ["noise:std=2", "shrink_perturb:factor=0.5,std=1", "clamp:min=0"])
@given(st.integers(0, 2 * BLOCK_NUMEL), st.integers(1, 50))
@settings(max_examples=10, deadline=None)
def test_a_run_of_a_transform_is_changed_as_in_the_whole(text: str, at: int, count: int) -> None:
    numel = 2 * BLOCK_NUMEL + 99
    law = parse_init(text).law((numel,))
    assert law is not None
    there = np.linspace(-3, 3, numel, dtype=np.float32)
    portions = Portions(iter([there]))
    blocks = drawn_blocks(law, (numel,), there.dtype, _chance(), portions.take_into)
    whole = np.concatenate([block.copy() for block in blocks])
    run = there[at : at + count].copy()

    law.filler((numel,), run.dtype, _chance())(run, at)

    assert run.tobytes() == whole[at : at + count].tobytes()


class Theirs(Law):
    """A law of another package that draws with torch, and is sequential there."""

    mean = std = 1.0
    is_sequential = True

    def fill(self, values: Array, chance: Chance) -> None:
        import torch

        torch.from_numpy(values).exponential_(1.0, generator=chance.generator())


def test_a_law_that_draws_with_torch_is_drawn_whole_and_repeats_nothing() -> None:
    shape = (3, BLOCK_NUMEL)
    whole = np.empty(shape, np.float32)
    Theirs().fill(whole, _chance())

    blocks = [each.copy() for each in drawn_blocks(Theirs(), shape, whole.dtype, _chance())]

    assert len(np.unique(whole)) > 0.9 * math.prod(shape) > 0
    assert np.concatenate(blocks).tobytes() == whole.tobytes()
