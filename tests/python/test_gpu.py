"""A module on a GPU is filled, written, measured and compared as one in main memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from reinit_cli import apply_, diff, rewrite, stats

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
RULES = {"1.weight": "normal:std=0.02", "1.bias": "zeros", "2.*weight*": "orthogonal"}


class _Network(nn.Module):
    """A network whose recurrent weights share one storage on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 5), nn.Linear(5, 4), nn.LSTM(4, 3)])

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        first, second, last = self.layers
        found: torch.Tensor = last(second(first(values)))[0]
        return found


def _pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    here, there = _Network(), _Network().cuda()
    there.load_state_dict(here.state_dict())
    return here.layers, there.layers  # type: ignore[return-value]


def _equal(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(mine[key].cpu(), theirs[key].cpu()) for key in mine)


def test_a_module_on_a_gpu_gets_the_values_of_one_in_main_memory_and_stays_there() -> None:
    here, there = _pair()

    for layers in (here, there):
        apply_(layers, RULES, seed=3)

    assert _equal(here, there)
    assert all(parameter.is_cuda for parameter in there.parameters())


def test_a_module_on_a_gpu_is_written_measured_and_compared() -> None:
    here, there = _pair()

    for layers, name in ((here, "here.safetensors"), (there, "there.safetensors")):
        rewrite(layers, RULES, name, dtype=torch.bfloat16)

    mine, theirs = load_file("here.safetensors"), load_file("there.safetensors")
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert list(stats(there)) == list(stats(here))
    assert not [each for each in diff(here, there) if each.differs]


@pytest.mark.parametrize("options", [{}, {"fused": True}, {"capturable": True}])
def test_an_optimizer_on_a_gpu_forgets_exactly_what_is_filled(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = _Network().cuda()
    optimizer = torch.optim.Adam(network.parameters(), **options)
    _step(network, optimizer)
    before = {id(each) for each in optimizer.state}

    apply_(network.layers, RULES, optimizer=optimizer, device=torch.device("cuda"))

    second, last = network.layers[1], network.layers[2]
    filled = {
        id(each) for each in (second.weight, second.bias, last.weight_ih_l0, last.weight_hh_l0)
    }
    assert {id(each) for each in optimizer.state} == before - filled
    fresh = _Network().cuda()
    fresh.load_state_dict(network.state_dict())
    its = torch.optim.Adam(fresh.parameters(), **options)
    _step(network, optimizer)
    _step(fresh, its)
    pairs = zip(network.parameters(), fresh.parameters(), strict=True)
    assert all(torch.equal(mine, other) for mine, other in pairs if id(mine) in filled)


def _step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for at, parameter in enumerate(network.parameters()):
        values = torch.linspace(-1, 2, parameter.numel(), device="cuda") * (at + 1)
        parameter.grad = values.reshape(parameter.shape)
    optimizer.step()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize(
    "rule",
    [
        *("normal:std=0.02", "xavier_uniform", "trunc_normal:std=0.1,a=-0.2,b=0.2"),
        *(
            "trunc_normal:a=4,b=5",
            "block:parts=3,inner=normal",
            "orthogonal",
            "sparse:sparsity=0.5",
        ),
    ],
)
def test_a_gpu_changes_no_byte_of_a_file_drawn_from_philox_1(rule: str, dtype: str) -> None:
    kind = getattr(torch, dtype)
    state = {"w": torch.zeros(300, 2001, dtype=kind), "b": torch.zeros(7, 3, dtype=kind)}
    save_file(state, "m.safetensors")

    for device in ("cpu", "cuda"):
        rewrite(
            *("m.safetensors", {"*": rule}, f"{device}.safetensors"),
            seed=16,
            stream="philox",
            device=device,
        )

    assert Path("cuda.safetensors").read_bytes() == Path("cpu.safetensors").read_bytes()
