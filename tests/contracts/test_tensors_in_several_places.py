"""A tensor that lies in four boxes in two files is read, drawn and written like any other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reinit_cli import rewrite, seed_for, verify
from reinit_cli.checkpoints import formats
from reinit_cli.checkpoints.find import find_source
from reinit_cli.checkpoints.formats.base import Place
from reinit_cli.errors import UnwritableContentError
from reinit_cli.operations.rewrite import Outcome
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


@pytest.fixture(autouse=True)
def known_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the toy be one of the formats."""
    monkeypatch.setattr(formats, "FOLDER_FORMATS", (*formats.FOLDER_FORMATS, Toy()))


@pytest.fixture
def state() -> dict[str, Tensor]:
    """The tensors of the checkpoint in the folder "toy"."""
    state = _state()
    write_toy(Path("toy"), state)
    return state


def rewrite_toy(*rules: str, output: str = "out", **options: Any) -> Outcome:
    return rewrite("toy/", rules, output, **options)


def test_what_is_drawn_is_torchs_draw_of_the_whole_tensor(state: dict[str, Tensor]) -> None:
    outcome = rewrite_toy("{first,conv,large,last}.weight=normal:std=0.5", seed=3, stream="torch")

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
    rewrite_toy("conv.weight=ones")

    places = _places_of("toy/", "conv.weight")
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
    rewrite_toy(f"*.weight={rule}")

    read = read_toy(Path("out"))
    for key, tensor in state.items():
        assert torch.equal(read[key], expected(tensor) if key.endswith("weight") else tensor), key


def test_a_matrix_of_orthogonal_rows_is_one_in_boxes_too(state: dict[str, Tensor]) -> None:
    rewrite_toy("last.weight=orthogonal")

    matrix = read_toy(Path("out"))["last.weight"]
    assert matrix.shape == state["last.weight"].shape
    assert torch.allclose(matrix @ matrix.T, torch.eye(3, dtype=torch.float64), atol=1e-12)


def test_its_record_is_verified_and_names_what_was_changed(state: dict[str, Tensor]) -> None:
    rewrite_toy("*.weight=normal", "*.bias=zeros", record="r.json")

    verdict = verify("out", record="r.json")
    with_source = verify("out", record="r.json", source="toy/")

    assert (verdict.findings, with_source.findings) == ((), ())
    assert sorted(verdict.drawn) == sorted(state)

    for key in ("first.bias", "last.weight"):
        place = _places_of("out", key)[-1]
        _flip(place.file, place.offset + 2)
    _flip(RIGHT, 0)

    for source in (None, "toy/"):
        findings = verify("out", record="r.json", source=source).findings
        found = {finding.what for finding in findings}
        assert found >= {"'first.bias'", "'last.weight'", "everything that was not filled"}
        gaps = [each.gap for each in findings if each.what == "'last.weight'" and each.gap]
        assert [gap.changed for gap in gaps] == [1] * len(gaps)


def _places_of(source: str, key: str) -> tuple[Place, ...]:
    located = find_source(source).located
    assert located is not None
    return located.places[key]


def _flip(file: str, at: int) -> None:
    data = bytearray(Path("out", file).read_bytes())
    data[at] ^= 1
    Path("out", file).write_bytes(data)


def test_its_digest_in_a_record_is_that_of_its_places(state: dict[str, Tensor]) -> None:
    rewrite_toy("conv.weight=normal", "first.bias=zeros", record="r.json")

    rows = {row["key"]: row["sha256"] for row in json.loads(Path("r.json").read_text())["filled"]}
    for key, digest in rows.items():
        parts = [
            hashlib.sha256(
                Path("out", place.file).read_bytes()[place.offset : place.offset + place.nbytes]
            ).digest()
            for place in sorted(_places_of("out", key))
        ]
        expected = parts[0] if len(parts) == 1 else hashlib.sha256(b"".join(parts)).digest()
        assert digest == expected.hex()
    assert len(rows) == 2


def test_a_format_without_room_for_a_record_refuses_one(state: dict[str, Tensor]) -> None:
    with pytest.raises(UnwritableContentError):
        rewrite_toy("first.bias=zeros", record=True)
