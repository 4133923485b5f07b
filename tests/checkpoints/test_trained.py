"""The optimizer in a folder belongs to the weights next to it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from reinit_cli import verify
from reinit_cli.cli import main
from tests.planning.test_optimizers import STEPS, TRAINED, net_for, stepped


def decayed(net: nn.Module) -> torch.optim.Optimizer:
    """Group parameters as the Trainer of transformers does."""
    named = dict(net.named_parameters())
    return torch.optim.AdamW(
        [
            {"params": [each for name, each in named.items() if "bias" not in name]},
            {"params": [each for name, each in named.items() if "bias" in name]},
        ],
        lr=0.01,
    )


def trainer_folder(folder: Path, *, has_int_steps: bool = False, is_zip: bool = True) -> None:
    folder.mkdir()
    net = net_for("Adam")
    optimizer = decayed(net)
    stepped(net, optimizer, 0, TRAINED)
    saved = optimizer.state_dict()
    if has_int_steps:
        for slots in saved["state"].values():
            slots["step"] = int(slots["step"])
    save_file(net.state_dict(), folder / "model.safetensors", {"format": "pt"})
    torch.save(saved, folder / "optimizer.pt", _use_new_zipfile_serialization=is_zip)
    (folder / "config.json").write_text(json.dumps({"model_type": "none"}))
    torch.save({"last_epoch": 3}, folder / "scheduler.pt")


def resumed(folder: Path, *, is_new: bool = False) -> list[dict[str, Any]]:
    net = net_for("Adam")
    net.load_state_dict(load_file(folder / "model.safetensors"))
    optimizer = decayed(net)
    if not is_new:
        optimizer.load_state_dict(torch.load(folder / "optimizer.pt"))
    return stepped(net, optimizer, TRAINED, STEPS)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("has_int_steps", [True, False], ids=["numbers", "tensors"])
def test_its_slots_follow_what_is_filled(
    has_int_steps: bool, is_zip: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "run", tmp_path / "out"
    trainer_folder(source, has_int_steps=has_int_steps, is_zip=is_zip)
    rules = ["-r", "head.weight=normal", "-r", "head.bias=zeros"]

    code = main([str(source), *rules, "--reset-optimizer", "-o", str(out), "--record"])

    assert code == 0
    assert "6 slots zeroed" in capsys.readouterr().err
    paths = resumed(out), resumed(out, is_new=True), resumed(source)
    for got, new, untouched in zip(*paths, strict=True):
        for key, value in got.items():
            assert torch.equal(value, (new if key.startswith("head.") else untouched)[key]), key
    assert (out / "scheduler.pt").read_bytes() == (source / "scheduler.pt").read_bytes()
    assert (out / "optimizer.pt").stat().st_size == (source / "optimizer.pt").stat().st_size
    assert verify(str(out)).holds
    assert verify(str(out), source=str(source)).holds


def test_without_the_option_it_is_copied_and_the_report_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "run", tmp_path / "out"
    trainer_folder(source)

    assert main([str(source), "-r", "head.bias=zeros", "-o", str(out)]) == 0

    assert (out / "optimizer.pt").read_bytes() == (source / "optimizer.pt").read_bytes()
    assert capsys.readouterr().err.startswith(
        "warning: 'optimizer.pt' is copied as it is; --reset-optimizer resets what it keeps of "
        "the filled tensors\n"
    )


def test_optimizers_of_other_models_are_copied_and_the_report_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With several models, accelerate saves `optimizer.bin`, `optimizer_1.bin` and so on."""
    source, out = tmp_path / "trained", tmp_path / "out"
    trainer_folder(source)
    (source / "optimizer.pt").rename(source / "optimizer.bin")
    shutil.copy(source / "optimizer.bin", source / "optimizer_1.bin")
    rule = f"{next(iter(load_file(source / 'model.safetensors')))}=zeros"

    assert main([str(source), "-r", rule, "--reset-optimizer", "-o", str(out)]) == 0

    assert (
        "warning: 'optimizer_1.bin' is copied as it is; --reset-optimizer resets 'optimizer.bin' "
        "alone\n"
    ) in capsys.readouterr().err
    assert (out / "optimizer_1.bin").read_bytes() == (source / "optimizer_1.bin").read_bytes()
    assert (out / "optimizer.bin").read_bytes() != (source / "optimizer.bin").read_bytes()


def test_a_folder_without_an_optimizer_has_nothing_to_reset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer_folder(tmp_path / "run")
    (tmp_path / "run" / "optimizer.pt").unlink()
    words = [str(tmp_path / "run"), "-r", "head.bias=zeros", "-o", f"{tmp_path}/out"]

    assert main([*words, "--reset-optimizer"]) == 2

    assert "holds no optimizer state" in capsys.readouterr().err


def test_an_optimizer_that_is_damaged_is_an_error_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer_folder(tmp_path / "run")
    file = tmp_path / "run" / "optimizer.pt"
    file.write_bytes(file.read_bytes()[:-100])
    words = [str(tmp_path / "run"), "-r", "head.bias=zeros", "-o", f"{tmp_path}/out"]

    assert main([*words, "--reset-optimizer"]) == 2

    assert capsys.readouterr().err.startswith(f"error: {str(file)!r} is ")
    assert not (tmp_path / "out").exists()
