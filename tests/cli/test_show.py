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
from reinit_cli.operations import show as operation
from reinit_cli.storage.local import InputFile
from reinit_cli.tensors import blocks
from tests.cli.conftest import Done


def test_a_tensor_is_printed_as_torch_prints_it(
    reinit: Callable[..., Done], checkpoint: Path
) -> None:
    weight = load_file(checkpoint)["classifier.weight"]

    done = reinit("show", "model.safetensors", "classifier.weight")

    assert (done.code, done.out) == (0, f"classifier.weight  10x8 bfloat16, 160 B\n{weight}\n")


def test_what_a_tensor_is_like_is_said_next_to_its_values(reinit: Callable[..., Done]) -> None:
    values = torch.tensor([0.0, 1.0, 2.0, 5.0, math.nan, math.inf])
    save_file({"w": values, "one": torch.ones(1)}, "m.safetensors")

    # In a pipe it is a fact, which goes to standard error.
    assert reinit("show", "m.safetensors", "w").err == (
        "w: mean 2, std 1.871, min 0, max 5, 1 zero, 1 NaN, 1 Inf\n"
    )
    assert reinit("show", "m.safetensors", "one").err == ""
    assert reinit("show", "m.safetensors", "w", "--slice", "1:3").err == (
        "w: mean 1.5, std 0.5, min 1, max 2\n"
    )


def test_patterns_show_several_tensors(reinit: Callable[..., Done]) -> None:
    state = {f"{at}.w": torch.full((1,), float(at)) for at in range(4)}
    torch.save({**state, "b": torch.ones(2), "s": torch.eye(3).to_sparse()}, "m.pt")

    done = reinit("show", "m.pt", "*.w", "-x", "0.w", "--sort", "key", "--reverse", "--head", "2")
    rest = reinit("show", "m.pt", "[bs]", "--slice", "1")
    form = json.loads(reinit("show", "m.pt", "*.w", "--head", "2", "--json").out)

    assert done == Done(
        0, "3.w  1 float32, 4 B\ntensor([3.])\n\n2.w  1 float32, 4 B\ntensor([2.])\n", ""
    )
    assert (rest.code, rest.out) == (
        0,
        "b  2 float32, 8 B, [1]\n1.0\n".replace("1.0", "tensor(1.)"),
    )
    assert rest.err == "warning: skipped 's': a sparse tensor\n"
    assert form["version"] == 1
    assert [(each["key"], each["values"]) for each in form["tensors"]] == [
        ("0.w", [0.0]),
        ("1.w", [1.0]),
    ]


def test_a_key_with_wild_characters_is_that_key(reinit: Callable[..., Done]) -> None:
    state = {key: torch.tensor(at) for at, key in enumerate(("a[0]", "a0", "a*", "a[", "re:a"))}
    torch.save(state, "m.pt")

    for key, value in state.items():
        assert reinit("show", "m.pt", key).out.endswith(f"\n{value!r}\n")


def test_nothing_to_show_is_a_mistake(reinit: Callable[..., Done], checkpoint: Path) -> None:
    done = reinit("show", "model.safetensors")

    assert (done.code, done.out) == (2, "")
    hint = "write it as reinit show SOURCE KEY; '*' shows every tensor"
    assert done.err == f"error: missing KEY or PATTERN\nhint: {hint}\n"


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


def test_values_as_json_are_nested_lists_and_what_is_not_finite_is_named(
    reinit: Callable[..., Done],
) -> None:
    state = {"w": torch.tensor([[1.5, math.nan], [math.inf, -2.0]]), "c": torch.tensor([1 + 2j])}
    torch.save(state, "m.pt")

    assert json.loads(reinit("show", "m.pt", "w", "--json").out) == {
        "version": 1,
        "key": "w",
        "shape": [2, 2],
        "dtype": "float32",
        "slice": None,
        "values": [[1.5, "NaN"], ["Infinity", -2.0]],
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
    monkeypatch.setattr(operation, "MOST_MEASURED", 4_000)  # more are not read for statistics

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
