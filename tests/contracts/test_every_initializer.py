"""What every initializer passes by being registered."""

from __future__ import annotations

import math

import pytest
import torch

from reinit_cli.drawing import draw, moments_of, rounded
from reinit_cli.dtypes import DTYPES
from reinit_cli.initializers import REGISTRY, Init, Initializer, UndefinedError, parse_init

SHAPES = [
    (),
    (7,),
    (6, 10),
    (10, 6),
    (40, 30),
    (8, 4, 3),
    (8, 4, 3, 3),
    (4, 2, 3, 3, 3),
    (64, 3, 11, 11),
]
EMPTY = [(0,), (0, 3), (3, 0), (0, 0), (4, 0, 3)]
FLOATS = [name for name, dtype in DTYPES.items() if dtype.kind == "float"]

DRAWN = [declared for declared in REGISTRY if declared.name != "keep"]
every_initializer = pytest.mark.parametrize("declared", list(REGISTRY), ids=lambda each: each.name)
every_drawn = pytest.mark.parametrize("declared", DRAWN, ids=lambda each: each.name)


def _is_defined(init: Init, shape: tuple[int, ...]) -> bool:
    try:
        init.law(shape)
    except UndefinedError:
        return False
    return True


def _cases(declared: Initializer) -> list[tuple[Init, tuple[int, ...]]]:
    init = parse_init(declared.example)
    found = [(init, shape) for shape in SHAPES if _is_defined(init, shape)]
    assert found, "it is defined on none of the shapes"
    return found


@every_initializer
def test_its_declaration_says_what_it_is(declared: Initializer) -> None:
    assert declared.summary.endswith(".")
    assert declared.law
    assert declared.defined
    assert declared.example.partition(":")[0] == declared.name


@every_initializer
def test_its_example_is_read_and_written_back(declared: Initializer) -> None:
    init = parse_init(declared.example)

    assert parse_init(str(init)) == init
    assert declared.bind(init.given) == init


@every_initializer
@pytest.mark.parametrize("suffix", ["", "_"])
def test_it_is_found_by_all_its_names(declared: Initializer, suffix: str) -> None:
    assert all(REGISTRY[name + suffix] is declared for name in (declared.name, *declared.aliases))


@every_drawn
def test_its_values_follow_its_law(declared: Initializer) -> None:
    for init, shape in _cases(declared):
        law = init.law(shape)
        assert law is not None
        measured = moments_of(draw(law, shape, "float32", 1, "cpu"))
        assert law.low <= measured.low * (1 + 1e-6) + 1e-9 or law.low <= measured.low
        assert measured.high <= law.high * (1 + 1e-6) + 1e-9
        n = math.prod(shape)
        if n < 100:
            continue
        slack = 5 / math.sqrt(n) if law.is_random else 1e-6
        assert measured.mean == pytest.approx(law.mean, abs=slack * law.std + 1e-9)
        assert measured.std == pytest.approx(law.std, rel=slack + 1e-6, abs=1e-9)


@every_drawn
def test_one_seed_gives_one_tensor(declared: Initializer) -> None:
    for init, shape in _cases(declared):
        law = init.law(shape)
        assert law is not None
        first, again, other = (draw(law, shape, "float32", seed, "cpu") for seed in (3, 3, 4))
        assert torch.equal(first, again)
        if law.is_random and math.prod(shape) > 5:
            assert not torch.equal(first, other)


@every_drawn
def test_it_neither_reads_nor_moves_the_global_generator(declared: Initializer) -> None:
    init, shape = _cases(declared)[-1]
    law = init.law(shape)
    assert law is not None
    with torch.random.fork_rng():
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = draw(law, shape, "float32", 3, "cpu")
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        assert torch.equal(draw(law, shape, "float32", 3, "cpu"), first)


@every_drawn
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_float_is_the_draw_rounded_once(declared: Initializer, dtype: str) -> None:
    init, shape = _cases(declared)[-1]
    law = init.law(shape)
    assert law is not None
    generator = torch.Generator().manual_seed(9)
    reference = torch.empty(shape, dtype=torch.float64 if dtype == "float64" else torch.float32)
    law.fill(reference, generator)

    got = rounded(draw(law, shape, dtype, 9, "cpu"), dtype)

    assert got.dtype == getattr(torch, dtype)
    assert torch.equal(got.view(torch.uint8), reference.to(got.dtype).view(torch.uint8))


@every_drawn
@pytest.mark.parametrize("shape", EMPTY, ids=str)
def test_an_empty_tensor_is_filled_without_a_word(
    declared: Initializer, shape: tuple[int, ...]
) -> None:
    init = parse_init(declared.example)
    if not _is_defined(init, shape):
        pytest.skip("not defined on so many dimensions")
    law = init.law(shape)
    assert law is not None

    assert draw(law, shape, "float32", 0, "cpu").shape == shape
    assert math.isfinite(law.std)


@every_drawn
def test_min_ndim_leaves_smaller_tensors_out(declared: Initializer) -> None:
    init, shape = _cases(declared)[0]
    raised = declared.bind(init.given | {"min_ndim": len(shape) + 1})

    with pytest.raises(UndefinedError, match="are needed"):
        raised.law(shape)
    assert declared.bind(init.given | {"min_ndim": len(shape)}).law(shape) == init.law(shape)
