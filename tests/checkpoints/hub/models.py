"""Make models as the Hub has them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

CONFIG = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}


def one_file(folder: Path, rows: int = 1_000) -> Path:
    """Make a model whose weights are one file of 400 bytes a row."""
    folder.mkdir(parents=True)
    tensors = {"lm_head.weight": torch.arange(rows * 100.0).reshape(rows, 100)}
    save_file(tensors | {"norm.weight": torch.ones(100)}, folder / "model.safetensors")
    return _with_texts(folder)


def small(folder: Path) -> Path:
    """Make a model of four tensors that are small enough for a page."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    shapes = {"model.embed": (100, 64), "model.layer.0": (64, 64), "lm_head": (100, 64)}
    made = {f"{key}.weight": torch.randn(dims, generator=generator) for key, dims in shapes.items()}
    save_file(made | {"model.norm.weight": torch.ones(64)}, folder / "model.safetensors")
    return _with_texts(folder)


def sharded(folder: Path, shards: int = 4, rows: int = 250) -> Path:
    """Make a model whose weights are several files with an index."""
    folder.mkdir(parents=True)
    places = {}
    for at in range(shards):
        name = f"model-{at + 1:05}-of-{shards:05}.safetensors"
        key = f"layers.{at}.weight"
        save_file({key: torch.full((rows, 100), float(at))}, folder / name)
        places[key] = name
    index = {"metadata": {"total_size": shards * rows * 400}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return _with_texts(folder)


def _with_texts(folder: Path) -> Path:
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("# A model\n")
    return folder
