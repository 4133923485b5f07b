"""transformers, diffusers and PEFT load the weights that we read, under the names that we keep."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaign.server import Server

pytestmark = pytest.mark.slow

MODULE = "tests.checkpoints.formats.library_folders"
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}

SETS = {
    "bert-masked": (
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    ),
    "unet": (
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.safetensors.index.json",
        "diffusion_pytorch_model.bin",
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("torch", "reinit_cli.operations.rewrite", MODULE) as server:
        yield server


def _run(server: Server, function: str, *arguments: object) -> None:
    argv = [each if isinstance(each, str) else json.dumps(each) for each in arguments]
    run = server.run(argv, Path.cwd(), environment=OFFLINE, function=f"{MODULE}:{function}")
    assert run.code == 0, run.err.decode()


@pytest.mark.parametrize("name", SETS)
def test_of_two_sets_the_library_loads_the_one_that_is_read(server: Server, name: str) -> None:
    _run(server, "compare_choice", name, SETS[name])


def test_of_two_adapters_peft_loads_the_one_that_is_read(server: Server) -> None:
    _run(server, "compare_adapters")


@pytest.mark.parametrize("saved", [{}, {"max_shard_size": "8KB"}], ids=["one file", "shards"])
@pytest.mark.parametrize(
    ("argv", "dtype"),
    [
        (["--dtype", "float16"], "float16"),
        (["--dtype", "float32"], "float32"),
        (["--shard-size", "8KB"], "float32"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["unet", "gpt2"])
def test_a_variant_stays_one(
    server: Server, name: str, argv: list[str], dtype: str, saved: dict[str, str]
) -> None:
    asked = {"saved": saved, "argv": argv, "dtype": dtype}
    _run(server, "load_variant", name, asked)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("llama", "model.safetensors.index.json"),
        ("unet", "diffusion_pytorch_model.safetensors.index.json"),
    ],
)
def test_shards_with_a_new_index_are_loaded(server: Server, name: str, index: str) -> None:
    _run(server, "load_mended", name, json.dumps(index))


@pytest.mark.parametrize("argv", [["--dtype", "float32"], ["--shard-size", "8KB"]], ids=str)
@pytest.mark.parametrize("name", ["unet", "llama"])
def test_what_is_laid_out_again_is_found_by_its_library(
    server: Server, name: str, argv: list[str]
) -> None:
    _run(server, "load_after", name, argv)
