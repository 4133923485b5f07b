"""Every format passes the contract of its kind."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reinit_cli.checkpoints.formats import FORMATS
from reinit_cli.checkpoints.formats.dcp.format import Dcp
from reinit_cli.checkpoints.formats.dcp.shards import ShardedSafetensors
from reinit_cli.checkpoints.formats.hugging_face.format import HuggingFace
from reinit_cli.checkpoints.formats.safetensors import Safetensors
from reinit_cli.checkpoints.formats.torch.legacy import TorchLegacy
from reinit_cli.checkpoints.formats.torch.zip import TorchZip
from tests.checkpoints.formats.dcp.saved import grid, load, save, save_shards, together
from tests.contracts.format_contract import FormatContract, NewFormatContract
from tests.contracts.toy import Toy, read_toy, write_toy


class TestSafetensors(NewFormatContract):
    format = Safetensors()

    def write(self, path: Path, state: Mapping[str, Tensor]) -> None:
        save_file(dict(state), path, {"format": "pt"})

    def read(self, path: Path) -> Mapping[str, Tensor]:
        return load_file(path)


class TestTorchZip(NewFormatContract):
    format = TorchZip()
    # Two CRC-32s and the last 20 digits of the serialization id, which has two of its own.
    dependent_nbytes = 4 * 4 + 20

    def write(self, path: Path, state: Mapping[str, Tensor]) -> None:
        torch.save(dict(state), path)

    def read(self, path: Path) -> Mapping[str, Tensor]:
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
        return dict(torch.load(path, weights_only=True))


class TestTorchLegacy(FormatContract):
    format = TorchLegacy()

    def write(self, path: Path, state: Mapping[str, Tensor]) -> None:
        torch.save(dict(state), path, _use_new_zipfile_serialization=False)

    def read(self, path: Path) -> Mapping[str, Tensor]:
        return dict(torch.load(path, weights_only=True))


class TestHuggingFaceFolder(NewFormatContract):
    format = next(each for each in FORMATS if isinstance(each, HuggingFace))

    def write(self, path: Path, state: Mapping[str, Tensor]) -> None:
        path.mkdir()
        keys = list(state)
        names = [f"model-0000{at}-of-00002.safetensors" for at in (1, 2)]
        shards = dict(zip(names, (keys[:3], keys[3:]), strict=True))
        weight_map = {key: name for name, inside in shards.items() for key in inside}
        index = json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map})
        (path / "model.safetensors.index.json").write_text(index)
        for name, inside in shards.items():
            save_file({key: state[key] for key in inside}, path / name)
        (path / "config.json").write_text("{}")
        (path / "runs").mkdir()
        (path / "runs" / "log").write_text("done")

    def read(self, path: Path) -> Mapping[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name in sorted(each.name for each in path.glob("*.safetensors")):
            found |= load_file(path / name)
        index = path / "model.safetensors.index.json"
        if index.exists():
            assert json.loads(index.read_text())["weight_map"].keys() == found.keys()
        return found


class TestDcpFolder(NewFormatContract):
    format = Dcp()
    # Of each of four pieces: two CRC-32s, and the last digits of the serialization id with its own.
    dependent_nbytes = 4 * (4 * 4 + 20)

    def write(self, path: Path, state: Mapping[str, Tensor]) -> None:
        save(path, state, 4, grid)
        (path / "runs").mkdir()
        (path / "runs" / "log").write_text("done")

    def read(self, path: Path) -> Mapping[str, Tensor]:
        return load(path)


class TestShardedSafetensors(FormatContract):
    format = ShardedSafetensors()

    def write(self, path: Path, state: Mapping[str, Tensor]) -> None:
        save_shards(path, state, 4, grid)
        (path / "runs").mkdir()
        (path / "runs" / "log").write_text("done")

    def read(self, path: Path) -> Mapping[str, Tensor]:
        return together(path)


class TestToy(FormatContract):
    format = Toy()

    def write(self, path: Path, state: Mapping[str, Tensor]) -> None:
        write_toy(path, state)

    def read(self, path: Path) -> Mapping[str, Tensor]:
        return read_toy(path)
