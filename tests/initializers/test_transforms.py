"""Transforms change existing values."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import apply_, rewrite, seed_for
from reinit_cli.errors import ArgumentError, RuleError, TensorError, UnfillableError
from reinit_cli.initializers import parse_init


def _weights(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.empty(shape).normal_(0.25, 2, generator=generator).to(dtype)


def _applied(weights: torch.Tensor, init: str, seed: int = 0, **options: Any) -> torch.Tensor:
    state = {"w": weights.clone()}
    apply_(state, [f"w={init}"], seed=seed, **options)
    return state["w"]


def _generator(name: str, seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed_for(seed, "w", name))


def _normal(name: str, shape: tuple[int, ...], std: float) -> torch.Tensor:
    return torch.empty(shape).normal_(0, std, generator=_generator(name))


REFERENCES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "scale:0.5": lambda w: w * 0.5,
    "noise:std=0.01": lambda w: w + _normal("noise", w.shape, 0.01),
    "shrink_perturb:0.4,0.01": lambda w: w * 0.4 + _normal("shrink_perturb", w.shape, 0.01),
    "shuffle": lambda w: w.flatten()[
        torch.randperm(w.numel(), generator=_generator("shuffle"))
    ].view(w.shape),
    "clamp:min=-1,max=0.5": lambda w: w.clamp(-1, 0.5),
    "clamp:max=0": lambda w: w.clamp(max=0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(7,), (30, 50), (1100, 700)], ids=str)
@pytest.mark.parametrize("init", REFERENCES)
def test_it_is_three_lines_of_torch(init: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if dtype == torch.float64 and ("noise" in init or "perturb" in init):
        pytest.skip("its noise is drawn in float64")
    there = _weights(*shape, dtype=dtype)
    in_float = there if dtype == torch.float64 else there.float()

    expected = REFERENCES[init](in_float).to(dtype)

    assert torch.equal(_applied(there, init, stream="torch"), expected)


@pytest.mark.parametrize(
    "init", [*REFERENCES, "noise:relative=0.1", "resample", "resample:uniform"]
)
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "in a torch file"])
def test_a_file_gets_what_a_tensor_in_memory_gets(init: str, layout: str, tmp_path: Path) -> None:
    there = _weights(900, 600)
    expected = _applied(there, init)
    if layout == "contiguous":
        save_file({"w": there}, tmp_path / "m.safetensors")
        rewrite(str(tmp_path / "m.safetensors"), [f"w={init}"], str(tmp_path / "out.safetensors"))
        got = load_file(tmp_path / "out.safetensors")["w"]
    else:
        stored = there.t().contiguous().t() if layout == "transposed" else there
        torch.save({"w": stored}, tmp_path / "m.pt")
        rewrite(str(tmp_path / "m.pt"), [f"w={init}"], str(tmp_path / "out.pt"))
        got = torch.load(tmp_path / "out.pt")["w"]
        assert got.stride() == stored.stride()

    if "relative" in init or "resample" in init:  # measured in blocks of another size
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
    else:
        assert torch.equal(got, expected)


def test_noise_on_top_of_a_normal_of_the_same_seed_is_uncorrelated_with_it() -> None:
    weights = torch.empty(400, 500)
    apply_({"w": weights}, ["w=normal"], seed=3)
    noisy = _applied(weights, "noise:std=1", seed=3)

    correlation = torch.corrcoef(torch.stack([weights.flatten(), (noisy - weights).flatten()]))

    assert abs(correlation[0, 1].item()) < 5 / math.sqrt(weights.numel())


def test_relative_noise_is_in_units_of_the_tensors_own_std() -> None:
    there = _weights(300, 400) * 0.03

    noise = _applied(there, "noise:relative=0.1") - there

    assert noise.std().item() == pytest.approx(0.1 * there.std().item(), rel=0.02)


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_resampled_values_have_the_mean_and_std_of_those_before(distribution: str) -> None:
    there = _weights(300, 400)

    drawn = _applied(there, f"resample:{distribution}")

    error = there.std().item() / math.sqrt(there.numel())
    assert drawn.mean().item() == pytest.approx(there.mean().item(), abs=5 * error)
    assert drawn.std().item() == pytest.approx(there.std().item(), abs=5 * error)
    assert abs(torch.corrcoef(torch.stack([there.flatten(), drawn.flatten()]))[0, 1]) < 0.02
    widest = (drawn - there.mean()).abs().max() / there.std()
    assert (widest < math.sqrt(3) + 0.02) == (distribution == "uniform")


@pytest.mark.parametrize(
    "dtype",
    [torch.float8_e4m3fn, torch.bfloat16, torch.int8, torch.int64, torch.bool, torch.complex64],
    ids=str,
)
def test_a_shuffle_keeps_every_value_of_every_dtype_bit_by_bit(dtype: torch.dtype) -> None:
    there = (_weights(50, 40) * 20).round().clamp(min=0).to(dtype)

    shuffled = _applied(there, "shuffle")

    as_bits = torch.uint8 if dtype.itemsize == 1 else None
    before, after = (
        sorted(each.contiguous().view(as_bits or dtype).flatten().tolist(), key=str)
        for each in (there, shuffled)
    )
    assert before == after
    assert not torch.equal(there.view(torch.uint8), shuffled.view(torch.uint8))


def test_integers_beyond_every_float_are_shuffled_unharmed() -> None:
    there = torch.arange(2**62, 2**62 + 50)

    assert sorted(_applied(there, "shuffle").tolist()) == there.tolist()


@pytest.mark.parametrize("init", ["normal:std=1", "scale:3", "xavier_uniform", "noise:std=1"])
def test_kept_zeros_stay_zero_and_the_rest_is_as_without(init: str) -> None:
    there = _weights(60, 50)
    there[there.abs() < 1] = 0
    comma = "," if ":" in init else ":"

    kept = _applied(there, f"{init}{comma}keep_zeros=true")
    whole = _applied(there, init)

    assert torch.equal(kept, whole * (there != 0))


# --- another checkpoint ----------------------------------------------------------------------


@pytest.fixture
def early(tmp_path: Path) -> Path:
    path = tmp_path / "step0.pt"
    torch.save({"state_dict": {"w": torch.ones(3, 4), "b": torch.full((3,), 2.0)}}, path)
    return path


def test_a_rewound_tensor_is_that_of_the_other_checkpoint(early: Path, tmp_path: Path) -> None:
    path = tmp_path / "late.safetensors"
    save_file({"w": torch.zeros(3, 4), "b": torch.zeros(3), "new": torch.zeros(2)}, path)

    done = rewrite(str(path), [f"*=rewind:{early}"], str(tmp_path / "out.safetensors"))

    got = load_file(tmp_path / "out.safetensors")
    assert torch.equal(got["w"], torch.ones(3, 4))
    assert torch.equal(got["b"], torch.full((3,), 2.0))
    assert torch.equal(got["new"], torch.zeros(2))
    (skipped,) = [step for step in done.job.plan.steps if step.action == "skip"]
    assert (skipped.key, skipped.reason) == ("new", f"{str(early)!r} has no such key")


def test_a_wildcard_rewinds_running_statistics_and_counters_too(tmp_path: Path) -> None:
    early = {"bn.running_var": torch.full((3,), 0.5), "bn.num_batches_tracked": torch.tensor(9)}
    save_file(early, tmp_path / "early.safetensors")
    state = {"bn.running_var": torch.ones(3), "bn.num_batches_tracked": torch.tensor(70)}

    apply_(state, [f"*=rewind:{tmp_path / 'early.safetensors'}"])

    assert state["bn.running_var"].tolist() == [0.5] * 3
    assert state["bn.num_batches_tracked"].item() == 9


def test_a_lottery_ticket_is_the_early_weights_under_the_late_mask(early: Path) -> None:
    state = {"w": torch.tensor([[0.0, 1, 0, 1]] * 3)}

    apply_(state, [f"w=rewind:{early},keep_zeros=true"])

    assert torch.equal(state["w"], torch.tensor([[0.0, 1, 0, 1]] * 3))


def test_not_a_number_is_rewound_bit_by_bit(tmp_path: Path) -> None:
    bits = torch.tensor([0x7FC1, 0x7F81, -1, 0x0001], dtype=torch.int16).view(torch.bfloat16)
    save_file({"w": bits}, tmp_path / "early.safetensors")
    save_file({"w": torch.zeros(4, dtype=torch.bfloat16)}, tmp_path / "late.safetensors")

    rewrite(
        str(tmp_path / "late.safetensors"),
        [f"w=rewind:{tmp_path / 'early.safetensors'}"],
        str(tmp_path / "out.safetensors"),
    )

    got = load_file(tmp_path / "out.safetensors")["w"]
    assert torch.equal(got.view(torch.int16), bits.view(torch.int16))


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.zeros(4, 3), "its shape is 3x4"),
        (torch.zeros(3, 4, dtype=torch.int32), "it is float32, not int32"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    tensor: torch.Tensor, reason: str, early: Path
) -> None:
    with pytest.raises(UnfillableError, match=reason):
        apply_({"w": tensor}, [f"w=rewind:{early}"])


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("init", "problem"),
    [
        ("scale", "factor is missing"),
        ("noise", "it takes either std or relative"),
        ("noise:std=1,relative=1", "it takes either std or relative"),
        ("noise:0.1", "0.1 alone is ambiguous"),
        ("clamp", "it takes min, max or both"),
        ("clamp:min=2,max=1", "min=2 is above max=1"),
        ("resample:gamma", "unknown argument 'gamma'"),
        ("rewind", "checkpoint is missing"),
        ("shuffle:keep_zeros=maybe", "keep_zeros must be true or false"),
    ],
)
def test_wrong_arguments_are_refused(init: str, problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem):
        parse_init(init)


def test_a_tensor_with_nan_is_not_resampled_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"w": torch.tensor([1.0, math.nan])}, path)

    with pytest.raises(TensorError, match="'w' cannot be transformed: its values are"):
        rewrite(str(path), ["w=resample"], str(tmp_path / "out.safetensors"))

    assert sorted(each.name for each in tmp_path.iterdir()) == ["m.safetensors"]


def test_a_donor_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises((RuleError, FileNotFoundError), match=r"no such file: '.*early.pt'"):
        apply_({"w": torch.zeros(1)}, [f"w=rewind:{tmp_path / 'early.pt'}"])
