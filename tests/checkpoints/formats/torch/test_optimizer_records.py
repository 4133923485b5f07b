"""Optimizers in hostile files cost no more than they take."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from reinit_cli.cli import main
from reinit_cli.errors import MalformedFileError
from reinit_cli.storage.local import InputFile
from tests.checkpoints.formats.locating import locate


def _saved(path: Path, optimizer: Any) -> None:
    torch.save({"model": {"a": torch.ones(2)}, "optimizer": optimizer}, path)


def test_one_list_of_copies_for_many_groups_is_refused_in_bounded_time(tmp_path: Path) -> None:
    copies = [0] * 20_000
    groups = [{"params": [number]} for number in range(2_000)]
    inner = {"state": {}, "param_groups": groups}
    wrapped = {"optimizer_state_dict": inner, "fp32_from_fp16": [copies] * 2_000}
    _saved(tmp_path / "m.pt", wrapped)
    start = time.process_time()

    with InputFile(str(tmp_path / "m.pt")) as file, pytest.raises(MalformedFileError, match="more"):
        locate(file)

    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    "optimizer",
    [
        {"state": {0: [1, 2]}, "param_groups": [{"params": [0]}]},
        {"state": {0: {"step": "three"}}, "param_groups": [{"params": [0], "param_names": [1]}]},
        {"state": {(0,): {"step": 1}}, "param_groups": [{"params": [0, 0, 0]}]},
        {"state": {}, "param_groups": [{"params": []}]},
        {"optimizer_state_dict": {"state": {}, "param_groups": [{"params": [0]}]}}
        | {"fp32_from_fp16": {"a": 1}},
        {"optimizer_state_dict": [], "fp32_from_fp16": [torch.ones(1)]},
    ],
    ids=repr,
)
def test_optimizers_of_odd_forms_are_read_without_a_traceback(
    optimizer: Any, tmp_path: Path
) -> None:
    _saved(tmp_path / "m.pt", optimizer)

    with InputFile(str(tmp_path / "m.pt")) as file:
        assert [tensor.key for tensor in locate(file).tensors] == ["a"]
    out = tmp_path / "out.pt"
    assert main([str(tmp_path / "m.pt"), "-r", "a=zeros", "--reset-optimizer", "-o", str(out)]) in (
        0,
        2,
    )
