"""Laws over many shapes: moments to five standard errors, identities to the bit."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from reinit_cli.initializers import Law, fans, parse_init
from tests.draws import draw

SHAPES = [(64, 3, 11, 11), (500, 400), (400, 500), (32, 16, 9), (16, 8, 5, 5, 5)]

CUT = 2 / 0.87962566103423978
"""Where a normal of deviation 1 is cut off that has deviation 1 afterwards, at 2 of its own."""

# text: std and bound, from fan_in and fan_out
FORMULAS = {
    "xavier_uniform": (lambda i, o: math.sqrt(2 / (i + o)), lambda i, o: math.sqrt(6 / (i + o))),
    "xavier_normal": (lambda i, o: math.sqrt(2 / (i + o)), None),
    "xavier_normal:tanh": (lambda i, o: 5 / 3 * math.sqrt(2 / (i + o)), None),
    "kaiming_uniform": (lambda i, _: math.sqrt(2 / i), lambda i, _: math.sqrt(6 / i)),
    "kaiming_uniform:relu,fan_out": (
        lambda _, o: math.sqrt(2 / o),
        lambda _, o: math.sqrt(6 / o),
    ),
    "kaiming_normal:linear": (lambda i, _: 1 / math.sqrt(i), None),
    "kaiming_normal:fan_out": (lambda _, o: math.sqrt(2 / o), None),
    f"kaiming_uniform:a={math.sqrt(5)}": (
        lambda i, _: 1 / math.sqrt(3 * i),
        lambda i, _: 1 / math.sqrt(i),
    ),
    "kaiming_normal:nonlinearity=1.7": (lambda i, _: 1.7 / math.sqrt(i), None),
    "lecun_normal": (lambda i, _: 1 / math.sqrt(i), lambda i, _: CUT / math.sqrt(i)),
    "lecun_uniform": (lambda i, _: 1 / math.sqrt(i), lambda i, _: math.sqrt(3 / i)),
    "he_truncated": (lambda i, _: math.sqrt(2 / i), lambda i, _: CUT * math.sqrt(2 / i)),
    "glorot_truncated": (
        lambda i, o: math.sqrt(2 / (i + o)),
        lambda i, o: CUT * math.sqrt(2 / (i + o)),
    ),
    "variance_scaling": (lambda i, _: 1 / math.sqrt(i), lambda i, _: CUT / math.sqrt(i)),
    "variance_scaling:0.5,fan_avg,normal": (lambda i, o: math.sqrt(1 / (i + o)), None),
    "variance_scaling:3,fan_out,uniform": (
        lambda _, o: math.sqrt(3 / o),
        lambda _, o: 3 / math.sqrt(o),
    ),
}


def _law(text: str, shape: tuple[int, ...]) -> Law:
    law = parse_init(text).law(shape)
    assert law is not None
    return law


def _drawn(
    text: str, shape: tuple[int, ...], dtype: str = "float32", seed: int = 0
) -> torch.Tensor:
    return draw(_law(text, shape), shape, dtype, seed, "cpu")


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_scaled_law_has_the_published_formula(text: str, shape: tuple[int, ...]) -> None:
    std, bound = FORMULAS[text]
    both = fans(shape)
    law = _law(text, shape)

    assert both.fan_in == shape[1] * math.prod(shape[2:])
    assert both.fan_out == shape[0] * math.prod(shape[2:])
    assert law.mean == 0
    assert law.std == pytest.approx(std(both.fan_in, both.fan_out), rel=1e-12)
    expected = bound(both.fan_in, both.fan_out) if bound else math.inf
    assert (law.low, law.high) == (pytest.approx(-expected), pytest.approx(expected, rel=1e-12))


@pytest.mark.parametrize(
    ("text", "share"),
    [
        # The standard error of a sample's deviation, as a share of σ/√n.
        *((text, 0.4472 if bound else math.sqrt(0.5)) for text, (_, bound) in FORMULAS.items()),
        ("uniform:-0.1,0.3", 0.4472),
        ("normal:mean=1,std=0.02", math.sqrt(0.5)),
        ("trunc_normal", math.sqrt(0.5)),
        ("trunc_normal:std=0.02", math.sqrt(0.5)),
        ("trunc_normal:1,2,0,0.5", 0.4472),
    ],
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_moments_lie_within_five_standard_errors(
    text: str, share: float, shape: tuple[int, ...]
) -> None:
    law = _law(text, shape)
    drawn = _drawn(text, shape).double()
    error = law.std / math.sqrt(drawn.numel())

    assert abs(drawn.mean().item() - law.mean) < 5 * error
    assert abs(drawn.std().item() - law.std) < 5 * share * error
    assert law.low - 1e-7 <= drawn.min().item()
    assert drawn.max().item() <= law.high + 1e-7
    assert drawn.isfinite().all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "text",
    ["uniform:-2,5", "normal:mean=-3,std=4", "trunc_normal:0,1,-1,3", "trunc_normal:5,1,1,4"],
)
@pytest.mark.parametrize("seed", [0, 1, 2**62])
def test_draws_follow_their_law_in_either_precision(text: str, dtype: str, seed: int) -> None:
    law = _law(text, (20_000,))
    numbers = [float(part.rpartition("=")[2]) for part in text.partition(":")[2].split(",")]
    if text.startswith("uniform"):
        expected = stats.uniform(numbers[0], numbers[1] - numbers[0])
    elif text.startswith("normal"):
        expected = stats.norm(*numbers)
    else:
        mean, std, low, high = numbers
        expected = stats.truncnorm((low - mean) / std, (high - mean) / std, mean, std)

    drawn = draw(law, (20_000,), dtype, seed, "cpu").double().numpy()

    assert stats.kstest(drawn, expected.cdf).pvalue > 1e-4


def test_elements_do_not_depend_on_their_neighbors() -> None:
    drawn = _drawn("normal", (400, 500)).double().flatten()

    for lag in (1, 2, 16, 500):
        correlation = (drawn[:-lag] * drawn[lag:]).mean().item()
        assert abs(correlation) < 5 / math.sqrt(drawn.numel()), lag


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 2e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("gain", ["1", "tanh", "-2", "0.001"])
@pytest.mark.parametrize(
    "shape",
    [(40, 40), (1, 7), (7, 1), (90, 30), (30, 90), (64, 3, 5, 5), (4, 3, 2, 2, 2), (16, 8, 1)],
    ids=str,
)
def test_an_orthogonal_tensor_is_orthogonal_in_either_precision(
    shape: tuple[int, ...], gain: str, dtype: str, atol: float
) -> None:
    scale = 5 / 3 if gain == "tanh" else float(gain)
    drawn = _drawn(f"orthogonal:{gain}", shape, dtype).double().flatten(1)
    rows, cols = drawn.shape
    product = drawn @ drawn.T if rows <= cols else drawn.T @ drawn

    expected = scale**2 * torch.eye(min(rows, cols), dtype=torch.float64)
    assert torch.allclose(product, expected, rtol=0, atol=atol * scale**2)
    assert drawn.norm().item() == pytest.approx(abs(scale) * math.sqrt(min(rows, cols)), rel=atol)


def test_orthogonal_matrices_are_uniform_over_the_group() -> None:
    """The trace of a uniform one has mean 0 and variance 1; a QR left alone has neither."""
    traces = [_drawn("orthogonal", (5, 5), "float64", seed).trace().item() for seed in range(2000)]
    mean = sum(traces) / len(traces)
    variance = sum(trace**2 for trace in traces) / len(traces)

    assert abs(mean) < 5 / math.sqrt(len(traces))
    # The fourth moment of the trace is 3, so its square has variance 2.
    assert abs(variance - 1) < 5 * math.sqrt(2 / len(traces))


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (3, 6), (6, 3)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_eye_passes_a_signal_through(shape: tuple[int, ...], dtype: str) -> None:
    drawn = _drawn("eye", shape, dtype)
    law = _law("eye", shape)

    assert torch.equal(drawn, torch.eye(*shape, dtype=drawn.dtype))
    assert law.mean == pytest.approx(drawn.double().mean().item())
    assert law.std == pytest.approx(drawn.double().std(correction=0).item())


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(("outputs", "inputs", "groups"), [(4, 6, 1), (6, 4, 1), (8, 2, 4)])
def test_dirac_keeps_as_many_channels_as_there_are(
    ndim: int, outputs: int, inputs: int, groups: int
) -> None:
    shape = (outputs, inputs, *(5,) * ndim)
    weight = _drawn(f"dirac:groups={groups}", shape)
    law = _law(f"dirac:groups={groups}", shape)
    signal = torch.randn(
        2, inputs * groups, *(6,) * ndim, generator=torch.Generator().manual_seed(0)
    )

    passed = getattr(torch.nn.functional, f"conv{ndim}d")(signal, weight, padding=2, groups=groups)

    share, kept = outputs // groups, min(outputs // groups, inputs)
    for group in range(groups):
        out = passed[:, group * share : (group + 1) * share]
        assert torch.equal(out[:, :kept], signal[:, group * inputs : group * inputs + kept])
        assert not out[:, kept:].any()
    assert law.mean == pytest.approx(weight.double().mean().item())
    assert law.std == pytest.approx(weight.double().std(correction=0).item())


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("rows", [1, 7, 40])
def test_a_sparse_column_has_as_many_zeros_as_asked_rounded_up(rows: int, sparsity: float) -> None:
    drawn = _drawn(f"sparse:{sparsity}", (rows, 13))

    assert (drawn == 0).sum(0).tolist() == [math.ceil(sparsity * rows)] * 13


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "cols", "sparsity"), [(20, 7, 0.3), (7, 20, 0.9), (33, 1, 0.0)])
def test_sparse_is_one_generator_s_normals_and_permutations(
    rows: int, cols: int, sparsity: float, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(5)
    expected = torch.empty(rows, cols, dtype=dtype).normal_(0, 0.5, generator=generator)
    for column in range(cols):
        zeros = torch.randperm(rows, generator=generator)[: math.ceil(sparsity * rows)]
        expected[zeros, column] = 0

    name = str(dtype).removeprefix("torch.")
    assert torch.equal(_drawn(f"sparse:{sparsity},std=0.5", (rows, cols), name, 5), expected)


def test_the_rest_of_a_sparse_matrix_is_normal_and_its_zeros_lie_anywhere() -> None:
    drawn = _drawn("sparse:0.5,std=0.2", (100, 200)).double()
    zeros = (drawn == 0).sum(1).double()

    assert stats.kstest(drawn[drawn != 0].numpy(), stats.norm(0, 0.2).cdf).pvalue > 1e-4
    # Each of 200 columns sets a row to 0 with odds of one half.
    assert ((zeros - 100).abs() < 5 * math.sqrt(200 / 4)).all()
