"""A fan law that reads a weight as another kind of layer has it is warned of, with what helps."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.cli.conftest import Done

_RIGHT = re.compile(r"add the rule '([^']+)'")


def _stack(experts: int, inputs: int, outputs: int) -> dict[str, torch.Tensor]:
    path = "model.layers.0.mlp.experts"
    return {
        f"{path}.gate_up_proj": torch.zeros(experts, inputs, 2 * outputs),
        f"{path}.down_proj": torch.zeros(experts, outputs, inputs),
    }


def _of(name: str, layer: nn.Module) -> dict[str, torch.Tensor]:
    return {f"{name}.{key}": tensor for key, tensor in layer.state_dict().items()}


def _gpt2() -> dict[str, torch.Tensor]:
    path = "h.0.mlp"
    c_fc = {f"{path}.c_fc.weight": torch.zeros(64, 256), f"{path}.c_fc.bias": torch.zeros(256)}
    square = {
        "h.0.attn.c_proj.weight": torch.zeros(64, 64),
        "h.0.attn.c_proj.bias": torch.zeros(64),
    }
    return {**c_fc, **square}


@pytest.mark.parametrize(
    ("state", "rule", "key", "fan", "said"),
    [
        # 128 inputs: 1 / sqrt(128) is 0.0884, and of 128 * 64 it is 0.0110.
        (
            _stack(8, 128, 32),
            "*.gate_up_proj=kaiming_normal:linear",
            "model.layers.0.mlp.experts.gate_up_proj",
            128,
            "is 0.011, and axes=bio makes it 0.0884",
        ),
        (
            _of("wte", nn.Embedding(512, 64)),
            "wte.weight=kaiming_normal:linear,fan_out",
            "wte.weight",
            64,
            "is 0.0442, and fan=64 makes it 0.125",
        ),
        (
            _gpt2(),
            "*.weight=kaiming_normal:linear",
            "h.0.mlp.c_fc.weight",
            64,
            "is 0.0625, and axes=io makes it 0.125",
        ),
        # Each output sums over 8 inputs of its group, with 5 * 5 taps.
        (
            _of("up", nn.ConvTranspose2d(32, 64, 5, groups=4)),
            "*.weight=kaiming_normal:linear",
            "up.weight",
            8 * 25,
            "makes it 0.0707",
        ),
    ],
    ids=["experts", "embedding", "Conv1D", "transposed"],
)
def test_a_pasted_hint_sets_the_fans_right(
    reinit: Callable[..., Done],
    state: dict[str, torch.Tensor],
    rule: str,
    key: str,
    fan: int,
    said: str,
) -> None:
    save_file(state, "m.safetensors")
    first = reinit("m.safetensors", "-r", rule, "-o", "wrong.safetensors")
    assert first.code == 0
    assert said in first.err
    right = _RIGHT.search(first.err)
    assert right is not None
    second = reinit("m.safetensors", "-r", rule, "-r", right[1], "-o", "right.safetensors")
    assert second.code == 0, second.err
    assert "add the rule" not in second.err
    drawn = load_file("right.safetensors")[key].double()
    expected = fan**-0.5
    deviation = expected / (2 * drawn.numel()) ** 0.5
    assert abs(drawn.std().item() - expected) < 5 * deviation
    wrong = load_file("wrong.safetensors")[key].double()
    assert abs(wrong.std().item() - expected) > 5 * deviation


def test_the_wrong_numbers_are_those_of_torch(reinit: Callable[..., Done]) -> None:
    save_file(_stack(8, 128, 32), "m.safetensors")
    assert (
        reinit("m.safetensors", "-r", "*.experts.*=xavier_uniform", "--stream", "torch").code == 0
    )
    drawn = load_file("m-reinit.safetensors")["model.layers.0.mlp.experts.gate_up_proj"]
    as_torch = nn.init.xavier_uniform_(torch.empty(8, 128, 64))
    assert drawn.abs().max().item() == pytest.approx(as_torch.abs().max().item(), rel=1e-3)


def test_stacks_whose_inputs_come_last_take_other_axes(reinit: Callable[..., Done]) -> None:
    path = "model.layers.0.mlp.experts"
    stacks = {
        f"{path}.gate_up_proj": torch.zeros(4, 48, 64),
        f"{path}.down_proj": torch.zeros(4, 64, 24),
    }
    save_file(stacks, "m.safetensors")
    done = reinit("m.safetensors", "-r", "*=kaiming_normal:relu", "-n")
    assert "axes=boi" in done.err


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("*.weight=normal:std=0.02", ()),
        ("*.weight=kaiming_normal:linear", ()),  # its fan is that of the inputs, the features
        ("wte.weight=xavier_uniform:fan=64", ()),
        ("wte.weight=xavier_uniform:axes=io", ()),
    ],
)
def test_what_reads_an_embedding_right_is_not_warned_of(
    reinit: Callable[..., Done], rule: str, options: tuple[str, ...]
) -> None:
    save_file(_of("wte", nn.Embedding(512, 64)), "m.safetensors")
    done = reinit("m.safetensors", "-r", rule, *options, "-n")
    assert done.code == 0
    assert "reads" not in done.err


def test_embeddings_of_several_widths_are_set_right_one_by_one(
    reinit: Callable[..., Done],
) -> None:
    state = _of("wte", nn.Embedding(512, 64)) | _of("wpe", nn.Embedding(128, 32))
    save_file(state, "m.safetensors")
    done = reinit("m.safetensors", "-r", "*.weight=xavier_uniform", "-n")
    assert set(_RIGHT.findall(done.err)) == {
        "wte.weight=xavier_uniform:fan=64",
        "wpe.weight=xavier_uniform:fan=32",
    }


def test_a_part_is_warned_of_with_the_part(reinit: Callable[..., Done]) -> None:
    save_file(_of("wte", nn.Embedding(512, 64)), "m.safetensors")
    rules = ["-r", "wte.weight[500:]=xavier_uniform"]
    done = reinit("m.safetensors", *rules, "-n")
    assert _RIGHT.findall(done.err) == ["wte.weight[500:]=xavier_uniform:fan=64"]


def test_a_convolution_stays_as_torch_has_it(reinit: Callable[..., Done]) -> None:
    save_file(_of("c", nn.Conv1d(8, 16, 3)) | _of("d", nn.Linear(8, 4)), "m.safetensors")
    done = reinit("m.safetensors", "-r", "*.weight=xavier_uniform", "-n")
    assert "reads" not in done.err
