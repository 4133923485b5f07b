"""`show`: one tensor as torch prints it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import rewrite
from reinit_cli.cli.commands import show
from reinit_cli.storage.local import InputFile
from reinit_cli.tensors import blocks
from tests.cli.conftest import Done


def test_a_tensor_is_printed_as_torch_prints_it(
    reinit: Callable[..., Done], checkpoint: Path
) -> None:
    weight = load_file(checkpoint)["classifier.weight"]

    done = reinit("show", "model.safetensors", "classifier.weight")

    assert done == Done(0, f"classifier.weight  10x8 bfloat16, 160 B\n{weight}\n", "")


def test_a_slice_is_named_and_shown(reinit: Callable[..., Done], checkpoint: Path) -> None:
    weight = load_file(checkpoint)["features.0.weight"]

    done = reinit("show", "model.safetensors", "features.0.weight", "--slice", "0,:,:2,:2")

    head, rest = done.out.split("\n", 1)
    assert head == "features.0.weight  8x3x5x5 float32, 2.4 kB, [0,:,:2,:2]"
    assert rest == f"{weight[0, :, :2, :2]}\n"


def test_all_elements_are_shown_where_that_is_asked_for(reinit: Callable[..., Done]) -> None:
    save_file({"w": torch.arange(2000)}, "m.safetensors")

    assert "..." in reinit("show", "m.safetensors", "w").out
    full = reinit("show", "m.safetensors", "w", "--full").out
    assert "..." not in full
    assert " 1234," in full
    assert "..." in str(torch.arange(2000))  # torch's own options are as they were


def test_values_as_json_are_nested_lists_and_nan_is_null(reinit: Callable[..., Done]) -> None:
    state = {"w": torch.tensor([[1.5, math.nan], [math.inf, -2.0]]), "c": torch.tensor([1 + 2j])}
    torch.save(state, "m.pt")

    assert json.loads(reinit("show", "m.pt", "w", "--json").out) == {
        "version": 1,
        "key": "w",
        "shape": [2, 2],
        "dtype": "float32",
        "slice": None,
        "values": [[1.5, None], [None, -2.0]],
    }
    assert json.loads(reinit("show", "m.pt", "c", "--json").out)["values"] == [[1.0, 2.0]]


DTYPES = ("float32", "float64", "bfloat16", "float8_e5m2", "int64", "bool", "complex64")
SHAPES = ((1001,), (1000,), (7, 200), (8, 7, 6, 5), (2,) * 10, (3000, 1), (1, 3000), (5, 0), ())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_tensor_is_printed_as_torch_prints_it(
    dtype: str, shape: tuple[int, ...], reinit: Callable[..., Done]
) -> None:
    generator = torch.Generator().manual_seed(len(shape))
    tensor = (torch.randn(shape, generator=generator) * 9).to(getattr(torch, dtype))
    if tensor.numel() > 1000 and dtype.startswith("float"):
        tensor.view(-1)[tensor.numel() // 2] = math.nan  # which torch leaves out
    turned = tensor.permute(tuple(reversed(range(tensor.dim()))))
    torch.save({"w": tensor, "turned": turned}, "m.pt")

    for key, expected in (("w", tensor), ("turned", turned)):
        assert reinit("show", "m.pt", key).out.split("\n", 1)[1] == str(expected) + "\n"
    if 0 not in shape and shape:
        chosen = reinit("show", "m.pt", "w", "--slice", "...,-1:").out
        assert chosen.split("\n", 1)[1] == f"{tensor[..., -1:]}\n"


@pytest.mark.parametrize("shape", [*SHAPES, (4, 3, 2), (0, 3), (0,)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "complex64"])
def test_json_is_the_same_whatever_is_read_together(
    dtype: str,
    shape: tuple[int, ...],
    reinit: Callable[..., Done],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_NUMEL", 5)
    monkeypatch.setattr(show, "_TEXT_LENGTH", 50)
    generator = torch.Generator().manual_seed(len(shape))
    tensor = (torch.randn(shape, generator=generator) * 9).to(getattr(torch, dtype))
    torch.save({"w": tensor}, "m.pt")
    is_complex = dtype == "complex64"
    values = (torch.view_as_real(tensor) if is_complex else tensor).tolist()
    form = {"version": 1, "key": "w", "shape": shape, "dtype": dtype, "slice": None}

    done = reinit("show", "m.pt", "w", "--json")

    assert done == Done(0, json.dumps({**form, "values": values}) + "\n", "")


@pytest.mark.parametrize("options", [(), ("--slice", ":,7"), ("--slice", "::9999,::9999")])
def test_of_a_large_tensor_little_is_read(
    options: tuple[str, ...], reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = torch.arange(4_000_000.0).view(400, 10_000)
    save_file({"w": matrix}, "m.safetensors")
    read = []
    original = InputFile.read_into

    def watched(self: InputFile, buffer: memoryview, offset: int) -> None:
        read.append(len(buffer))
        original(self, buffer, offset)

    monkeypatch.setattr(InputFile, "read_into", watched)

    done = reinit("show", "m.safetensors", "w", *options)

    expected = {"": matrix, ":,7": matrix[:, 7], "::9999,::9999": matrix[::9999, ::9999]}
    assert done.out.split("\n", 1)[1] == f"{expected[''.join(options[1:])]}\n"
    assert 0 < sum(read) <= 1600  # of 16 MB


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_a_view_is_shown_as_it_is(is_zip: bool, reinit: Callable[..., Done]) -> None:
    view = torch.arange(60.0).reshape(6, 10).t()[3:5, ::2]
    torch.save({"state_dict": {"v": view}}, "m.pt", _use_new_zipfile_serialization=is_zip)

    assert reinit("show", "m.pt", "v").out.split("\n", 1)[1] == f"{view}\n"
    assert reinit("show", "m.pt", "v", "--slice", "1,1:").out.endswith(f"{view[1, 1:]}\n")


def test_a_model_is_shown_as_it_would_be_rewritten(reinit: Callable[..., Done]) -> None:
    rewrite("squeezenet1_1", ["*.bias=keep"], "m.safetensors", weights="none", seed=3)

    key = "classifier.1.bias"
    of_model = reinit("show", "squeezenet1_1", key, "--weights", "none", "--seed", "3").out
    assert of_model == reinit("show", "m.safetensors", key).out


def test_an_unknown_key_is_told_with_near_ones(
    reinit: Callable[..., Done], checkpoint: Path
) -> None:
    done = reinit("show", "model.safetensors", "clasifier.weight")

    error, hint = done.err.splitlines()
    assert (done.code, done.out) == (2, "")
    assert error == "error: model.safetensors has no key 'clasifier.weight'"
    assert hint.startswith("hint: did you mean classifier.weight")


@pytest.mark.parametrize(
    ("value", "reason"),
    [(torch.eye(3).to_sparse(), "a sparse tensor"), (3, "not a tensor but int")],
)
def test_what_has_no_values_to_show_is_refused(
    value: object, reason: str, reinit: Callable[..., Done]
) -> None:
    torch.save({"w": torch.ones(1), "x": value}, "m.pt")

    done = reinit("show", "m.pt", "x")

    assert (done.code, done.out) == (2, "")
    assert done.err == f"error: the values of 'x' cannot be shown: {reason}\n"


def test_a_slice_that_is_none_is_told_before_torch_is_imported(
    reinit: Callable[..., Done], checkpoint: Path
) -> None:
    done = reinit("show", "model.safetensors", "norm.weight", "--slice", "x")

    assert done == Done(
        2,
        "",
        "error: slice 'x': 'x' is neither a number nor start:stop:step\n"
        "hint: write it as Python does: 0,:,:,:2\n",
    )
