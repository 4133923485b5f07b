"""Every initializer passes this contract by being registered."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from reinit_cli.execution.draw import There
from reinit_cli.execution.zeros import Zeros
from reinit_cli.initializers import (
    REGISTRY,
    Array,
    Elsewhere,
    Init,
    Initializer,
    Law,
    Move,
    Site,
    Transform,
    UndefinedError,
    parse_init,
)
from reinit_cli.initializers.law import Normal
from reinit_cli.streams.torch.stream import TorchStream
from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.elements import Elements, stored_dtype
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.layers.layer import Layer
from reinit_cli.tensors.moments import moments_of
from reinit_cli.tensors.rounding import elements_of_tensor, numbers, rounded, torch_tensor
from reinit_cli.tensors.torch_moments import torch_moments
from tests.draws import draw

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

BESIDE = "step0.safetensors"
"""The checkpoint that the examples refer to."""

ARRAY = "bias.npy"
"""The array that they refer to."""

# `mean` fills from rows that are not its own; tests/test_resizing.py has its contract.
DRAWN = [declared for declared in REGISTRY if declared.name not in ("keep", "mean")]
every_initializer = pytest.mark.parametrize("declared", list(REGISTRY), ids=lambda each: each.name)
every_drawn = pytest.mark.parametrize("declared", DRAWN, ids=lambda each: each.name)


class Net:
    """An architecture whose constructor draws everything from one normal."""

    def law(self, key: str, shape: tuple[int, ...], seed: int | None = None) -> Law:
        del key, shape, seed
        return Normal(1.0, 0.5)

    def start(self, key: str, shape: tuple[int, ...]) -> None:
        del key, shape


class Layers:
    """Of which each is linear, or a convolution."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shapes = {"weight": shape}

    def layer(self, key: str) -> Layer:
        kind = {3: "Conv1d", 4: "Conv2d", 5: "Conv3d"}.get(len(self._shapes["weight"]), "Linear")
        return Layer(kind, key.rpartition(".")[0], "weight", self._shapes)


def _site(shape: tuple[int, ...], dtype: str = "float32") -> Site:
    donor = {"layers.3.weight": TensorInfo("layers.3.weight", dtype, shape, 0)}
    array = {ARRAY: TensorInfo(ARRAY, dtype, shape, 0)}
    elsewhere = Elsewhere(Net(), {ARRAY: array, BESIDE: donor}, layers=Layers(shape))
    return Site("layers.3.weight", dtype, elsewhere)


def _drawn(init: Init, shape: tuple[int, ...], seed: int, dtype: str = "float32") -> torch.Tensor:
    """The draw on what is there, which for transforms is a normal of the dtype."""
    there = torch.empty(shape).normal_(0.5, 2, generator=torch.Generator().manual_seed(7))
    blocks = (elements_of_tensor(there.to(getattr(torch, dtype)).view(-1)),)
    present = There(lambda: iter(blocks), own=lambda: iter(blocks))
    return draw(_law(init, shape, dtype), shape, dtype, seed, "cpu", present)


def _law(init: Init, shape: tuple[int, ...], dtype: str = "float32") -> Law:
    law = init.law(shape, _site(shape, dtype))
    assert law is not None
    return law


def _is_defined(init: Init, shape: tuple[int, ...]) -> bool:
    try:
        init.law(shape, _site(shape))
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
        law = _law(init, shape)
        if isinstance(law, Transform):
            continue  # nothing is known of it before the tensor is read
        measured = moments_of(elements_of_tensor(_drawn(init, shape, 1)))
        rounding = 1e-6 * max(abs(measured.low), abs(measured.high)) + 1e-9
        assert law.low - rounding <= measured.low
        assert measured.high <= law.high + rounding
        n = math.prod(shape)
        if n < 100:
            continue
        slack = 5 / math.sqrt(n) if law.is_random else 1e-6
        assert measured.mean == pytest.approx(law.mean, abs=slack * law.std + rounding)
        assert measured.std == pytest.approx(law.std, rel=slack + 1e-6, abs=rounding)


@every_drawn
def test_one_seed_gives_one_tensor(declared: Initializer) -> None:
    for init, shape in _cases(declared):
        first, again, other = (_drawn(init, shape, seed) for seed in (3, 3, 4))
        assert torch.equal(first, again)
        if _law(init, shape).is_random and math.prod(shape) > 5:
            assert not torch.equal(first, other)


@every_drawn
def test_it_neither_reads_nor_moves_the_global_generator(declared: Initializer) -> None:
    init, shape = _cases(declared)[-1]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = _drawn(init, shape, 3)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        assert torch.equal(_drawn(init, shape, 3), first)


def _stored(tensor: torch.Tensor, dtype: str) -> Array:
    """Return the array that shares the memory of a tensor."""
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor.numpy()
    stored = stored_dtype(dtype)
    return tensor.view(getattr(torch, stored.name)).numpy()


@every_drawn
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_float_is_the_draw_rounded_once(declared: Initializer, dtype: str) -> None:
    init, shape = _cases(declared)[-1]
    law = _law(init, shape, dtype)
    chance = TorchStream().chance(9, "cpu")
    drawn_in = torch.float64 if dtype == "float64" else torch.float32
    there = torch.empty(shape).normal_(0.5, 2, generator=torch.Generator().manual_seed(7))
    there = there.to(getattr(torch, dtype))
    reference = there.clone() if isinstance(law, Move) else there.to(drawn_in)
    if isinstance(law, Transform) and law.needs_moments:
        law = law.settled(torch_moments(elements_of_tensor(there)))
    if isinstance(law, Transform) and law.mixes:
        law = law.mixed_with(lambda own: np.copyto(own, there.to(drawn_in).view(-1).numpy()))
    law.fill(_stored(reference, dtype), chance)

    drawn = numbers(elements_of_tensor(_drawn(init, shape, 9, dtype)))
    got = torch_tensor(rounded(drawn, dtype))

    assert got.dtype == getattr(torch, dtype)
    assert torch.equal(got.view(torch.uint8), reference.to(got.dtype).view(torch.uint8))


@every_drawn
@pytest.mark.parametrize("shape", EMPTY, ids=str)
def test_an_empty_tensor_is_filled_without_a_warning(
    declared: Initializer, shape: tuple[int, ...]
) -> None:
    init = parse_init(declared.example)
    if not _is_defined(init, shape):
        pytest.skip("not defined on so many dimensions")
    law = _law(init, shape)

    assert _drawn(init, shape, 0).shape == shape
    assert isinstance(law, Transform) or math.isfinite(law.std)


@every_drawn
def test_it_can_leave_zeros_as_they_are(declared: Initializer) -> None:
    init, shape = _cases(declared)[-1]
    law = _law(declared.bind(init.given | {"keep_zeros": True}), shape)
    mask = torch.empty(shape).bernoulli_(0.5, generator=torch.Generator().manual_seed(1))

    def there() -> Iterator[Elements]:
        yield elements_of_tensor(mask.view(-1))

    kept = draw(law, shape, "float32", 3, "cpu", There(there, Zeros(there, 1), there))
    whole = draw(law, shape, "float32", 3, "cpu", There(there, own=there))

    assert torch.equal(kept, whole.masked_fill(mask == 0, 0))


@every_drawn
def test_min_ndim_leaves_smaller_tensors_out(declared: Initializer) -> None:
    init, shape = _cases(declared)[0]
    raised = declared.bind(init.given | {"min_ndim": len(shape) + 1})

    with pytest.raises(UndefinedError, match="needs"):
        raised.law(shape, _site(shape))
    same = declared.bind(init.given | {"min_ndim": len(shape)})
    assert same.law(shape, _site(shape)) == init.law(shape, _site(shape))
