"""Save checkpoints in the ways that torch offers to ranks: run by torchrun, in an empty folder.

What is saved follows from seeds, so that `unsharded.pt` holds the same tensors whole.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor


class Net(nn.Module):
    """A small network with what is sharded unevenly, and with buffers."""

    def __init__(self) -> None:
        """Make it."""
        super().__init__()
        self.emb = nn.Embedding(10, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 6), nn.Linear(6, 5)])
        self.norm = nn.BatchNorm1d(5)


def net() -> Net:
    """Return the same network on every rank."""
    torch.manual_seed(3)
    return Net()


def tensors() -> dict[str, Tensor]:
    """Return the same tensors on every rank."""
    torch.manual_seed(4)
    return {
        "rows.weight": torch.randn(7, 10),
        "columns.weight": torch.randn(7, 10),
        "both.weight": torch.randn(7, 10),
        "twice.weight": torch.randn(7, 10),
        "hybrid.weight": torch.randn(7, 10),
        "inner.weight": torch.randn(4, 6, 2),
        "short.weight": torch.randn(1, 3),
        "replicated.weight": torch.randn(7, 10),
        "plain.weight": torch.randn(7, 10),
        "rows.bias": torch.randn(6),
        "scale": torch.tensor(2.5),
        "count": torch.arange(9),
    }


def _sharded() -> dict[str, Any]:
    """Return the tensors in the layouts that meshes of one and two dimensions give."""
    line = init_device_mesh("cpu", (distributed.get_world_size(),))
    grid = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    meshes: dict[str, tuple[DeviceMesh, list[Any]]] = {
        "rows.weight": (line, [Shard(0)]),
        "columns.weight": (line, [Shard(1)]),
        "both.weight": (grid, [Shard(0), Shard(1)]),
        "twice.weight": (grid, [Shard(0), Shard(0)]),
        "hybrid.weight": (grid, [Replicate(), Shard(0)]),
        "inner.weight": (line, [Shard(1)]),
        "short.weight": (line, [Shard(0)]),
        "replicated.weight": (line, [Replicate()]),
        "rows.bias": (line, [Shard(0)]),
        "count": (line, [Shard(0)]),
    }
    found: dict[str, Any] = tensors()
    return {
        key: distribute_tensor(each, *meshes[key]) if key in meshes else each
        for key, each in found.items()
    }


def trained() -> tuple[Net, torch.optim.AdamW]:
    """Return a network of FSDP2 and its optimizer after a step."""
    model = net()
    for layer in model.layers:
        fully_shard(layer)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return model, optimizer


def _fsdp2(name: str, **options: Any) -> None:
    model, optimizer = get_state_dict(*trained())
    state = {"model": model, "optim": optimizer, "step": 5}
    dcp.save(state, storage_writer=dcp.FileSystemWriter(name, **options))


def _meshes(name: str) -> None:
    dcp.save(_sharded(), checkpoint_id=name)


def _async(name: str) -> None:
    dcp.async_save({"model": get_state_dict(*trained())[0]}, checkpoint_id=name).result()


def _hugging_face(name: str) -> None:
    dcp.save(_sharded(), storage_writer=dcp.HuggingFaceStorageWriter(name, save_distributed=True))


def _without_collectives(name: str) -> None:
    dcp.save(_sharded(), checkpoint_id=name, use_collectives=False)


def _in_safetensors(name: str) -> None:
    from torch.distributed.checkpoint.filesystem import SerializationFormat

    _fsdp2(name, serialization_format=SerializationFormat.SAFETENSORS)


def _compressed(name: str) -> None:
    from torch.distributed.checkpoint._extension import ZStandard

    _fsdp2(name, _extensions=[ZStandard()])


WAYS: dict[str, Callable[[str], None]] = {
    "fsdp2": _fsdp2,
    "threads": lambda name: _fsdp2(name, thread_count=3),
    "items": lambda name: _fsdp2(name, single_file_per_rank=False, thread_count=2),
    "meshes": _meshes,
    "async": _async,
    "hugging-face": _hugging_face,
    "safetensors": _in_safetensors,
    "compressed": _compressed,
    "without-collectives": _without_collectives,
}
"""The ways to save, by the name of the folder."""


def _load(name: str) -> None:
    """Load a folder into a network of FSDP2, and save what each of its tensors is then."""
    model, optimizer = trained()
    state = {"model": get_state_dict(model, optimizer)[0]}
    dcp.load(state, checkpoint_id=name)
    whole = {
        key: each.full_tensor() if hasattr(each, "full_tensor") else each
        for key, each in state["model"].items()
    }
    if distributed.get_rank() == 0:
        torch.save(whole, f"{name}-loaded.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    for way in sys.argv[1:]:
        if Path(way).exists():
            _load(way)
        else:
            distributed.barrier()
            WAYS[way](way)
        distributed.barrier()
    os._exit(0)  # gloo's threads may abort a process that ends as usual
