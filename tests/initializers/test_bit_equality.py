"""The values are torch's own, bit for bit, under the seeds that the README shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reinit_cli.initializers import NOWHERE, Elsewhere, Site, parse_init
from reinit_cli.streams.stream import seed_for
from reinit_cli.tensors.device import one_thread
from tests.draws import draw
from tests.tools import needs_torch

CONV = (64, 3, 11, 11)
MATRIX = (37, 53)
TALL = (53, 37)
VECTOR = (40,)

NONLINEARITIES: list[tuple[str, float | None]] = [
    ("linear", None),
    ("conv2d", None),
    ("conv_transpose3d", None),
    ("sigmoid", None),
    ("tanh", None),
    ("relu", None),
    ("selu", None),
    ("leaky_relu", 0.2),
    ("leaky_relu", 0.01),
]

Reference = Callable[[torch.Tensor, torch.Generator], Any]


def _cases() -> Iterator[tuple[str, tuple[int, ...], Reference]]:
    def call(name: str, **arguments: Any) -> Reference:
        function = getattr(nn.init, name + "_")
        return lambda tensor, generator: function(tensor, generator=generator, **arguments)

    def fixed(name: str, **arguments: Any) -> Reference:
        function = getattr(nn.init, name + "_")
        return lambda tensor, _: function(tensor, **arguments)

    for shape in (VECTOR, MATRIX, CONV, ()):
        yield "uniform", shape, call("uniform")
        yield "uniform:-0.1,0.3", shape, call("uniform", a=-0.1, b=0.3)
        yield "normal", shape, call("normal")
        yield "normal:mean=1,std=0.02", shape, call("normal", mean=1.0, std=0.02)
        yield "trunc_normal", shape, call("trunc_normal")
        yield "trunc_normal:std=0.02", shape, call("trunc_normal", std=0.02)
        yield "trunc_normal:0,1,-0.5,0.5", shape, call("trunc_normal", a=-0.5, b=0.5)
        yield "trunc_normal:0,1,0.1,0.4", shape, call("trunc_normal", a=0.1, b=0.4)
        yield "trunc_normal:0,1,1.9,9", shape, call("trunc_normal", a=1.9, b=9.0)
        yield "constant:0.3", shape, fixed("constant", val=0.3)
        yield "zeros", shape, fixed("zeros")
        yield "ones", shape, fixed("ones")
    for shape in (MATRIX, TALL, CONV):
        yield "xavier_uniform", shape, call("xavier_uniform")
        yield "xavier_normal:0.5", shape, call("xavier_normal", gain=0.5)
        for law in ("uniform", "normal"):
            yield f"kaiming_{law}", shape, call(f"kaiming_{law}")
            yield f"kaiming_{law}:a=2.2360679", shape, call(f"kaiming_{law}", a=2.2360679)
            yield f"kaiming_{law}:fan_out", shape, call(f"kaiming_{law}", mode="fan_out")
            for name, slope in NONLINEARITIES:
                gain = nn.init.calculate_gain(name, slope)  # type: ignore[arg-type]
                words = name if slope is None else f"{name},a={slope}"
                yield f"xavier_{law}:{words}", shape, call(f"xavier_{law}", gain=gain)
                yield (
                    f"kaiming_{law}:{words}",
                    shape,
                    call(f"kaiming_{law}", nonlinearity=name, a=slope or 0),
                )
    yield "eye", MATRIX, fixed("eye")
    yield "eye", TALL, fixed("eye")
    for shape in ((8, 4, 3), (4, 8, 2, 5), (6, 3, 3, 3, 3)):
        yield "dirac", shape, fixed("dirac")
        yield "dirac:groups=2", shape, fixed("dirac", groups=2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("text", "shape", "reference"),
    list(_cases()),
    ids=lambda part: str(part) if not callable(part) else "torch",
)
@pytest.mark.filterwarnings("ignore:mean is more than 2 std")
def test_a_draw_is_torch_s(
    text: str, shape: tuple[int, ...], reference: Reference, dtype: str
) -> None:
    if text.startswith("trunc_normal"):
        needs_torch("2.12", "trunc_normal_ redraws what is out of bounds")
    seed = seed_for(11, "features.0.weight")
    law = parse_init(text).law(shape)
    assert law is not None
    expected = torch.empty(shape, dtype=getattr(torch, dtype))

    with one_thread():
        reference(expected, torch.Generator().manual_seed(seed))
        got = draw(law, shape, dtype, seed, "cpu")

    assert torch.equal(got, expected)


OF_TORCH_2_14 = {
    ("trunc_normal", "float32"): "465bc2643e5e9506",
    ("trunc_normal", "float64"): "becbb4dc6af593b3",
    ("trunc_normal:0,1,1.9,9", "float32"): "531d7ee1069acfbb",
    ("trunc_normal:0,1,1.9,9", "float64"): "53c2a056369b13ab",
}
"""SHA-256 of what `nn.init.trunc_normal_` of torch 2.14 gives (300, 257) under seed 7."""


@pytest.mark.filterwarnings("ignore:mean is more than 2 std")
@pytest.mark.parametrize(("text", "dtype"), OF_TORCH_2_14)
def test_a_truncated_normal_is_the_same_whatever_torch_is_installed(text: str, dtype: str) -> None:
    shape = (300, 257)
    law = parse_init(text).law(shape)
    assert law is not None

    drawn = draw(law, shape, dtype, 7, "cpu")

    assert sha256(drawn.numpy().tobytes()).hexdigest()[:16] == OF_TORCH_2_14[text, dtype]


ORTHOGONAL = [(37, 53), (53, 37), (64, 3, 11, 11), (256, 128), (8, 4, 3)]


def _factored_by_numpy(shape: tuple[int, ...], dtype: str, gain: float) -> torch.Tensor:
    """Return what `torch.nn.init.orthogonal_` means, factored by the BLAS of another library."""
    drawn = torch.empty((shape[0], math.prod(shape[1:])), dtype=getattr(torch, dtype))
    drawn.normal_(generator=torch.Generator().manual_seed(11))
    is_wide = drawn.shape[0] < drawn.shape[1]
    q, r = np.linalg.qr((drawn.t() if is_wide else drawn).double().numpy())
    q = q * np.sign(np.diag(r)) * gain
    return torch.from_numpy((q.T if is_wide else q).copy()).reshape(shape)


def _orthogonal(
    shape: tuple[int, ...], dtype: str, gain: float, elsewhere: Elsewhere
) -> torch.Tensor:
    law = parse_init(f"orthogonal:gain={gain}").law(shape, Site(elsewhere=elsewhere))
    assert law is not None
    with one_thread():
        return draw(law, shape, dtype, 11, "cpu")


@pytest.mark.parametrize("gain", [1.0, -2.0, 5 / 3])
@pytest.mark.parametrize("shape", ORTHOGONAL, ids=str)
def test_orthogonal_is_the_float64_factor_of_another_library_rounded_once(
    shape: tuple[int, ...], gain: float
) -> None:
    expected = _factored_by_numpy(shape, "float32", gain)

    assert torch.equal(_orthogonal(shape, "float32", gain, NOWHERE), expected.float())


@pytest.mark.parametrize("shape", ORTHOGONAL, ids=str)
def test_orthogonal_is_near_the_factor_of_another_library_in_float64(
    shape: tuple[int, ...],
) -> None:
    drawn = _orthogonal(shape, "float64", 1.0, NOWHERE)

    assert torch.allclose(drawn, _factored_by_numpy(shape, "float64", 1.0), rtol=0, atol=1e-13)
    matrix = drawn.flatten(1)
    matrix = matrix if matrix.shape[0] < matrix.shape[1] else matrix.t()
    identity = torch.eye(len(matrix), dtype=torch.float64)
    assert torch.allclose(matrix @ matrix.t(), identity, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gain", [1.0, -2.0])
@pytest.mark.parametrize("shape", ORTHOGONAL, ids=str)
def test_the_first_version_of_orthogonal_is_torch_s(
    shape: tuple[int, ...], gain: float, dtype: str
) -> None:
    expected = torch.empty(shape, dtype=getattr(torch, dtype))
    with one_thread():
        nn.init.orthogonal_(expected, gain, torch.Generator().manual_seed(11))

    assert torch.equal(_orthogonal(shape, dtype, gain, Elsewhere(versions={})), expected)


def test_sparse_is_normal_and_then_a_permutation_for_each_column() -> None:
    law = parse_init("sparse:0.3,std=0.5").law((20, 7))
    assert law is not None
    generator = torch.Generator().manual_seed(5)
    expected = torch.empty(20, 7).normal_(0, 0.5, generator=generator)
    for column in range(7):
        expected[torch.randperm(20, generator=generator)[:6], column] = 0

    assert torch.equal(draw(law, (20, 7), "float32", 5, "cpu"), expected)
