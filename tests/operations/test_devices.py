"""A device never changes numbers of philox-1, and where it would, it is not used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reinit_cli import rewrite, verify
from reinit_cli.cli import main
from reinit_cli.errors import UnknownNameError
from reinit_cli.operations.devices import drawing_device, redrawing_device
from reinit_cli.streams.philox import device_chance
from reinit_cli.streams.philox.device_chance import DeviceChance
from reinit_cli.tensors import device as devices


@pytest.fixture
def with_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine have a device that no number can be read from."""
    monkeypatch.setattr(devices, "_devices", lambda: ("cpu", "meta"))


@pytest.mark.usefixtures("with_meta")
def test_a_device_that_draws_other_numbers_is_refused_and_passed_over() -> None:
    with pytest.raises(
        UnknownNameError, match="device 'meta' does not draw philox-1 right: Cannot"
    ):
        drawing_device("meta", "philox-1")

    assert drawing_device("auto", "philox-1") == "cpu"
    assert drawing_device("meta", "torch-1") == drawing_device("auto", "torch-1") == "meta"


@pytest.mark.usefixtures("with_meta")
def test_it_is_one_line_and_a_hint_before_anything_is_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_file({"w": torch.zeros(3)}, "m.safetensors")
    command = ["m.safetensors", "-r", "w=normal", "-o", "o.safetensors", "--stream", "philox"]

    code = main([*command, "--device", "meta"])

    assert code == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: device 'meta' does not draw philox-1 right: Cannot copy out of meta tensor; no data!",
        "hint: --device cpu draws the same values",
    ]
    assert not Path("o.safetensors").exists()


def test_a_record_of_philox_1_is_verified_without_the_device_that_it_names() -> None:
    save_file({"w": torch.zeros(30, 20), "b": torch.zeros(3)}, "m.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "_devices", lambda: ("cpu", "cuda:7"))
        patch.setattr(device_chance, "fault_of", lambda *_: "")
        patch.setattr(DeviceChance, "_is_right", lambda *_: False)
        rewrite(
            *("m.safetensors", {"w": "normal"}, "o.safetensors"),
            stream="philox",
            device="cuda:7",
            record="r.json",
        )
    assert json.loads(Path("r.json").read_text("utf-8"))["device"] == "cuda:7"

    verdict = verify("o.safetensors", source="m.safetensors", record="r.json")

    assert verdict.findings == ()
    assert verdict.drawn == ("w",)
    assert redrawing_device("cuda:7", "philox-1") == "cpu"
    with pytest.raises(UnknownNameError, match="not available"):
        redrawing_device("cuda:7", "torch-1")
