"""What allennlp's tests ask of its initializers, of rules on the same modules."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from reinit_cli import ReinitError, apply_
from tests.initializers.made import made


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear_1_with_funky_name = nn.Linear(5, 10)
        self.linear_2 = nn.Linear(10, 5)
        self.conv = nn.Conv1d(5, 5, 5)


def values(module: nn.Module) -> dict[str, list[float]]:
    return {key: value.unique().tolist() for key, value in module.state_dict().items()}


def test_regular_expressions_choose_the_tensors() -> None:
    net = Net()

    apply_(net, {"re:conv.*": "constant:5", "re:.*funky_na.*bias": "constant:7"})

    found = values(net)
    assert found["conv.weight"] == found["conv.bias"] == [5]
    assert found["linear_1_with_funky_name.bias"] == [7]
    assert len(found["linear_1_with_funky_name.weight"]) > 1


def test_a_later_rule_prevents_an_earlier_one() -> None:
    net = Net()
    before = {key: value.clone() for key, value in net.state_dict().items()}

    apply_(net, {"*.weight": "constant:10", "linear_2.weight": "keep"})

    assert values(net)["conv.weight"] == [10]
    assert net.linear_2.weight.equal(before["linear_2.weight"])


def test_an_expression_that_matches_nothing_is_refused() -> None:
    with pytest.raises(ReinitError, match="matches no key"):
        apply_(Net(), {"re:nonsense.*": "zeros"})


@pytest.mark.parametrize("axis", [0, 1])
def test_each_block_of_a_block_orthogonal_matrix_is_orthogonal(axis: int) -> None:
    weight = made(f"block:2,orthogonal,axis={axis}", (10, 6), 1, torch.float64)

    for part in weight.chunk(2, dim=axis):
        gram = part @ part.T if part.shape[0] <= part.shape[1] else part.T @ part
        torch.testing.assert_close(gram, torch.eye(min(part.shape), dtype=torch.float64))


def test_blocks_that_do_not_divide_a_side_are_refused() -> None:
    with pytest.raises(ReinitError, match="its dimension 0, 10, is not a multiple of 3"):
        made("block:3,orthogonal", (10, 6))


@pytest.mark.parametrize(("gain", "scaled"), [("linear", 1.0), ("relu", math.sqrt(2))])
def test_uniform_unit_scaling_stays_within_its_bound(gain: str, scaled: float) -> None:
    """Its bound is √(3 / fan_in) times the gain, where fan_in is the first of two dimensions."""
    weight = made(f"kaiming_uniform:nonlinearity={gain},axes=io", (10, 600), 1, torch.float64)

    bound = scaled * math.sqrt(3 / 10)
    assert 0.99 * bound < weight.max().item() < bound
    assert -bound < weight.min().item() < -0.99 * bound


def test_the_forget_gates_of_an_lstm_start_open() -> None:
    lstm = nn.LSTM(4, 3, bidirectional=True)

    apply_(lstm, {"bias_*": "zeros", "bias_hh_*[1/4]": "ones"})

    for name in ("bias_hh_l0", "bias_hh_l0_reverse"):
        assert getattr(lstm, name).tolist() == [0] * 3 + [1] * 3 + [0] * 6
    assert not lstm.bias_ih_l0.any()


class TestPretrained:
    """A tensor that is taken from another file."""

    @pytest.fixture
    def other(self, tmp_path: Path) -> dict[str, torch.Tensor]:
        tensors = {"a.weight": torch.arange(50.0).view(10, 5), "a.bias": torch.arange(10.0)}
        save_file(tensors, tmp_path / "other.safetensors")
        return tensors

    def test_it_is_copied_by_the_name_that_it_has_there(
        self, other: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        net = Net()
        file = tmp_path / "other.safetensors"

        apply_(
            net, [f"linear_1_with_funky_name.*=rewind:{file},from=linear_1_with_funky_name.*=a.*"]
        )

        assert net.linear_1_with_funky_name.weight.equal(other["a.weight"])
        assert net.linear_1_with_funky_name.bias.equal(other["a.bias"])

    @pytest.mark.usefixtures("other")
    @pytest.mark.parametrize(
        ("rule", "problem"),
        [
            ("linear_2.weight=rewind:{file},from=a.weight", "its shape is 10x5"),
            ("linear_2.weight=rewind:{file},from=b.weight", "has no key 'b.weight'"),
        ],
    )
    def test_another_shape_or_a_missing_name_is_refused(
        self, tmp_path: Path, rule: str, problem: str
    ) -> None:
        with pytest.raises(ReinitError, match=problem):
            apply_(Net(), [rule.format(file=tmp_path / "other.safetensors")])
