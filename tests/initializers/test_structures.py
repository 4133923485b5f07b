"""Structured tensors do in a network what they are for."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch.nn import functional

from reinit_cli import Rule, apply_
from reinit_cli.errors import ArgumentError, UnknownNameError
from reinit_cli.initializers import Fans, Law, Site, UndefinedError, parse_init
from reinit_cli.initializers.law import Normal
from reinit_cli.streams.torch.stream import TorchStream
from tests.draws import draw

# --- helpers ---------------------------------------------------------------------------------


def _law(text: str, shape: tuple[int, ...], key: str = "") -> Law:
    law = parse_init(text).law(shape, Site(key))
    assert law is not None
    return law


def _drawn(text: str, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return draw(_law(text, shape), shape, "float64", seed, "cpu")


def _signal(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _undefined(text: str, shape: tuple[int, ...]) -> str:
    with pytest.raises(UndefinedError) as refused:
        _law(text, shape)
    return str(refused.value)


# --- delta_orthogonal ------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(("outputs", "inputs"), [(6, 6), (9, 4), (1, 1)])
def test_a_delta_orthogonal_convolution_keeps_every_norm(
    outputs: int, inputs: int, ndim: int, kernel: int
) -> None:
    weight = _drawn("delta_orthogonal", (outputs, inputs, *(kernel,) * ndim))
    signal = _signal(2, inputs, *(7,) * ndim)

    padded = functional.pad(signal, (kernel // 2,) * 2 * ndim, mode="circular")
    passed = getattr(functional, f"conv{ndim}d")(padded, weight)

    assert passed.shape[2:] == signal.shape[2:]
    assert torch.allclose(passed.square().sum(1), signal.square().sum(1))


def test_only_the_center_of_a_delta_orthogonal_kernel_is_not_zero() -> None:
    weight = _drawn("delta_orthogonal:tanh", (8, 5, 3, 4))
    center = weight[:, :, 1, 2].clone()
    weight[:, :, 1, 2] = 0

    assert torch.allclose(center.T @ center, 25 / 9 * torch.eye(5, dtype=torch.float64))
    assert not weight.any()


def test_the_center_is_what_orthogonal_draws() -> None:
    weight = _drawn("delta_orthogonal:2", (8, 5, 3), seed=4)

    assert torch.equal(weight[:, :, 1], _drawn("orthogonal:2", (8, 5), seed=4))


def test_a_delta_orthogonal_law_knows_its_moments() -> None:
    law, weight = _law("delta_orthogonal:2", (8, 5, 3)), _drawn("delta_orthogonal:2", (8, 5, 3))

    # 5 columns of norm 2 among 8·5·3 elements
    assert law.mean == 0
    assert law.std == pytest.approx(math.sqrt(5 * 4 / (8 * 5 * 3)))
    assert weight.square().mean().sqrt().item() == pytest.approx(law.std)
    assert (law.low, law.high) == (-2, 2)
    assert law.cdf(0) - law.cdf(-1e-12) == pytest.approx(2 / 3)


def test_fewer_outputs_than_inputs_keep_no_norm() -> None:
    assert _undefined("delta_orthogonal", (4, 5, 3)) == (
        "its 4 outputs are fewer than its 5 inputs, so no norm can be kept"
    )
    assert _undefined("delta_orthogonal", (5, 4)) == ("2-D (needs 3 to 5 dimensions)")


@pytest.mark.parametrize("at", [(0, 0, 0), (3, 2, 2), (2, 1, 1)])
def test_every_change_of_a_delta_orthogonal_kernel_is_a_misfit(at: tuple[int, int, int]) -> None:
    law, weight = _law("delta_orthogonal", (4, 3, 3)), _drawn("delta_orthogonal", (4, 3, 3))
    misfit, allowed = law.misfit(weight.numpy())
    assert misfit <= allowed

    weight[at] += 1e-3
    misfit, allowed = law.misfit(weight.numpy())
    assert misfit > allowed


# --- icnr ------------------------------------------------------------------------------------


@pytest.mark.parametrize("upscale", [1, 2, 3])
@pytest.mark.parametrize("inner", ["kaiming_normal:relu;fan_out", "xavier_uniform", "orthogonal"])
def test_an_icnr_kernel_begins_as_nearest_upsampling(upscale: int, inner: str) -> None:
    shape = (4 * upscale**2, 5, 3, 3)
    weight = _drawn(f"icnr:{upscale},{inner}", shape)
    small = _drawn(inner.replace(";", ","), (4, 5, 3, 3))
    signal = _signal(2, 5, 6, 6)
    assert torch.equal(weight, small.repeat_interleave(upscale**2, 0))

    # Sums of whole numbers are exact, in whatever order they are taken.
    signal, weight, small = ((each * 1024).round() for each in (signal, weight, small))
    shuffled = functional.pixel_shuffle(functional.conv2d(signal, weight), upscale)
    upsampled = functional.interpolate(
        functional.conv2d(signal, small), scale_factor=upscale, mode="nearest"
    )

    assert torch.equal(shuffled, upsampled)


def test_an_icnr_kernel_has_the_fans_and_the_law_of_the_small_one() -> None:
    init = parse_init("icnr:2,kaiming_normal:relu;fan_out")
    small = _law("kaiming_normal:relu,fan_out", (4, 5, 3, 3))
    law = init.law((16, 5, 3, 3))

    assert law is not None
    assert init.fans((16, 5, 3, 3)) == Fans(45, 36)
    assert (law.mean, law.std, law.low, law.high) == (0, small.std, small.low, small.high)
    assert law.cdf(0.1) == small.cdf(0.1)
    # Each row counts once however often it stands, so its mean may stray twice as far.
    assert law.spread == pytest.approx(2 * small.spread)
    assert law.statistics == ("mean", "std")


def test_a_mean_of_repeated_rows_strays_as_far_as_its_spread_says() -> None:
    law = _law("icnr:2,normal", (40, 10))
    means = [_drawn("icnr:2,normal", (40, 10), seed).mean().item() for seed in range(500)]

    assert stats.kstest(means, stats.norm(0, law.spread / math.sqrt(400)).cdf).pvalue > 1e-4


def test_outputs_that_are_not_a_multiple_are_refused() -> None:
    assert _undefined("icnr", (6, 5, 3, 3)) == "its 6 outputs are not a multiple of 2² = 4"
    assert parse_init("icnr").fans((6, 5, 3, 3)) is None


def test_a_row_that_differs_is_a_misfit() -> None:
    law, weight = _law("icnr", (8, 5)), _drawn("icnr", (8, 5))
    assert law.misfit(weight.numpy()) == (0, 0)

    weight[5, 2] += 1e-9
    assert law.misfit(weight.numpy()) == (1, 0)


# --- block -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inner", ["xavier_uniform", "normal:std=0.5", "orthogonal", "trunc_normal"]
)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(9, 6), (48, 33), (3, 3), (6, 3, 5)], ids=str)
def test_blocks_are_drawn_one_after_the_other_as_tensors_of_their_own(
    shape: tuple[int, ...], axis: int, inner: str
) -> None:
    part = (*shape[:axis], shape[axis] // 3, *shape[axis + 1 :])
    law = _law(inner, part)
    chance = TorchStream().chance(7, "cpu")
    parts = [torch.empty(part, dtype=torch.float64) for _ in range(3)]
    for each in parts:
        law.fill(each.numpy(), chance)

    drawn = _drawn(f"block:parts=3,inner={inner},axis={axis}", shape, 7)

    assert torch.equal(drawn, torch.cat(parts, axis))


def test_fused_projections_have_the_law_of_single_ones() -> None:
    init = parse_init("block:3,xavier_uniform")
    law, single = init.law((192, 64)), _law("xavier_uniform", (64, 64))

    assert law == single
    assert init.fans((192, 64)) == Fans(64, 64)
    # The matrix as one is drawn narrower, which is what torch's MultiheadAttention has.
    assert _law("xavier_uniform", (192, 64)).std < single.std


def test_blocks_of_an_elementwise_law_are_one_draw_where_they_end_with_whole_groups() -> None:
    assert _law("block:3,normal", (192, 64)).is_sequential
    assert not _law("block:3,normal", (9, 7)).is_sequential
    assert not _law("block:3,normal,axis=1", (64, 192)).is_sequential


def test_the_gates_of_an_lstm_are_orthogonal_each() -> None:
    drawn = _drawn("block:4,orthogonal", (40, 10))

    for gate in drawn.chunk(4):
        assert torch.allclose(gate @ gate.T, torch.eye(10, dtype=torch.float64))


def test_one_block_that_does_not_fit_is_a_misfit() -> None:
    law, drawn = _law("block:4,orthogonal", (40, 10)), _drawn("block:4,orthogonal", (40, 10))
    misfit, allowed = law.misfit(drawn.numpy())
    assert misfit <= allowed

    drawn[25, 3] += 0.01
    misfit, allowed = law.misfit(drawn.numpy())
    assert misfit > allowed


def test_invalid_parts_are_refused() -> None:
    assert _undefined("block:3", (10, 4)) == "its dimension 0, 10, is not a multiple of 3"
    assert _undefined("block:3,axis=1", (9,)) == "1-D (needs at least 2 dimensions)"
    assert _undefined("block:3", (9,)) == "1-D (fans need at least 2 dimensions)"


def test_what_is_within_another_is_read_as_it_is_alone() -> None:
    assert _law("block:1,kaiming_normal:relu;fan_out", (8, 4)) == _law(
        "kaiming_normal:relu,fan_out", (8, 4)
    )
    assert Rule.of("w", "block", parts=2, inner="normal:std=0.1,mean=1").text == (
        "w=block:parts=2,inner=normal:std=0.1;mean=1,axis=0"
    )
    with pytest.raises(UnknownNameError, match="'foo'"):
        parse_init("block:3,inner=foo")
    with pytest.raises(ArgumentError, match="normal: std must be"):
        parse_init("block:3,inner=normal:std=-1")


@pytest.mark.parametrize(
    ("inner", "why"),
    [
        ("keep", "depends on existing values, which inner cannot"),
        ("scale:2", "depends on existing values, which inner cannot"),
        ("normal:keep_zeros=true", "depends on existing values, which inner cannot"),
        ("icnr", "icnr cannot be within another"),
        ("block:" * 100_000, "block cannot be within another"),
    ],
)
def test_what_cannot_be_within_another_is_refused(inner: str, why: str) -> None:
    with pytest.raises(ArgumentError, match=why):
        parse_init(f"block:parts=2,inner={inner}")


def test_a_law_within_another_sees_its_key() -> None:
    law = _law("block:3,inner=depth_scaled", (192, 64), "h.7.attn.c_attn.weight")

    assert law == Normal(0.0, 0.02 / 4)


def test_a_rule_fills_in_memory_with_the_fans_of_the_parts() -> None:
    state = {"in_proj_weight": torch.zeros(192, 64)}

    plan = apply_(state, ["*=block:parts=3,inner=xavier_uniform"])

    assert plan.steps[0].fans == Fans(64, 64)
    assert state["in_proj_weight"].abs().max().item() <= math.sqrt(6 / 128)
    assert state["in_proj_weight"].std().item() == pytest.approx(math.sqrt(2 / 128), rel=0.03)


KS = {
    "block:3,normal:std=0.3": ((99, 101), 1, stats.norm(0, 0.3)),
    "block:3,uniform:-1;2,axis=1": ((101, 99), 1, stats.uniform(-1, 3)),
    # Of repeated rows only the first are independent.
    "icnr:2,normal:std=0.3": ((80, 101), 4, stats.norm(0, 0.3)),
    "icnr:3,lecun_uniform": ((90, 48), 9, stats.uniform(-0.25, 0.5)),
    "depth_scaled:0.4,layer=1": ((99, 101), 1, stats.norm(0, 0.2)),
}


@pytest.mark.parametrize(("text", "case"), KS.items(), ids=KS)
def test_elements_follow_the_law_of_their_part(
    text: str, case: tuple[tuple[int, ...], int, stats.rv_continuous]
) -> None:
    shape, times, expected = case
    law, drawn = _law(text, shape), _drawn(text, shape, 3)

    assert stats.kstest(drawn[::times].flatten().numpy(), expected.cdf).pvalue > 1e-4
    assert (law.mean, law.std) == pytest.approx((expected.mean(), expected.std()), abs=1e-12)
    assert law.cdf(0.1) == pytest.approx(expected.cdf(0.1))


@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_elements_of_a_delta_orthogonal_center_are_nearly_normal(gain: float) -> None:
    center = _drawn(f"delta_orthogonal:{gain}", (300, 200, 3))[..., 1].flatten().numpy()

    assert stats.kstest(center, stats.norm(0, gain / math.sqrt(300)).cdf).pvalue > 1e-4


# --- a stack of orthogonal matrices ------------------------------------------------------------


@pytest.mark.parametrize("axes", ["bio", "boi"])
def test_every_expert_of_a_stack_is_orthogonal(axes: str) -> None:
    drawn = _drawn(f"orthogonal:axes={axes}", (5, 6, 9))

    for expert in drawn:
        assert torch.allclose(expert @ expert.T, torch.eye(6, dtype=torch.float64))
    assert _law(f"orthogonal:axes={axes}", (5, 6, 9)).std == pytest.approx(1 / 3)
    fan_in, fan_out = (6, 9) if axes == "bio" else (9, 6)
    assert parse_init(f"orthogonal:axes={axes}").fans((5, 6, 9)) == Fans(fan_in, fan_out)


def test_a_kernel_with_its_outputs_last_is_orthogonal() -> None:
    drawn = _drawn("orthogonal:axes=kkio", (3, 3, 4, 10)).view(36, 10)

    assert torch.allclose(drawn.T @ drawn, torch.eye(10, dtype=torch.float64))


def test_a_matrix_whose_elements_are_not_adjacent_is_refused() -> None:
    assert _undefined("orthogonal:axes=iob", (4, 5, 6)) == (
        "axes=iob needs its outputs first or last, behind all b"
    )


# --- identity --------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [0, 1, 2, 3])
def test_an_identity_passes_a_signal_through_times_its_gain(ndim: int) -> None:
    weight = _drawn("identity:gain=2", (5, 5, *(3,) * ndim))
    signal = _signal(4, 5, *(6,) * ndim)

    if ndim:
        passed = getattr(functional, f"conv{ndim}d")(signal, weight, padding=1)
    else:
        passed = functional.linear(signal, weight)

    assert torch.equal(passed, 2 * signal)
    assert _law("identity:gain=2", weight.shape).misfit(weight.numpy()) == (0, 0)
    assert _law("identity", weight.shape).misfit(weight.numpy()) == (5, 0)


def test_the_noise_of_an_identity_is_an_added_normal() -> None:
    shape = (200, 150)
    law, drawn = _law("identity:gain=3,std=0.1", shape), _drawn("identity:gain=3,std=0.1", shape)
    noise = drawn - 3 * torch.eye(*shape, dtype=torch.float64)

    assert stats.kstest(noise.flatten().numpy(), stats.norm(0, 0.1).cdf).pvalue > 1e-4
    share = 150 / (200 * 150)
    assert law.mean == pytest.approx(3 * share)
    assert law.std == pytest.approx(math.sqrt(9 * share * (1 - share) + 0.01))
    # Seven times its noise from either, it has no elements.
    assert law.cdf(2.3) == pytest.approx(1 - share)
    assert law.cdf(-0.7) == pytest.approx(0, abs=1e-9)


def test_an_identity_is_torch_s_eye() -> None:
    assert torch.equal(_drawn("identity", (4, 6)), _drawn("eye", (4, 6)))
    assert torch.equal(_drawn("identity", (4, 6, 3)), _drawn("dirac", (4, 6, 3)))


# --- one number from a key or a probability ------------------------------------------------------


def test_the_prior_bias_is_the_published_one() -> None:
    assert _law("prior_bias", (80,)).mean == pytest.approx(-4.59511985013459, rel=1e-15)
    assert _law("prior_bias:0.5", (80,)).mean == 0
    bias = _drawn("prior_bias:p=0.03", (80,))
    assert torch.allclose(bias.sigmoid(), torch.full_like(bias, 0.03))


@pytest.mark.parametrize("p", ["0", "1", "1.5", "-0.1", "nan"])
def test_a_prior_that_is_not_a_probability_is_refused(p: str) -> None:
    with pytest.raises(ArgumentError):
        parse_init(f"prior_bias:p={p}")


# --- bounds in deviations ------------------------------------------------------------------------


def test_bounds_in_std_count_from_the_mean() -> None:
    law = _law("trunc_normal:mean=1,std=0.02,a=-2,b=3,bounds=in_std", (4,))

    assert law == _law("trunc_normal:mean=1,std=0.02,a=0.96,b=1.06", (4,))
    cut = _law("trunc_normal:std=0.02,bounds=in_std", (4,))
    assert cut.std == pytest.approx(0.02 * 0.87962566103423978, rel=1e-12)
    assert _law("trunc_normal:mean=3,std=0,bounds=in_std", (4,)).mean == 3


def test_bounds_in_std_must_be_in_order() -> None:
    with pytest.raises(ArgumentError, match="a=2 is above b=1"):
        parse_init("trunc_normal:std=0.02,a=2,b=1,bounds=in_std")


def test_draws_within_bounds_in_std_follow_their_law() -> None:
    drawn = _drawn("trunc_normal:0.1,0.02,-1,3,in_std", (200, 100)).flatten().numpy()

    expected = stats.truncnorm(-1, 3, 0.1, 0.02)
    assert stats.kstest(drawn, expected.cdf).pvalue > 1e-4


@pytest.mark.parametrize(
    ("text", "apart"),
    [
        ("trunc_normal:std=0.02", "100"),
        ("trunc_normal:mean=1,std=0.02", "50"),
        ("trunc_normal:std=0.2", None),  # 10 std to either side
        ("trunc_normal:mean=1.9,std=0.02", None),  # near one of them
        ("trunc_normal:std=0.02,bounds=in_std,a=-20,b=20", None),
        ("trunc_normal", None),
        ("trunc_normal:std=0", None),
    ],
)
def test_bounds_that_truncate_nothing_are_reported(text: str, apart: str | None) -> None:
    plan = apply_({"a.weight": torch.zeros(4, 4), "b.weight": torch.zeros(4, 4)}, [f"*={text}"])

    told = (
        f"rule '*={text}' has bounds {apart} std away from the mean, so that nothing is "
        "truncated: a and b are absolute; bounds=in_std counts them in std"
    )
    assert plan.warnings == ((told,) if apart else ())
