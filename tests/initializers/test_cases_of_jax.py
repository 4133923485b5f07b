"""What jax's tests ask of `jax.nn.initializers`, of rules: adapted from the cases of nn_test.py.

jax has kernels of (*kernel, in, out), so that its default axes are "kio" here.
"""

from __future__ import annotations

import math

import pytest
import torch

from reinit_cli import ReinitError
from tests.initializers.made import made

CUT = 0.87962566103423978
"""The deviation of a standard normal between -2 and 2, as jax has it."""

SCALED = "variance_scaling"
EVERY = {
    "uniform:0,0.01": (0.01 / math.sqrt(12), None),
    "normal:std=0.01": (0.01, None),
    "trunc_normal:std=0.01,in_std": (0.01 * CUT, 0.02),
    "glorot_truncated": (math.sqrt(2 / 400), 2 * math.sqrt(2 / 400) / CUT),
    "xavier_uniform": (math.sqrt(2 / 400), math.sqrt(6 / 400)),
    "lecun_normal": (math.sqrt(1 / 100), 2 * math.sqrt(1 / 100) / CUT),
    "lecun_uniform": (math.sqrt(1 / 100), math.sqrt(3 / 100)),
    "he_truncated": (math.sqrt(2 / 100), 2 * math.sqrt(2 / 100) / CUT),
    "kaiming_uniform:relu": (math.sqrt(2 / 100), math.sqrt(6 / 100)),
    "orthogonal": (math.sqrt(1 / 300), None),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("init", EVERY)
def test_every_initializer_gives_the_dtype_and_deviation(init: str, dtype: torch.dtype) -> None:
    std, bound = EVERY[init]
    weight = made(init, (300, 100), 2, dtype)

    assert weight.dtype == dtype
    assert weight.double().std().item() == pytest.approx(std, rel=0.02)
    if bound is not None:
        largest = weight.double().abs().max().item()
        assert 0.98 * bound < largest <= bound * (1 + torch.finfo(dtype).eps)


@pytest.mark.parametrize("distribution", ["uniform", "normal", "truncated_normal"])
@pytest.mark.parametrize(
    ("mode", "n"),
    [("fan_in", 40.0), ("fan_out", 90.0), ("fan_avg", 65.0), ("fan_geo_avg", 60.0)],
)
def test_variance_scaling_divides_by_its_mode(mode: str, n: float, distribution: str) -> None:
    weight = made(f"{SCALED}:3,{mode},{distribution}", (90, 40), 1, torch.float64)

    assert weight.var().item() == pytest.approx(3 / n, rel=0.12)
    wide = made(f"{SCALED}:3,{mode},{distribution},fan={int(n)}", (400, 500), 1, torch.float64)
    assert wide.var().item() == pytest.approx(3 / n, rel=0.02)


@pytest.mark.parametrize(
    ("shape", "axes", "fans"),
    [
        ((10, 20, 30, 40), "iioo", (200, 1200)),  # jax's case of several axes
        ((5, 20, 30), "bio", (20, 30)),  # and that of an axis of batches
        ((3, 3, 20, 30), "kkio", (180, 270)),
        ((20, 30), "io", (20, 30)),
    ],
)
def test_axes_say_what_fans_are(shape: tuple[int, ...], axes: str, fans: tuple[int, int]) -> None:
    fan_in, fan_out = fans

    glorot = made(f"glorot_normal:axes={axes}", shape, 3, torch.float64)
    lecun = made(f"lecun_normal:axes={axes}", shape, 3, torch.float64)

    near = 8 / math.sqrt(2 * math.prod(shape))
    assert glorot.std().item() == pytest.approx(math.sqrt(2 / (fan_in + fan_out)), rel=near)
    assert lecun.std().item() == pytest.approx(math.sqrt(1 / fan_in), rel=near)


@pytest.mark.parametrize("shape", [(), (5,)])
def test_variance_scaling_needs_two_dimensions(shape: tuple[int, ...]) -> None:
    with pytest.raises(ReinitError, match="at least 2 dimensions"):
        made(SCALED, shape)


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (6, 6)])
def test_orthogonal_columns_or_rows_are_orthonormal(shape: tuple[int, int]) -> None:
    weight = made("orthogonal:2", shape, 1, torch.float64)

    gram = weight.T @ weight if shape[0] > shape[1] else weight @ weight.T
    torch.testing.assert_close(gram, 4 * torch.eye(min(shape), dtype=torch.float64))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_delta_orthogonal_keeps_the_norm_of_an_image_that_wraps_around(ndim: int) -> None:
    weight = made("delta_orthogonal:1.5", (12, 5, *(3,) * ndim), 1, torch.float64)
    image = torch.randn(
        2, 5, *(6,) * ndim, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )

    wrapped = torch.nn.functional.pad(image, (1,) * 2 * ndim, mode="circular")
    convolved = getattr(torch.nn.functional, f"conv{ndim}d")(wrapped, weight)

    torch.testing.assert_close(convolved.norm(), 1.5 * image.norm())


def test_delta_orthogonal_refuses_more_inputs_than_outputs() -> None:
    with pytest.raises(ReinitError, match="fewer than its 5 inputs"):
        made("delta_orthogonal", (4, 5, 3))


def test_one_key_gives_one_draw_and_another_gives_another() -> None:
    first, again, other = (made("normal", (4, 4), seed) for seed in (0, 0, 1))

    assert first.equal(again)
    assert not first.equal(other)
