"""New files are called as the library calls them that reads them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from safetensors.torch import load_file

from reinit_cli import rewrite
from tests.checkpoints.formats.hugging_face.making import KEYS, index, save, shards, state

FILES = {
    "model.safetensors": "model.safetensors",
    "pytorch_model.bin": "model.safetensors",
    "diffusion_pytorch_model.safetensors": "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.bin": "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors": "diffusion_pytorch_model.fp16.safetensors",
    "adapter_model.safetensors": "adapter_model.safetensors",
    "adapter_model.bin": "adapter_model.safetensors",
    "pytorch_model.fp16.bin": "model.fp16.safetensors",
    "open_clip_pytorch_model.bin": "open_clip_model.safetensors",
    "consolidated.safetensors": "consolidated.safetensors",
    "best.pt": "model.safetensors",
}


@pytest.mark.parametrize("name", FILES)
def test_one_file_keeps_the_name_of_its_library(name: str) -> None:
    save(f"hf/{name}", state(1))

    rewrite("hf", [], "new", dtype="float16")

    assert os.listdir("new") == [FILES[name]]


SHARDS = {
    "diffusion_pytorch_model": (
        "diffusion_pytorch_model-0000{}-of-00003.safetensors",
        "diffusion_pytorch_model.safetensors.index.json",
    ),
    "diffusion_pytorch_model.fp16": (
        "diffusion_pytorch_model.fp16-0000{}-of-00003.safetensors",
        "diffusion_pytorch_model.safetensors.index.fp16.json",
    ),
    "model": ("model-0000{}-of-00003.safetensors", "model.safetensors.index.json"),
}


@pytest.mark.parametrize("stem", SHARDS)
def test_shards_keep_the_names_of_their_library(stem: str) -> None:
    save(f"hf/{stem}.safetensors", state(1))

    rewrite("hf", [], "new", shard_nbytes=30)

    shard, name = SHARDS[stem]
    assert sorted(os.listdir("new")) == sorted([*(shard.format(at) for at in (1, 2, 3)), name])


def test_a_lone_file_that_becomes_a_folder_keeps_the_name_of_its_library() -> None:
    save("diffusion_pytorch_model.safetensors", state(1))

    rewrite("diffusion_pytorch_model.safetensors", [], "new", shard_nbytes=10**6)

    assert os.listdir("new") == ["diffusion_pytorch_model.safetensors"]


def test_shards_that_become_one_file_in_a_folder_have_no_index() -> None:
    name = "diffusion_pytorch_model.safetensors.index.json"
    index(f"hf/{name}", shards("hf", "diffusion_pytorch_model", "safetensors", KEYS, 1))

    rewrite("hf", [], "new", dtype="float16")

    assert os.listdir("new") == ["diffusion_pytorch_model.safetensors"]
    assert sorted(load_file("new/diffusion_pytorch_model.safetensors")) == list(KEYS)
    assert Path("hf", name).exists()
