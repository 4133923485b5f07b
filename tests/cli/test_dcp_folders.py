"""What the commands that look at a checkpoint say of folders that ranks wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reinit_cli.checkpoints.formats.dcp import places
from reinit_cli.checkpoints.formats.dcp.metadata import Piece
from reinit_cli.cli.render.info import summary_sheet
from reinit_cli.operations.info import info
from reinit_cli.storage.reader import Reader
from tests.checkpoints.formats.dcp.saved import (
    columns,
    metadata_of,
    rows,
    save,
    save_alone,
    save_shards,
)
from tests.cli.conftest import Done


def _state() -> dict[str, Any]:
    model = {"a.weight": torch.randn(6, 4), "a.bias": torch.randn(2), "scale": torch.tensor(1.0)}
    slots = {key: {"exp_avg": torch.ones_like(each)} for key, each in model.items()}
    groups = [{"lr": 0.1, "params": [*model]}]
    optimizer = {"state": slots, "param_groups": groups}
    return {"model": model, "optim": optimizer, "args": {"rate": 0.1}, "step": 7}


def test_the_long_list_has_the_pieces_of_each_tensor(reinit: Callable[..., Done]) -> None:
    save(Path("dcp"), _state(), 3, rows)

    heading, *lines = reinit("keys", "dcp", "-l").out.splitlines()

    found = {line.split("\t")[0]: line.split("\t") for line in lines}
    at = heading.split("\t").index("pieces")
    names = [f"__{rank}_0.distcp" for rank in range(3)]
    assert found["a.weight"][at : at + 2] == ["3", ", ".join(names)]
    assert found["a.bias"][at] == "3"  # the last of them is empty
    assert found["scale"][at : at + 2] == ["1", names[0]]


@pytest.mark.parametrize("writer", [save, save_shards])
def test_the_pieces_in_json_are_those_of_the_ranks(
    writer: Callable[..., Path], reinit: Callable[..., Done]
) -> None:
    writer(Path("dcp"), _state()["model"], 2, columns)

    forms = [json.loads(line) for line in reinit("keys", "dcp", "--json").out.splitlines()]

    found = {form["key"]: form["pieces"] for form in forms}
    names = sorted(each.name for each in Path("dcp").iterdir() if each.name[0] != ".")
    assert found["a.weight"] == [
        {"file": names[0], "offsets": [0, 0], "shape": [6, 2]},
        {"file": names[1], "offsets": [0, 2], "shape": [6, 2]},
    ]
    assert found["scale"] == [{"file": names[0], "offsets": [], "shape": []}]


def test_no_more_pieces_are_opened_than_are_measured(
    reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_alone(Path("dcp"), {f"w{at}": torch.full((3,), float(at)) for at in range(20)})
    opened = []

    class Counted(places.Archive):
        def __init__(self, file: Reader, piece: Piece) -> None:
            opened.append(piece.fqn)
            super().__init__(file, piece)

    monkeypatch.setattr(places, "Archive", Counted)
    done = reinit("stats", "dcp/", "--head", "2")

    assert [line.split("\t")[0] for line in done.out.splitlines()] == ["key", "w0", "w1"]
    assert opened == ["w0", "w1"]


def test_other_checkpoints_have_no_pieces(reinit: Callable[..., Done], checkpoint: Path) -> None:
    assert "pieces" not in reinit("keys", str(checkpoint), "-l").out
    assert "pieces" not in reinit("keys", str(checkpoint), "--json").out


def test_meta_outlines_what_was_saved_and_by_whom(reinit: Callable[..., Done]) -> None:
    folder = save(Path("run/step-7"), _state(), 2, rows)
    metadata = metadata_of(folder)

    done = reinit("keys", "run/step-7", "--meta")

    lines = [line.split("\t") for line in done.out.splitlines()]
    rows_of = {line[0]: line[1:3] for line in lines}
    assert rows_of["model"] == ["state dict", "3 tensors"]
    assert rows_of["optim"] == ["optimizer", "3 parameters in 1 group"]
    assert rows_of["args.rate"] == ["float", "0.1"]
    assert rows_of["step"] == ["int", "7"]
    assert "written to: run/step-7" in done.err
    assert "args.rate, step" in done.err
    _expects_version(metadata, done)


def _expects_version(metadata: Any, done: Done) -> None:
    version = getattr(metadata, "version", None)  # since torch 2.9
    assert (f"DCP version: {version}" in done.err) == (version is not None)


def test_meta_as_json_has_the_objects_by_name(reinit: Callable[..., Done]) -> None:
    save(Path("dcp"), {"a.weight": torch.zeros(2), "step": 7, "seed": 3}, 2, rows)

    form = json.loads(reinit("keys", "dcp", "--meta", "--json").out)

    assert form["facts"]["objects"] == "step, seed"
    assert form["facts"]["written to"] == "dcp"
    assert {"path": "step", "kind": "int", "text": "7", "tensors": 0, "nbytes": 0} in form[
        "outline"
    ]


def test_info_counts_the_pieces(reinit: Callable[..., Done]) -> None:
    save_shards(Path("hf"), _state()["model"], 2, rows)

    assert "2 files" in reinit("keys", "hf", "--meta").out
    assert ", 5 pieces of tensors" in reinit("keys", "hf", "--meta").out


@pytest.mark.parametrize(
    ("writer", "name"), [(save, "DCP folder"), (save_shards, "folder of sharded safetensors")]
)
def test_info_names_the_format_of_a_folder_once(writer: Callable[..., Path], name: str) -> None:
    writer(Path("dcp"), _state()["model"], 2, rows)

    facts = dict(summary_sheet(info("dcp")).plain_facts)

    assert facts["format"].startswith(f"{name}, ")


def test_a_folder_without_a_state_dict_is_outlined(reinit: Callable[..., Done]) -> None:
    save(Path("dcp"), {"step": 7, "data": {"name": "x", "key": b"abc"}})

    listed = reinit("keys", "dcp", "--meta")
    form = json.loads(reinit("info", "dcp", "--json").out)

    lines = [line.split("\t")[:3] for line in listed.out.splitlines()]
    assert ["step", "int", "7"] in lines
    assert ["data.name", "str", "'x'"] in lines
    assert ["data.key", "bytes", "3 B"] in lines
    assert (form["format"], form["tensors"]) == ("DCP folder", 0)
    assert "keys --meta dcp" in reinit("keys", "dcp").err
