"""What is wrong in torch.nn.init is right here."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reinit_cli import apply_
from reinit_cli.initializers import Law, parse_init
from reinit_cli.tensors.device import one_thread
from tests.draws import draw


def _law(text: str, shape: tuple[int, ...]) -> Law:
    law = parse_init(text).law(shape)
    assert law is not None
    return law


def test_the_zeros_of_sparse_come_from_its_own_generator() -> None:
    drawn = []
    for global_seed in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(global_seed)
            drawn.append(draw(_law("sparse:0.5", (30, 30)), (30, 30), "float32", 7, "cpu"))

    assert torch.equal(*drawn)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_orthogonal_fills_half_precision(dtype: torch.dtype) -> None:
    state = {"w": torch.zeros(20, 30, dtype=dtype)}

    apply_(state, ["w=orthogonal"])

    product = state["w"].double() @ state["w"].double().T
    assert torch.allclose(product, torch.eye(20, dtype=torch.float64), atol=2e-2)


def test_orthogonal_does_not_depend_on_the_number_of_threads() -> None:
    # Large enough for the library of linear algebra to share the work.
    shape = (700, 600)
    drawn = []
    before = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            state = {"w": torch.empty(shape)}
            apply_(state, ["w=orthogonal"])
            drawn.append(state["w"])
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)

    assert torch.equal(*drawn)


@pytest.mark.parametrize(
    "text", ["normal:std=0.02", "uniform:-1,1", "orthogonal", "kaiming_normal"]
)
def test_values_do_not_depend_on_the_layout_in_memory(text: str) -> None:
    contiguous = torch.empty(8, 4, 3, 5)
    layouts = {
        "contiguous": contiguous,
        "channels_last": torch.empty(8, 4, 3, 5).contiguous(memory_format=torch.channels_last),
        "transposed": torch.empty(5, 3, 4, 8).permute(3, 2, 1, 0),
        "slice": torch.empty(8, 8, 3, 5)[:, ::2],
    }

    for tensor in layouts.values():
        apply_({"w": tensor}, [f"w={text}"])

    assert not layouts["slice"].is_contiguous()
    assert all(torch.equal(tensor, contiguous) for tensor in layouts.values())


@pytest.mark.parametrize(
    "dtype",
    [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz],
    ids=str,
)
def test_float8_is_the_float32_draw_rounded_once(dtype: torch.dtype) -> None:
    state = {"w": torch.zeros(64, 64).to(dtype)}
    reference = {"w": torch.zeros(64, 64)}

    apply_(state, ["w=normal:std=0.5"])
    apply_(reference, ["w=normal:std=0.5"])

    assert torch.equal(state["w"].view(torch.uint8), reference["w"].to(dtype).view(torch.uint8))


@pytest.mark.slow
def test_bfloat16_uniforms_are_unbiased() -> None:
    shape = (4096, 4096)

    drawn = draw(_law("uniform", shape), shape, "bfloat16", 0, "cpu").bfloat16()

    # Rounded down they would have a mean of .49804; five standard errors are .00035.
    assert drawn.double().mean().item() == pytest.approx(0.5, abs=0.00035)


def test_a_narrow_truncated_normal_has_no_outliers_at_its_bounds() -> None:
    drawn = draw(_law("trunc_normal:std=0.02", (1000, 1000)), (1000, 1000), "float32", 0, "cpu")

    assert drawn.abs().max().item() < 0.02 * 6


@pytest.mark.parametrize(
    "text", ["xavier_uniform", "xavier_normal", "kaiming_uniform", "orthogonal"]
)
def test_an_empty_tensor_is_neither_an_error_nor_a_warning(text: str) -> None:
    apply_({"w": torch.empty(0, 0)}, [f"w={text}"])


def test_the_variance_of_a_normalization_is_never_drawn_by_a_wildcard() -> None:
    norm = nn.Sequential(nn.BatchNorm1d(50))

    apply_(norm, ["*=normal:std=1"])
    norm.eval()

    assert torch.isfinite(norm(torch.randn(3, 50))).all()


def test_drawing_sets_the_thread_count_back_when_it_fails() -> None:
    before = torch.get_num_threads()

    with pytest.raises(ZeroDivisionError), one_thread():
        assert torch.get_num_threads() == 1
        _ = 1 / 0

    assert torch.get_num_threads() == before
