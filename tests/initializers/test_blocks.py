"""A law that is drawn block by block gives the tensor that torch draws as a whole, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reinit_cli.execution.draw import There
from reinit_cli.initializers import REGISTRY, Law, UndefinedError, parse_init
from reinit_cli.initializers.families.replays import Patched, Region, Values
from reinit_cli.initializers.law import Constant, Normal, Uniform
from reinit_cli.initializers.truncated import TruncatedNormal
from reinit_cli.streams.torch.groups import GROUP_NUMEL
from reinit_cli.streams.torch.stream import TorchStream
from reinit_cli.tensors.device import one_thread
from reinit_cli.tensors.moments import BLOCK_NUMEL
from reinit_cli.tensors.rounding import elements_of_tensor
from tests.draws import draw, draw_blocks
from tests.tools import needs_torch

Reference = Callable[[torch.Tensor, torch.Generator], Any]

SEED = 11
BEYOND = (-1, 0, 1, 15, 16, 17)


@pytest.fixture(autouse=True)
def _drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Draw small tensors as large ones are drawn, as a run draws them."""
    families = "reinit_cli.initializers.families"
    monkeypatch.setattr("reinit_cli.streams.torch.truncated.WHOLE_NBYTES", 8 * GROUP_NUMEL)
    monkeypatch.setattr(f"{families}.sparses._WHOLE_NUMEL", 0)
    monkeypatch.setattr(f"{families}.replays._WHOLE_NUMEL", 0)
    monkeypatch.setattr("reinit_cli.initializers.parts._LEAST_PART_NUMEL", GROUP_NUMEL)
    with one_thread():
        yield


def _law(text: str, shape: tuple[int, ...]) -> Law:
    law = parse_init(text).law(shape)
    assert law is not None
    return law


def _drawn(
    law: Law, shape: tuple[int, ...], dtype: str, there: There | None = None
) -> torch.Tensor:
    blocks = draw_blocks(law, shape, dtype, SEED, "cpu", there or There())
    return torch.cat([block.clone() for block in blocks]).view(shape)


def _in_blocks(
    law: Law, shape: tuple[int, ...], dtype: str, there: There | None = None
) -> torch.Tensor:
    blocks = draw_blocks(law, shape, dtype, SEED, "cpu", there or There())
    found = [block.clone() for block in blocks]
    assert max(block.numel() for block in found) < BLOCK_NUMEL + GROUP_NUMEL
    return torch.cat(found).view(shape)


def _by_torch(reference: Reference, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    kind = torch.float64 if dtype == "float64" else torch.float32
    tensor = torch.empty(shape, dtype=kind)
    reference(tensor, torch.Generator().manual_seed(SEED))
    return tensor


# --- the whole tensor, drawn by torch alone ----------------------------------------------------


def _trunc_normal(mean: float, std: float, a: float, b: float) -> Reference:
    return lambda tensor, generator: nn.init.trunc_normal_(tensor, mean, std, a, b, generator)


def _sparse(tensor: torch.Tensor, generator: torch.Generator) -> None:
    rows, columns = tensor.shape
    tensor.normal_(0, 0.01, generator=generator)
    for column in range(columns):
        tensor[torch.randperm(rows, generator=generator)[: math.ceil(0.3 * rows)], column] = 0


def _noisy_identity(tensor: torch.Tensor, generator: torch.Generator) -> None:
    tensor.normal_(0, 0.01, generator=generator)
    nn.init.eye_(ones := torch.empty_like(tensor))
    tensor.add_(ones)


def _orthogonal(tensor: torch.Tensor, generator: torch.Generator) -> None:
    """Draw as torch's own, but with a matrix of float64."""
    rows, columns = tensor.shape
    flat = torch.empty_like(tensor).normal_(0, 1, generator=generator).double()
    q, r = torch.linalg.qr(flat.t() if rows < columns else flat)
    q *= torch.diag(r, 0).sign()
    tensor.copy_(q.t() if rows < columns else q)


def _of_parts(reference: Reference, count: int, axis: int) -> Reference:
    def fill(tensor: torch.Tensor, generator: torch.Generator) -> None:
        for part in tensor.chunk(count, axis):
            reference(drawn := part.contiguous(), generator)
            part.copy_(drawn)

    return fill


def _repeated(reference: Reference, times: int) -> Reference:
    def fill(tensor: torch.Tensor, generator: torch.Generator) -> None:
        part = torch.empty_like(tensor[: len(tensor) // times])
        reference(part, generator)
        tensor.copy_(part.repeat_interleave(times, 0))

    return fill


def _named(name: str, **arguments: Any) -> Reference:
    function = getattr(nn.init, f"{name}_")
    return lambda tensor, generator: function(tensor, generator=generator, **arguments)


@pytest.mark.filterwarnings("ignore:mean is more than 2 std")
@pytest.mark.parametrize(
    "numel", [*(BLOCK_NUMEL + beyond for beyond in BEYOND), 3 * BLOCK_NUMEL + 5]
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("bounds", [(0, 1, -2, 2), (0.5, 0.02, 0.47, 0.6), (0, 1, -0.1, 0.5)])
def test_a_truncated_normal_is_torch_s(
    bounds: tuple[float, float, float, float], dtype: str, numel: int
) -> None:
    needs_torch("2.12", "trunc_normal_ redraws what is out of bounds")
    expected = _by_torch(_trunc_normal(*bounds), (numel,), dtype)

    assert torch.equal(_in_blocks(TruncatedNormal(*bounds), (numel,), dtype), expected)


AROUND = [
    (BLOCK_NUMEL // 2, 2),
    (2, BLOCK_NUMEL // 2),
    (1026, 514),
    (514, 1026),
    (3, BLOCK_NUMEL + 7),
]
EYE: Reference = lambda tensor, _: nn.init.eye_(tensor)  # noqa: E731
SEQUENTIAL = {
    "uniform:-1,3": _named("uniform", a=-1, b=3),
    "normal:0.5,2": _named("normal", mean=0.5, std=2),
    "xavier_uniform": _named("xavier_uniform"),
    "kaiming_normal": _named("kaiming_normal"),
    "constant:0.1": lambda tensor, _: tensor.fill_(0.1),
}
STRUCTURED = {
    "eye": EYE,
    "identity": EYE,
    "identity:std=0.01": _noisy_identity,
    "sparse:0.3": _sparse,
    "orthogonal": _orthogonal,
}


@pytest.mark.parametrize("shape", AROUND, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", [*SEQUENTIAL, *STRUCTURED])
def test_a_matrix_is_torch_s(text: str, dtype: str, shape: tuple[int, ...]) -> None:
    if text == "sparse:0.3" and max(shape) == shape[1] > 2**16:
        shape = (shape[0] * 64, shape[1] // 64)  # torch takes a permutation for each column
    expected = _by_torch((SEQUENTIAL | STRUCTURED)[text], shape, dtype)

    assert torch.equal(_in_blocks(_law(text, shape), shape, dtype), expected)


@pytest.mark.parametrize("shape", [(512, 128, 3, 3), (130, 515, 5), (6, 4, 40, 40, 7)], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_a_dirac_kernel_is_torch_s(shape: tuple[int, ...], groups: int) -> None:
    expected = _by_torch(lambda tensor, _: nn.init.dirac_(tensor, groups), shape, "float32")

    assert torch.equal(_in_blocks(_law(f"dirac:{groups}", shape), shape, "float32"), expected)


def test_a_delta_orthogonal_kernel_is_an_orthogonal_matrix_among_zeros() -> None:
    shape = (300, 200, 3, 3)
    expected = torch.zeros(shape)
    expected[:, :, 1, 1] = _by_torch(_orthogonal, shape[:2], "float32")

    assert torch.equal(_in_blocks(_law("delta_orthogonal", shape), shape, "float32"), expected)


@pytest.mark.parametrize(
    "shape", [(8, 2, 2**15 + 3), (6, 3, 2**17 + 1), (2**17, 6), (4, 2 * BLOCK_NUMEL + 6)], ids=str
)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    ("inner", "reference"),
    [(inner, _named(inner)) for inner in ("normal", "uniform", "trunc_normal")],
)
def test_parts_are_drawn_one_after_the_other_wherever_they_lie(
    inner: str, reference: Reference, axis: int, shape: tuple[int, ...]
) -> None:
    if inner == "trunc_normal":
        needs_torch("2.12", "trunc_normal_ redraws what is out of bounds")
    parts = 2 if shape[axis] % 2 == 0 else 3
    expected = _by_torch(_of_parts(reference, parts, axis), shape, "float32")
    law = _law(f"block:parts={parts},axis={axis},inner={inner}", shape)
    # Where a part ends that is drawn by rejection is known when it is drawn.
    is_whole = axis == 1 and inner == "trunc_normal"

    drawn = (_drawn if is_whole else _in_blocks)(law, shape, "float32")

    assert torch.equal(drawn, expected)


@pytest.mark.parametrize("shape", [(8, 2**17 + 3), (4 * 2**10, 129), (16, 8, 3, 1500)], ids=str)
@pytest.mark.parametrize("inner", ["normal", "trunc_normal"])
def test_rows_of_a_smaller_tensor_are_repeated(inner: str, shape: tuple[int, ...]) -> None:
    if inner == "trunc_normal":
        needs_torch("2.12", "trunc_normal_ redraws what is out of bounds")
    expected = _by_torch(_repeated(_named(inner), 4), shape, "float32")

    assert torch.equal(_in_blocks(_law(f"icnr:inner={inner}", shape), shape, "float32"), expected)


def test_what_a_constructor_fills_in_parts_is_drawn_in_its_order() -> None:
    shape = (600, 500)
    parts = (
        (Region(1000, (2, 500), (500, 1)), Constant(0.0)),
        (Region(200_000, (90_000,), (1,)), Uniform(0.0, 1.0)),
    )
    expected = torch.empty(shape)
    generator = torch.Generator().manual_seed(SEED)
    expected.normal_(generator=generator)
    expected[2:4] = 0
    expected.view(-1)[200_000:290_000] = torch.empty(90_000).uniform_(generator=generator)

    law = Patched(math.prod(shape), Normal(0.0, 1.0), parts)

    assert torch.equal(_in_blocks(law, shape, "float32"), expected)


def test_values_of_a_constructor_are_given_as_they_are() -> None:
    values = torch.arange(2 * BLOCK_NUMEL + 9.0)

    assert torch.equal(_in_blocks(Values(values.numpy()), (len(values),), "float32"), values)


def test_shuffled_values_are_those_at_the_places_of_torch_s_permutation() -> None:
    values = torch.arange(2 * BLOCK_NUMEL + 9, dtype=torch.int32)
    expected = values[torch.randperm(len(values), generator=torch.Generator().manual_seed(SEED))]
    there = There(lambda: map(elements_of_tensor, torch.split(values, 1000)))

    law = _law("shuffle", (len(values),))

    assert torch.equal(_in_blocks(law, (len(values),), "int32", there), expected)


@pytest.mark.parametrize(
    "text", ["trunc_normal", "sparse:0.3", "icnr:inner=trunc_normal", "orthogonal"]
)
def test_the_generator_is_left_where_a_whole_draw_leaves_it(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (520, 520)
    law = _law(text, shape)
    whole, in_blocks = (TorchStream().chance(SEED, "cpu") for _ in range(2))
    for _ in law.blocks(shape, np.dtype("float32"), in_blocks):
        pass
    monkeypatch.undo()
    law.fill(np.empty(shape, np.float32), whole)

    following = [torch.empty(99).normal_(generator=each.generator()) for each in (whole, in_blocks)]

    assert torch.equal(*following)


@pytest.mark.parametrize(
    "declared", [each for each in REGISTRY if not each.stream], ids=lambda each: each.name
)
def test_every_initializer_gives_in_blocks_what_it_gives_whole(declared: Any) -> None:
    init = parse_init(declared.example)
    for shape in [(7,), (10, 6), (8, 4, 3), (64, 3, 11, 11), (4, 2, 3, 3, 3), (1024, 260)]:
        try:
            law = init.law(shape)
        except (UndefinedError, ValueError):
            continue
        if law is None:
            continue
        for dtype in ("float32", "float64"):
            whole = draw(law, shape, dtype, SEED, "cpu")
            assert torch.equal(_drawn(law, shape, dtype), whole)
