"""Optimizers of other libraries start again in the forms in which they are saved.

The classes follow apex and bitsandbytes in what they keep, and when they make it; neither is
needed, and both want a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reinit_cli import plan, rewrite
from reinit_cli.errors import RuleError
from tests.planning.test_optimizers import (
    STEPS,
    TRAINED,
    assert_moves_as_new,
    fresh,
    gradient,
    net_for,
    reset,
    resumed,
    stepped,
    trained,
)

State = dict[str, Any]
BLOCK = 16


class FusedAdam(torch.optim.Optimizer):
    """Keep one step for a group, as apex.optimizers.FusedAdam does."""

    def __init__(self, params: Any, lr: float = 0.01, *, capturable: bool = False) -> None:
        self.capturable = capturable
        super().__init__(params, {"lr": lr, "bias_correction": True, "betas": (0.9, 0.999)})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        del closure
        for group in self.param_groups:
            first = torch.tensor([1], dtype=torch.int) if self.capturable else 1
            group["step"] = group["step"] + 1 if "step" in group else first
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
                _adam(parameter, state["exp_avg"], state["exp_avg_sq"], group, int(group["step"]))


def _adam(
    parameter: torch.Tensor, first: torch.Tensor, second: torch.Tensor, group: State, step: int
) -> None:
    assert parameter.grad is not None
    beta1, beta2 = group["betas"]
    first.lerp_(parameter.grad, 1 - beta1)
    second.lerp_(parameter.grad.square(), 1 - beta2)
    scale = (second / (1 - beta2**step)).sqrt() + 1e-8
    parameter -= group["lr"] / (1 - beta1**step) * first / scale


def _signed() -> torch.Tensor:
    return torch.linspace(-1, 1, 256)


class Adam8bit(torch.optim.Optimizer):
    """Keep codes of eight bits, as bitsandbytes.optim.optimizer.Optimizer2State does."""

    def __init__(self, params: Any, lr: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "betas": (0.9, 0.999), "eps": 1e-8})
        self.maps = (_signed(), torch.linspace(0, 1, 256))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        del closure
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    self._start(state, parameter)
                state["step"] += 1
                moments = [self._read(state, each) for each in "12"]
                _adam(parameter, *moments, group, state["step"])
                for each, values in zip("12", moments, strict=True):
                    self._write(state, each, values)

    def _start(self, state: State, parameter: torch.Tensor) -> None:
        state["step"] = 0
        for each, values in zip("12", self.maps, strict=True):
            state[f"state{each}"] = torch.zeros_like(parameter, dtype=torch.uint8)
            state[f"qmap{each}"] = values
            state[f"absmax{each}"] = torch.zeros(-(-parameter.numel() // BLOCK))

    def _read(self, state: State, each: str) -> torch.Tensor:
        values = state[f"qmap{each}"][state[f"state{each}"].flatten().long()]
        scales = state[f"absmax{each}"].repeat_interleave(BLOCK)[: len(values)]
        return (values * scales).view(state[f"state{each}"].shape)

    def _write(self, state: State, each: str, values: torch.Tensor) -> None:
        flat = values.flatten()
        scales = torch.stack([block.abs().max() for block in flat.split(BLOCK)])
        scaled = flat / scales.clamp(min=1e-30).repeat_interleave(BLOCK)[: len(flat)]
        codes = (scaled[:, None] - state[f"qmap{each}"]).abs().argmin(1)
        state[f"state{each}"] = codes.to(torch.uint8).view(values.shape)
        state[f"absmax{each}"] = scales

    def load_state_dict(self, state_dict: State) -> None:
        """Load it without casts, as bitsandbytes does of what it lists as not castable."""
        copied = {number: dict(slots) for number, slots in state_dict["state"].items()}
        for parameter, number in zip(
            self.param_groups[0]["params"], state_dict["param_groups"][0]["params"], strict=True
        ):
            self.state[parameter] = copied[number]


def test_codes_of_eight_bits_start_as_zeros_and_keep_their_tables(tmp_path: Path) -> None:
    saved = trained("Adam", Adam8bit)

    after = reset(saved, tmp_path)

    assert_moves_as_new("Adam", Adam8bit, saved, after)
    for slots in after["optimizer"]["state"].values():
        assert torch.equal(slots["qmap1"], _signed())
        assert slots["state1"].dtype == torch.uint8


def test_maxima_of_whole_tensors_start_as_zeros_too(tmp_path: Path) -> None:
    saved = trained("Adam", Adam8bit)
    names = ("max1", "max2", "new_max1", "new_max2", "gnorm_vec", "unorm_vec")
    for slots in saved["optimizer"]["state"].values():
        slots |= {name: torch.ones(100 if name == "gnorm_vec" else 1) for name in names}

    after = reset(saved, tmp_path)

    for number, slots in after["optimizer"]["state"].items():
        assert {slots[name].max().item() for name in names} == {0.0 if number in (2, 3) else 1.0}


def test_state_of_twice_the_size_does_not_hide_which_parameter_it_is_of(tmp_path: Path) -> None:
    saved = trained("Adam", Adam8bit)
    for slots in saved["optimizer"]["state"].values():
        slots["state1"] = torch.stack([slots["state1"]] * 2)

    after = reset(saved, tmp_path)

    assert after["optimizer"]["state"][2]["state1"].sum() == 0
    assert after["optimizer"]["state"][0]["state1"].sum() > 0


FUSED: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "a number": FusedAdam,
    "a tensor": lambda params: FusedAdam(params, capturable=True),
}


@pytest.mark.parametrize("form", FUSED)
def test_the_step_of_a_group_is_reset_where_all_of_it_is_filled(form: str, tmp_path: Path) -> None:
    make = FUSED[form]
    saved = trained("Adam", make)

    after = reset(saved, tmp_path, "*=normal:std=0.3")

    got, new = resumed("Adam", make, after), fresh("Adam", make, after)
    for at in range(STEPS):
        assert all(torch.equal(got[at][key], new[at][key]) for key in new[at])


@pytest.mark.parametrize("form", FUSED)
def test_the_step_of_a_group_is_refused_where_some_of_it_is_not(form: str, tmp_path: Path) -> None:
    problem = "its step is one for 4 parameters, of which no rule fills 'body"
    with pytest.raises(RuleError, match=problem):
        reset(trained("Adam", FUSED[form]), tmp_path)


def test_the_steps_of_other_groups_stay(tmp_path: Path) -> None:
    def make(params: Iterable[torch.Tensor]) -> torch.optim.Optimizer:
        listed = list(params)
        return FusedAdam([{"params": listed[:2]}, {"params": listed[2:]}])

    saved = trained("Adam", make)

    after = reset(saved, tmp_path)

    assert [group["step"] for group in after["optimizer"]["param_groups"]] == [TRAINED, 0]
    assert_moves_as_new("Adam", make, saved, after)


# --- a wrapper with copies in 32 bits ------------------------------------------------------------------


class Wrapped:
    """Keep copies in 32 bits of halves, as apex.fp16_utils.FP16_Optimizer does."""

    def __init__(self, net: nn.Module) -> None:
        self.halves = [each for each in net.parameters() if each.dtype == torch.float16]
        floats = [each for each in net.parameters() if each.dtype == torch.float32]
        self.masters = [nn.Parameter(each.detach().float()) for each in self.halves]
        self.optimizer = torch.optim.Adam([*self.masters, *floats], lr=0.01)

    def step(self) -> None:
        for half, master in zip(self.halves, self.masters, strict=True):
            master.grad = None if half.grad is None else half.grad.float()
        self.optimizer.step()
        for half, master in zip(self.halves, self.masters, strict=True):
            half.data.copy_(master.data)

    def state_dict(self) -> State:
        return {
            "loss_scaler": {"cur_scale": 1.0},
            "overflow": False,
            "optimizer_state_dict": self.optimizer.state_dict(),
            "fp32_from_fp16": [self.masters],
        }

    def load_state_dict(self, state: State) -> None:
        self.optimizer.load_state_dict(state["optimizer_state_dict"])
        for mine, saved in zip(self.masters, state["fp32_from_fp16"][0], strict=True):
            mine.data.copy_(saved.data)


def _half_net() -> nn.Module:
    """Return a network of halves, but for its norm."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 4)).half()
    net[1].float()
    return net


def _wrapped_steps(net: nn.Module, wrapped: Wrapped, first: int, count: int) -> list[State]:
    path = []
    for number in range(first, first + count):
        for name, parameter in net.named_parameters():
            parameter.grad = gradient(parameter, name, number).to(parameter.dtype)
        wrapped.step()
        path.append({key: value.clone() for key, value in net.state_dict().items()})
    return path


def test_copies_in_32_bits_follow_what_is_filled(tmp_path: Path) -> None:
    net = _half_net()
    wrapped = Wrapped(net)
    _wrapped_steps(net, wrapped, 0, TRAINED)
    saved = {"model": net.state_dict(), "optimizer": wrapped.state_dict()}

    after = reset(saved, tmp_path, "2.*=normal:std=0.3")

    paths = []
    for state, is_new in ((after, False), (after, True), (saved, False)):
        net = _half_net()
        net.load_state_dict(state["model"])
        wrapped = Wrapped(net)
        if is_new:
            masters = state["optimizer"]["fp32_from_fp16"][0]
            for mine, copy in zip(wrapped.masters, masters, strict=True):
                # What was drawn in 32 bits, and rounded for the model.
                assert torch.equal(mine.half(), copy.half())
                mine.data.copy_(copy.data)
        else:
            wrapped.load_state_dict(state["optimizer"])
        paths.append(_wrapped_steps(net, wrapped, TRAINED, STEPS))
    for got, new, untouched in zip(*paths, strict=True):
        for key, value in got.items():
            assert torch.equal(value, (new if key.startswith("2.") else untouched)[key]), key


def test_copies_that_cannot_be_filled_alike_are_refused(tmp_path: Path) -> None:
    net = _half_net()
    wrapped = Wrapped(net)
    _wrapped_steps(net, wrapped, 0, TRAINED)
    saved = {"model": net.state_dict(), "optimizer": wrapped.state_dict()}
    torch.save(saved, tmp_path / "m.pt")

    with pytest.raises(RuleError, match=r"a copy in 32 bits of '2\.weight', which cannot be"):
        plan(str(tmp_path / "m.pt"), ["2.weight=shuffle"], reset_optimizer=True)


@pytest.mark.parametrize("name", ["fp32_from_fp16_params", "fp32_groups_flat"])
def test_copies_in_32_bits_in_another_form_are_refused_by_name(name: str, tmp_path: Path) -> None:
    saved = trained("Adam", torch.optim.Adam)
    saved["optimizer"] = {"optimizer": saved["optimizer"], name: [[torch.ones(2)]]}

    with pytest.raises(RuleError, match=f"'{name}', would stay"):
        reset(saved, tmp_path)


# --- what nobody knows ---------------------------------------------------------------------------------


def test_state_of_a_group_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    saved = trained("Adam", torch.optim.Adam)
    saved["optimizer"]["param_groups"][0]["norms"] = torch.ones(4)
    torch.save(saved, tmp_path / "m.pt")

    with pytest.raises(RuleError, match="nothing says what its 'norms' of group 0 starts as"):
        rewrite(str(tmp_path / "m.pt"), ["*=zeros"], str(tmp_path / "o.pt"), reset_optimizer=True)


def test_a_learning_rate_that_is_a_tensor_is_not_taken_for_state(tmp_path: Path) -> None:
    saved = trained("Rprop", lambda params: torch.optim.Rprop(params, lr=0.01))
    saved["optimizer"]["param_groups"][0]["lr"] = torch.tensor(0.01)
    for slots in saved["optimizer"]["state"].values():
        slots["step"] = 4  # where a number is left, the rest cannot be left out
    torch.save(saved, tmp_path / "m.pt")

    with pytest.raises(
        RuleError, match=r"its step_size of 'head\.weight' starts as lr, which is a"
    ):
        rewrite(
            str(tmp_path / "m.pt"), ["head.*=zeros"], str(tmp_path / "o.pt"), reset_optimizer=True
        )


def test_stepping_alone_changes_what_is_compared() -> None:
    net = net_for("Adam")

    path = stepped(net, FusedAdam(net.parameters()), 0, 2)

    assert not torch.equal(path[0]["head.weight"], path[1]["head.weight"])
