"""Make folders as libraries, trainings and people leave them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from reinit_cli import stats

KEYS = ("a.weight", "b.weight", "c.weight")


def state(value: float, *keys: str) -> dict[str, Tensor]:
    """Return a state dict that holds one number."""
    return {key: torch.full((2, 3), float(value)) for key in keys or KEYS}


def save(path: str, tensors: Mapping[str, Tensor]) -> None:
    """Write a file of weights as its suffix has it."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if path.endswith(".safetensors"):
        save_file(dict(tensors), path, {"format": "pt"})
    else:
        torch.save(dict(tensors), path)


def shards(folder: str, stem: str, kind: str, keys: Sequence[str], value: float) -> dict[str, str]:
    """Write a shard for each key, and return where each lies."""
    names = [f"{stem}-{at:05d}-of-{len(keys):05d}.{kind}" for at in range(1, len(keys) + 1)]
    for key, name in zip(keys, names, strict=True):
        save(f"{folder}/{name}", state(value, key))
    return dict(zip(keys, names, strict=True))


def index(path: str, weight_map: Mapping[str, str], **metadata: object) -> None:
    """Write an index of shards."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps({"metadata": metadata, "weight_map": dict(weight_map)}))


def value(folder: str, key: str = "a.weight") -> float | None:
    """Return the number that a tensor holds, as it is read."""
    (found,) = stats(folder, [key])
    return found.statistics.finite.mean
