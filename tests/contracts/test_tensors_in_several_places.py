"""A tensor that lies in four boxes in two files is read, drawn and written like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from reinit_cli import seed_for
from reinit_cli.checkpoints.folder import FolderSource
from reinit_cli.checkpoints.formats.base import Files
from reinit_cli.operations.prepare import prepare
from reinit_cli.operations.rewrite import Outcome, execute
from reinit_cli.request.request import Request
from reinit_cli.request.rule import Rule
from reinit_cli.storage.local import LocalStore
from tests.contracts.format_contract import content_of
from tests.contracts.toy import LEFT, RIGHT, Toy, read_toy, write_toy


def _state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)

    def drawn(*shape: int) -> Tensor:
        return torch.empty(shape).normal_(generator=generator)

    return {
        "first.weight": drawn(7, 5),
        "first.bias": drawn(5),
        "conv.weight": drawn(4, 6, 3, 3).half(),
        "large.weight": drawn(1200, 900),
        "last.weight": drawn(3, 8).double(),
    }


@pytest.fixture
def state() -> dict[str, Tensor]:
    """The tensors of the checkpoint in the folder "toy"."""
    state = _state()
    write_toy(Path("toy"), state)
    return state


def _source() -> FolderSource:
    store = LocalStore()
    listed = store.list("toy").files
    readers = {name: store.open(f"toy/{name}", each.fingerprint) for name, each in listed.items()}
    located = Toy().locate(Files("toy", readers))
    for reader in readers.values():
        reader.close()
    return FolderSource("toy", "toy", Toy(), located, listed, store)


def _rewrite(*rules: str, output: str = "out/", **options: Any) -> Outcome:
    request = Request("toy", tuple(map(Rule.parse, rules)), output, **options)
    return execute(prepare(request, _source())).insist()


def test_what_is_drawn_is_torchs_draw_of_the_whole_tensor(state: dict[str, Tensor]) -> None:
    outcome = _rewrite("{first,conv,large,last}.weight=normal:std=0.5", seed=3)

    read = read_toy(Path("out"))
    assert list(outcome.filled) == [key for key in state if key.endswith("weight")]
    for key, tensor in state.items():
        expected = tensor
        if key.endswith("weight"):
            dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
            generator = torch.Generator().manual_seed(seed_for(3, key))
            expected = torch.empty(tensor.shape, dtype=dtype)
            torch.nn.init.normal_(expected, std=0.5, generator=generator)
        assert torch.equal(read[key], expected.to(tensor.dtype)), key


def test_outside_the_boxes_no_byte_changes(state: dict[str, Tensor]) -> None:
    _rewrite("conv.weight=ones")

    places = _source().located.places["conv.weight"]
    assert sorted(place.file for place in places) == [LEFT, LEFT, RIGHT, RIGHT]
    before, after = content_of(Path("toy")), content_of(Path("out"))
    for name, data in before.items():
        changed = bytearray(data)
        for place in places:
            if place.file == name:
                ones = torch.ones(place.nbytes // 2, dtype=torch.float16)
                changed[place.offset : place.offset + place.nbytes] = ones.numpy().tobytes()
        assert after[name] == bytes(changed), name


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("scale:factor=2", lambda tensor: tensor * 2),
        ("clamp:min=-0.5,max=0.5", lambda tensor: tensor.clamp(-0.5, 0.5)),
    ],
)
def test_a_transform_reads_the_boxes_that_it_writes(
    rule: str, expected: Callable[[Tensor], Tensor], state: dict[str, Tensor]
) -> None:
    _rewrite(f"*.weight={rule}")

    read = read_toy(Path("out"))
    for key, tensor in state.items():
        assert torch.equal(read[key], expected(tensor) if key.endswith("weight") else tensor), key


def test_it_is_converted_to_a_file_where_each_lies_in_one_place(state: dict[str, Tensor]) -> None:
    _rewrite("first.bias=zeros", output="out.safetensors")

    read = load_file("out.safetensors")
    assert not read.pop("first.bias").any()
    assert all(torch.equal(tensor, state[key]) for key, tensor in read.items())
    assert read.keys() == state.keys() - {"first.bias"}


def test_a_matrix_of_orthogonal_rows_is_one_in_boxes_too(state: dict[str, Tensor]) -> None:
    _rewrite("last.weight=orthogonal")

    matrix = read_toy(Path("out"))["last.weight"]
    assert matrix.shape == state["last.weight"].shape
    assert torch.allclose(matrix @ matrix.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
