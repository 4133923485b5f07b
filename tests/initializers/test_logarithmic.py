"""Log-uniform values and Mamba's starts are those of their sources, rounded once, on every machine."""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pytest
import torch
from scipy import stats

from reinit_cli.errors import ArgumentError
from reinit_cli.initializers import Array, Law, UndefinedError, parse_init
from reinit_cli.initializers.elementary import exponential, logarithm, softplus_inverted
from reinit_cli.streams.philox.stream import PhiloxStream
from reinit_cli.streams.torch.stream import TorchStream
from tests.draws import draw
from tests.streams import slow_philox

PHILOX = PhiloxStream()
KEY = PHILOX.seed_for(0, "mixer.dt_proj.bias")


@pytest.fixture(autouse=True)
def _fifty_digits() -> object:
    with decimal.localcontext(prec=50):
        yield


def _law(text: str, shape: tuple[int, ...]) -> Law:
    law = parse_init(text).law(shape)
    assert law is not None
    return law


def _filled(text: str, shape: tuple[int, ...], dtype: str = "float32") -> Array:
    values = np.empty(shape, dtype)
    _law(text, shape).fill(values, PHILOX.chance(KEY, "cpu"))
    return values


def _inverse_softplus(y: Decimal) -> Decimal:
    return (y.exp() - 1).ln()


# --- elementary functions ------------------------------------------------------------------------

FUNCTIONS: dict[
    str, tuple[Callable[[Array], Array], Callable[[Decimal], Decimal], float, float]
] = {
    "exp": (exponential, Decimal.exp, -700.0, 700.0),
    "exp near 0": (exponential, Decimal.exp, -1.0, 1.0),
    "ln": (logarithm, Decimal.ln, 1e-12, 1e6),
    "inverse softplus": (softplus_inverted, _inverse_softplus, 1e-12, 800.0),
    "inverse softplus near 0": (softplus_inverted, _inverse_softplus, 1e-9, 1e-3),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementary_functions_have_the_digits_of_decimals(name: str) -> None:
    function, exact, low, high = FUNCTIONS[name]
    x = np.random.default_rng(1).uniform(low, high, 500)

    found = function(x.copy()).tolist()

    for each, got in zip(x.tolist(), found, strict=True):
        expected = exact(Decimal(each))
        assert abs(Decimal(got) - expected) <= 4 * Decimal(math.ulp(float(expected) or 1.0)) + (
            Decimal(2) ** -53 if "softplus" in name else 0
        )


# --- log-uniform ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [(0.001, 0.1), (1e-30, 1e30), (3.0, 3.5)])
def test_log_uniform_is_the_power_of_its_uniform_number_rounded_once(a: float, b: float) -> None:
    drawn = _filled(f"log_uniform:{a},{b}", (200,))

    for at, value in enumerate(drawn):
        share = Decimal(slow_philox.uniform(KEY, at, 0.0, 1.0))
        exact = Decimal(a) * ((Decimal(b) / Decimal(a)).ln() * share).exp()
        half = Decimal(float(np.spacing(value))) / 2
        assert abs(Decimal(float(value)) - exact) <= half + exact * Decimal("1e-13")


def test_log_uniform_has_the_moments_and_the_distribution_of_scipy_s() -> None:
    expected = stats.loguniform(0.001, 0.1)
    law = _law("log_uniform:0.001,0.1", (10,))
    drawn = _filled("log_uniform:0.001,0.1", (200_000,), "float64")

    assert law.mean == pytest.approx(0.099 / math.log(100), rel=1e-12)
    assert (law.mean, law.std) == pytest.approx((expected.mean(), expected.std()), rel=1e-9)
    assert law.cdf(0.01) == pytest.approx(0.5)
    assert stats.kstest(drawn, expected.cdf).pvalue > 1e-4


def test_a_narrow_log_uniform_has_the_deviation_of_a_uniform() -> None:
    law = _law(f"log_uniform:1,{1 + 1e-7}", (10,))

    assert law.std == pytest.approx(1e-7 / math.sqrt(12), rel=1e-6)


# --- Mamba ---------------------------------------------------------------------------------------


def _mamba_dt_bias(uniform: torch.Tensor) -> torch.Tensor:
    """The lines of Mamba's own constructor, in float64."""
    dt = torch.exp(uniform * (math.log(0.1) - math.log(0.001)) + math.log(0.001)).clamp(min=1e-4)
    return dt + torch.log(-torch.expm1(-dt))


def test_mamba_dt_is_what_mamba_s_constructor_computes_from_torch_s_numbers() -> None:
    generator = TorchStream().chance(7, "cpu").generator()
    uniform = torch.empty(4096).uniform_(generator=generator)

    drawn = draw(_law("mamba_dt", (4096,)), (4096,), "float32", 7)

    assert torch.equal(drawn, _mamba_dt_bias(uniform.double()).float())
    torch.testing.assert_close(drawn, _mamba_dt_bias(uniform), rtol=1e-6, atol=1e-6)


def test_softplus_of_mamba_dt_is_log_uniform_from_one_thousandth_to_a_tenth() -> None:
    drawn = torch.from_numpy(_filled("mamba_dt", (200_000,), "float64"))

    steps = torch.nn.functional.softplus(drawn).numpy()

    assert 0.001 - 1e-12 < steps.min() < 0.00101
    assert 0.0999 < steps.max() <= 0.1 + 1e-12
    assert stats.kstest(steps, stats.loguniform(0.001, 0.1).cdf).pvalue > 1e-4


def test_steps_below_the_floor_of_mamba_dt_are_the_floor() -> None:
    text = "mamba_dt:dt_min=1e-5,dt_max=1e-3,dt_init_floor=1e-4"
    drawn, law = _filled(text, (20_000,), "float64"), _law(text, (20_000,))

    at_floor = drawn == drawn.min()

    assert drawn.min() == pytest.approx(math.log(math.expm1(1e-4)), rel=1e-14)
    assert at_floor.mean() == pytest.approx(0.5, abs=0.02)  # half of the logarithms
    assert law.cdf(drawn.min()) == pytest.approx(0.5)
    assert (drawn.mean(), drawn.std()) == pytest.approx((law.mean, law.std), rel=0.02)


def test_a_floor_above_everything_leaves_one_value() -> None:
    assert np.unique(_filled("mamba_dt:floor=0.5", (50,))).tolist() == [
        np.float32(math.log(math.expm1(0.5)))
    ]


def test_mamba_a_is_the_logarithm_of_one_to_the_number_of_states() -> None:
    expected = torch.log(torch.arange(1.0, 17.0, dtype=torch.float64)).float().expand(8, 16)
    law = _law("mamba_a", (8, 16))

    assert np.array_equal(_filled("mamba_a", (8, 16)), expected.numpy())
    assert draw(law, (8, 16), "float32", 0).equal(expected)
    assert not law.is_random
    assert (law.mean, law.high) == pytest.approx((math.log(math.factorial(16)) / 16, math.log(16)))
    assert law.std == pytest.approx(float(np.log(np.arange(1, 17)).std()))


def test_mamba_2_has_the_logarithm_of_a_uniform_number_for_each_head() -> None:
    drawn = _filled("mamba_a", (100_000,), "float64")
    law = _law("mamba_a", (100_000,))

    assert stats.kstest(np.exp(drawn), stats.uniform(1, 15).cdf).pvalue > 1e-4
    assert law.mean == pytest.approx(16 * math.log(16) / 15 - 1)  # ∫ ln u
    assert (drawn.mean(), drawn.std()) == pytest.approx((law.mean, law.std), rel=0.02)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("log_uniform:a=0,b=1", "a must be a number above 0, not '0'"),
        ("log_uniform:a=-1,b=1", "a must be a number above 0"),
        ("log_uniform:a=2,b=1", "a=2 is above b=1"),
        ("log_uniform:a=1e-310,b=1", "a=1e-310 is below 1e-300"),
        ("mamba_dt:a=0.2", "a=0.2 is above b=0.1"),
        ("mamba_a:a=20", "a=20 is above b=16"),
        ("mamba_dt:floor=-1", "floor must be a number of at least 0"),
    ],
)
def test_bounds_without_a_logarithm_are_refused(text: str, problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem.replace("(", r"\(")):
        parse_init(text)


def test_mamba_a_is_not_defined_on_a_convolution() -> None:
    with pytest.raises(UndefinedError, match="needs 1 to 2 dimensions"):
        parse_init("mamba_a").law((4, 1, 4))


def test_the_std_of_large_numbers_is_finite() -> None:
    law = _law("inverse_softplus:a=500,b=1e300", (3,))

    # That of a log-uniform number, as the two are the same from 500 on.
    ratio = math.log(1e300 / 500)
    mean = 1e300 / ratio
    assert law.std == pytest.approx(mean * math.sqrt(ratio / 2 - 1), rel=0.05)
