"""What four ranks under torchrun save, in each way that torch offers, is rewritten as one file is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reinit_cli import rewrite
from reinit_cli.checkpoints.find import find_source
from reinit_cli.errors import ReinitError
from tests.checkpoints.formats.dcp import ranks_saving
from tests.checkpoints.formats.dcp.saved import load, saved_again, slices_of

pytestmark = pytest.mark.slow

RULES = ["*.weight=normal:std=0.02", "*.bias=scale:factor=3"]


def _torchrun(folder: Path, *names: str) -> None:
    """Save under these names with four ranks, or load what has one."""
    root = Path(ranks_saving.__file__).parents[4]
    ours = {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    launch = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "4")
    address = (
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "127.0.0.1:0",
        "--local-addr",
        "127.0.0.1",
    )
    done = subprocess.run(
        [*launch, *address, ranks_saving.__file__, *names],
        cwd=folder,
        env={**os.environ, **ours},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every way to save, a folder for each."""
    folder = tmp_path_factory.mktemp("ranks")
    _torchrun(folder, *ranks_saving.WAYS)
    return folder


def _raw(tensors: dict[str, Tensor]) -> dict[str, tuple[Any, ...]]:
    return {
        key: (
            each.dtype,
            each.shape,
            each.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(),
        )
        for key, each in tensors.items()
    }


def _rewritten_whole(state: dict[str, Tensor]) -> dict[str, Tensor]:
    save_file({key: each.contiguous() for key, each in state.items()}, "m.safetensors")
    rewrite("m.safetensors", RULES, "new.safetensors")
    return load_file("new.safetensors")


@pytest.mark.parametrize("way", ["fsdp2", "threads", "items", "async"])
def test_a_network_of_fsdp2_gets_the_values_of_the_unsharded_one(way: str, saved: Path) -> None:
    want = _rewritten_whole(load(saved / way)["model"])

    rewrite(saved / way, RULES, "out")

    after = load(Path("out"))
    assert _raw(after["model"]) == _raw(want)
    assert after.keys() == load(saved / way).keys()
    assert Path("out/.metadata").read_bytes() == (saved / way / ".metadata").read_bytes()
    for name, data in slices_of(Path("out")):
        assert data == saved_again(data), name


def test_every_layout_of_meshes_gets_the_values_of_the_unsharded_tensors(saved: Path) -> None:
    want = _rewritten_whole(ranks_saving.tensors())

    rewrite(saved / "meshes", RULES, "out")
    rewrite(saved / "meshes", RULES, "one.safetensors")

    assert _raw(load(Path("out"))) == _raw(want)
    assert _raw(load_file("one.safetensors")) == _raw(want)
    for name, data in slices_of(Path("out")):
        assert data == saved_again(data), name


def test_files_of_the_hugging_face_writer_are_put_together(saved: Path) -> None:
    """Torch's own consolidation of them writes 0.0 for a scalar, and fails on integers."""
    rewrite(saved / "hugging-face", (), "same.safetensors")
    rewrite(saved / "hugging-face", RULES, "one.safetensors")

    assert _raw(load_file("same.safetensors")) == _raw(ranks_saving.tensors())
    assert _raw(load_file("one.safetensors")) == _raw(_rewritten_whole(ranks_saving.tensors()))


def test_tensors_in_safetensors_are_found_after_the_objects(saved: Path) -> None:
    want = _rewritten_whole(load(saved / "fsdp2")["model"])

    rewrite(saved / "safetensors", RULES, "out")
    rewrite("out", (), "one.safetensors", tensors_only=True)

    assert _raw(load_file("one.safetensors")) == _raw(want)


def test_compressed_pieces_are_listed_and_copied_and_never_filled(saved: Path) -> None:
    folder = saved / "compressed"
    assert [each.key for each in find_source(str(folder)).tensors] == [
        each.key for each in find_source(str(saved / "fsdp2")).tensors
    ]

    with pytest.raises(ReinitError, match=r"compressed \(stream.zstd/1\)"):
        rewrite(folder, ["emb.weight=zeros"], "out")
    rewrite(folder, ["*.weight=keep"], "out")

    assert _raw(load(Path("out"))["model"]) == _raw(load(saved / "fsdp2")["model"])


def test_metadata_of_each_rank_is_refused(saved: Path) -> None:
    with pytest.raises(
        ReinitError, match=r"\(use_collectives=False\), which cannot be put together"
    ):
        find_source(str(saved / "without-collectives"))


def test_ranks_load_what_was_rewritten(saved: Path) -> None:
    want = _rewritten_whole(load(saved / "fsdp2")["model"])
    rewrite(saved / "fsdp2", RULES, saved / "rewritten")

    _torchrun(saved, "rewritten")

    assert _raw(torch.load(saved / "rewritten-loaded.pt")) == _raw(want)
