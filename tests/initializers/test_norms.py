"""Rows of norm one, spectral norms, upsampling kernels and LoRA's pairs are those of their sources."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from reinit_cli import apply_
from reinit_cli.execution.draw import There
from reinit_cli.initializers import Array, Law, Site, UndefinedError, parse_init
from reinit_cli.initializers.spectral import spectral_norm
from reinit_cli.streams.philox.stream import PhiloxStream
from reinit_cli.tensors.rounding import elements_of_tensor
from tests.draws import draw

PHILOX = PhiloxStream()
STREAMS = pytest.mark.parametrize("stream", ["philox-1", "torch-1"])


def _law(text: str, shape: tuple[int, ...], key: str = "") -> Law:
    law = parse_init(text).law(shape, Site(key))
    assert law is not None
    return law


def _drawn(text: str, shape: tuple[int, ...], stream: str = "philox-1", key: str = "") -> Array:
    return draw(_law(text, shape, key), shape, "float32", 5, stream=stream).numpy()


# --- rows of norm one ----------------------------------------------------------------------------


@STREAMS
@pytest.mark.parametrize("shape", [(40, 30), (3, 70_001), (6, 4, 3, 3), (5, 1)], ids=str)
@pytest.mark.parametrize("dim", [0, 1])
def test_drawn_rows_or_columns_have_norm_one(shape: tuple[int, ...], dim: int, stream: str) -> None:
    drawn = torch.from_numpy(_drawn(f"unit_norm:dim={dim}", shape, stream)).double()

    norms = drawn.movedim(dim, 0).flatten(1).norm(dim=1)

    torch.testing.assert_close(norms, torch.ones_like(norms), rtol=3e-7, atol=0)


def test_rows_of_norm_one_are_the_normals_of_the_key_in_one_direction() -> None:
    normal = torch.from_numpy(_drawn("normal", (40, 30))).double()

    drawn = torch.from_numpy(_drawn("unit_norm:norm=2.5", (40, 30)))

    expected = 2.5 * torch.nn.functional.normalize(normal, dim=1)
    torch.testing.assert_close(drawn, expected.float(), rtol=1.2e-7, atol=0)


def test_a_coordinate_of_a_row_of_norm_one_has_the_distribution_on_the_sphere() -> None:
    drawn = _drawn("unit_norm", (20_000, 8))[:, 3]

    # (x + 1) / 2 is a beta variable on the sphere in 8 dimensions.
    assert stats.kstest((drawn + 1) / 2, stats.beta(3.5, 3.5).cdf).pvalue > 1e-4
    assert _law("unit_norm", (20_000, 8)).std == pytest.approx(math.sqrt(1 / 8))


@STREAMS
@pytest.mark.parametrize("shape", [(40, 30), (3, 70_001), (6, 4, 3, 3)], ids=str)
@pytest.mark.parametrize("dim", [0, 1])
def test_existing_rows_are_normalized_as_torch_does(
    shape: tuple[int, ...], dim: int, stream: str
) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    there = There(lambda: iter((elements_of_tensor(weight.view(-1)),)))

    found = draw(
        _law(f"normalize:dim={dim},norm=2", shape), shape, "float32", 5, "cpu", there, stream
    )

    moved = weight.double().movedim(dim, 0)
    expected = 2 * torch.nn.functional.normalize(moved.flatten(1), dim=1).view(moved.shape)
    torch.testing.assert_close(found, expected.movedim(0, dim).float(), rtol=1.2e-7, atol=0)


def test_existing_rows_of_zeros_stay_zeros() -> None:
    weight = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    there = There(lambda: iter((elements_of_tensor(weight.view(-1)),)))

    found = draw(_law("normalize", (2, 2)), (2, 2), "float32", 5, "cpu", there)

    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0], [0.6, 0.8]]))


def test_columns_of_norm_one_are_not_made_of_new_rows_alone() -> None:
    init = parse_init("unit_norm:dim=1")

    with pytest.raises(UndefinedError, match="with dim=1 its vectors have old rows"):
        init.law((3, 40), Site("embed.weight", kept_rows=50))
    assert init.law((3, 40), Site("embed.weight")) is not None


# --- spectral norms ------------------------------------------------------------------------------


@STREAMS
@pytest.mark.parametrize(
    ("text", "shape", "norm"),
    [
        ("spectral", (64, 16), 2.0),  # √(out / in)
        ("spectral", (300, 300), 1.0),
        ("spectral:2", (16, 64), 1.0),
        ("spectral", (64, 4, 2, 2), 2.0),
        ("spectral:axes=io", (64, 16), 0.5),
        ("spectral:norm=3", (50, 7), 3.0),
        ("spectral", (1, 9), 1 / 3),
    ],
)
def test_the_largest_singular_value_is_what_it_should_be(
    text: str, shape: tuple[int, ...], norm: float, stream: str
) -> None:
    drawn = torch.from_numpy(_drawn(text, shape, stream)).double().flatten(1)

    assert torch.linalg.matrix_norm(drawn, 2).item() == pytest.approx(norm, rel=2e-7)


def test_each_expert_has_the_spectral_norm() -> None:
    drawn = torch.from_numpy(_drawn("spectral:axes=bio", (5, 64, 16))).double()

    norms = torch.linalg.matrix_norm(drawn, 2)

    torch.testing.assert_close(norms, torch.full_like(norms, 0.5), rtol=2e-7, atol=0)


@pytest.mark.parametrize("shape", [(1, 1), (6, 10), (10, 6), (64, 363), (257, 256)], ids=str)
def test_the_spectral_norm_of_a_matrix_is_that_of_lapack(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(2).normal(size=shape)

    assert spectral_norm(matrix) == pytest.approx(np.linalg.svd(matrix)[1][0], rel=1e-13)


@pytest.mark.parametrize(
    ("matrix", "norm"),
    [
        (np.eye(50), 1.0),
        (np.ones((30, 40)), math.sqrt(1200)),
        (np.zeros((3, 4)), 0.0),
        (np.eye(9) - np.ones((9, 9)) / 9, 1.0),  # its columns sum to 0
        (np.diag(np.arange(400.0)), 399.0),
    ],
)
def test_the_spectral_norm_of_a_degenerate_matrix_is_known(matrix: Array, norm: float) -> None:
    assert spectral_norm(matrix) == pytest.approx(norm, rel=1e-13)


# --- bilinear upsampling -------------------------------------------------------------------------


def test_a_kernel_of_four_has_the_published_weights() -> None:
    drawn = _drawn("bilinear", (3, 3, 4, 4))

    row = np.array([0.25, 0.75, 0.75, 0.25])  # those of FCN's surgery
    assert np.array_equal(drawn[1, 1], np.outer(row, row))
    assert np.count_nonzero(drawn) == 3 * 16
    assert _law("bilinear", (3, 3, 4, 4)).mean == pytest.approx(drawn.mean())
    assert _law("bilinear", (3, 3, 4, 4)).std == pytest.approx(drawn.std())


@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (3, 2), (8, 4)])
def test_a_transposed_convolution_interpolates_as_torch_does(
    kernel: int, stride: int, groups: int
) -> None:
    weight = torch.from_numpy(_drawn("bilinear", (6, 6 // groups, kernel, kernel)))
    image = torch.rand(1, 6, 9, 9, generator=torch.Generator().manual_seed(0))
    padding = (kernel - stride) // 2 + (kernel - stride) % 2

    up = torch.nn.functional.conv_transpose2d(
        image, weight, stride=stride, padding=padding, groups=groups
    )

    size = up.shape[-1]
    aligned = kernel % 2 == 1  # an odd kernel puts the old pixels on new ones
    expected = torch.nn.functional.interpolate(
        image, size=(17, 17) if aligned else (9 * stride, 9 * stride), mode="bilinear",
        align_corners=aligned,
    )  # fmt: skip
    inner = slice(stride, size - stride)
    torch.testing.assert_close(up[..., inner, inner], expected[..., inner, inner])


def test_channels_that_do_not_meet_are_refused() -> None:
    with pytest.raises(UndefinedError, match="its 4 inputs are not a multiple of its 3 outputs"):
        parse_init("bilinear").law((4, 3, 2, 2))


# --- LoRA ----------------------------------------------------------------------------------------

A, B = "layers.0.q_proj.lora_A.default.weight", "layers.0.q_proj.lora_B.default.weight"


@STREAMS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_product_of_both_matrices_is_zero(stream: str, dtype: str) -> None:
    """PEFT's init_lora_weights="orthogonal": B·A = 0 though neither of them is zero."""
    shapes = {A: (8, 96), B: (160, 8)}

    a, b = (
        draw(_law("lora_orthogonal", shape, key), shape, dtype, 5, stream=stream).double()
        for key, shape in shapes.items()
    )

    assert (b @ a).abs().max() < (1e-7 if dtype == "float32" else 1e-15)
    for each in (a, b):
        assert torch.linalg.matrix_rank(each, rtol=1e-5).item() == 4
        assert each.std().item() == pytest.approx(0.1 / math.sqrt(2), rel=0.15)
    assert abs(np.corrcoef(a.flatten()[:768], b.flatten()[:768])[0, 1]) < 0.2


def test_both_matrices_are_drawn_from_the_stream_of_a() -> None:
    init = parse_init("lora_orthogonal")

    assert init.drawn_as((160, 8), Site(B)) == init.drawn_as((8, 96), Site(A)) == A
    assert init.drawn_as((8, 4), Site("unet.lora.up.weight")) == "unet.lora.down.weight"


@STREAMS
def test_one_rule_fills_every_pair_of_a_model_with_matrices_of_its_own(stream: str) -> None:
    other = A.replace("q_proj", "v_proj"), B.replace("q_proj", "v_proj")
    state = {key: torch.ones(8, 96) for key in (A, other[0])}
    state |= {key: torch.ones(160, 8) for key in (B, other[1])}

    plan = apply_(state, {"*.lora_*": "lora_orthogonal"}, stream=stream)

    assert [step.stream_key for step in plan.steps] == ["", "", A, other[0]]
    for a, b in ((A, B), other):
        assert (state[b].double() @ state[a].double()).abs().max() < 1e-7
    assert (state[B] @ state[other[0]]).abs().max() > 0.01
    assert not state[A].equal(state[other[0]])


def test_a_part_of_a_normalized_draw_is_that_of_the_whole() -> None:
    state = {"w": torch.zeros(300, 40), "rows": torch.zeros(300, 40)}

    apply_(state, ["w[:, 3:9]=unit_norm:dim=1", "rows[7:9]=unit_norm"])

    assert torch.allclose(state["w"][:, 3:9].norm(dim=0), torch.ones(6), rtol=1e-6)
    assert torch.allclose(state["rows"][7:9].norm(dim=1), torch.ones(2), rtol=1e-6)
    assert state["w"].count_nonzero() == 6 * 300
    assert state["rows"].count_nonzero() == 2 * 40


@pytest.mark.parametrize(
    ("shape", "key", "problem"),
    [
        ((7, 96), A, "its rank, 7, is odd"),
        ((8, 96), "q_proj.weight", "its key has neither lora_A nor lora_B"),
        ((16, 8, 3, 3), B, "its kernel has more than one element"),
        ((8,), A, "1-D"),
    ],
)
def test_what_is_no_half_of_an_adapter_is_refused(
    shape: tuple[int, ...], key: str, problem: str
) -> None:
    with pytest.raises(UndefinedError, match=problem):
        parse_init("lora_orthogonal").law(shape, Site(key))
