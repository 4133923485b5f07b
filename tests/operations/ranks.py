"""Write outputs by several ranks: threads of this process, or processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from reinit_cli import rewrite
from reinit_cli.errors import ReinitError
from reinit_cli.operations.rewrite import Outcome
from tests.checkpoints.formats.dcp.saved import columns, grid, rows, save, save_shards

REINIT = (sys.executable, "-m", "reinit_cli")
RUN_ID = "a run"

Ended = tuple[int, str, str]
"""The exit code of a process, and what it wrote to standard output and standard error."""


def rewrite_together(
    count: int, source: str, rules: Sequence[str], output: str, **options: Any
) -> list[Outcome]:
    """Rewrite a checkpoint by ranks that are threads, and return what each of them did."""
    together = {"world_size": count, "run_id": RUN_ID, "timeout": 60.0}

    def one(rank: int) -> Outcome:
        return rewrite(source, rules, output, rank=rank, **{**together, **options})

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def begin(
    count: int, *args: str, ranks: Iterable[int] | None = None, timeout: float = 60, **popen: Any
) -> list[subprocess.Popen[str]]:
    """Begin the processes of a run, or some of them."""
    together = ("--world-size", str(count), "--run-id", RUN_ID, "--timeout", str(timeout))
    return [
        begin_command(*args, "--rank", str(rank), *together, **popen)
        for rank in (range(count) if ranks is None else ranks)
    ]


def begin_command(*args: str, **popen: Any) -> subprocess.Popen[str]:
    """Begin a command."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen((*REINIT, *args), **{**pipes, **popen})


def ended(processes: Iterable[subprocess.Popen[str]]) -> list[Ended]:
    """Wait for processes."""
    said = [(process, *process.communicate(timeout=120)) for process in processes]
    return [(process.returncode, out, error) for process, out, error in said]


def tree(path: str | Path) -> Mapping[str, bytes | None]:
    """Return the bytes of a file, or of all that a folder holds, hidden files too."""
    path = Path(path)
    if path.is_file():
        return {"": path.read_bytes()}
    return {
        str(each.relative_to(path)): each.read_bytes() if each.is_file() else None
        for each in sorted(path.rglob("*"))
    }


def left_by(path: str | Path) -> list[str]:
    """Return the names in a folder of all that has a dot before it."""
    return sorted(name for name in os.listdir(path) if name.startswith("."))


def state_dict(seed: int = 5) -> dict[str, Tensor]:
    """Return tensors of several dtypes and shapes, one of which is large."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.empty(shape).normal_(generator=generator)

    return {
        "emb.weight": drawn(700, 320),
        "layers.0.weight": drawn(60, 40).bfloat16(),
        "layers.0.bias": drawn(70),
        "layers.1.weight": drawn(40, 60).half(),
        "conv.weight": drawn(8, 6, 3, 3),
        "wide.weight": drawn(30, 20).double(),
        "steps": torch.tensor(7),
        "none.weight": torch.empty(0, 4),
        "norm.running_mean": drawn(5),
    }


def make_sources() -> None:
    """Write the same tensors in every format."""
    state = state_dict()
    save_file(state, "m.safetensors", {"format": "pt"})
    tied = {**state, "turned.weight": torch.arange(48.0).reshape(6, 8).T}
    tied["head.weight"] = tied["emb.weight"]
    model = {"state_dict": tied, "epoch": 3, "args": {"lr": 0.1}}
    torch.save(model, "m.pt")
    torch.save(model, "legacy.pt", _use_new_zipfile_serialization=False)
    for name, kind in (("hf", "safetensors"), ("hf-bin", "bin")):
        _make_shards(Path(name), state, kind)
    nested = {"model": state, "optim": {"step": 3}}
    save(Path("dcp-rows"), nested, 3, rows)
    save(Path("dcp-columns"), nested, 3, columns)
    save(Path("dcp-grid"), nested, 4, grid)
    flat = {key: tensor for key, tensor in state.items() if tensor.ndim}
    save_shards(Path("hf-ranks"), flat, 3, rows)
    other = state_dict(6)["emb.weight"]
    save_file({"emb.weight": other}, "donor.safetensors")
    save_file({"emb.weight": other > 0}, "mask.safetensors")
    np.save("emb.npy", other.numpy())


def _make_shards(folder: Path, state: Mapping[str, Tensor], kind: str) -> None:
    stem = "model" if kind == "safetensors" else "pytorch_model"
    (folder / "tokens").mkdir(parents=True)
    (folder / "tokens" / "vocabulary.txt").write_text("a\nb\n")
    (folder / "config.json").write_text("{}")
    places = {}
    for at in range(3):
        name = f"{stem}-0000{at + 1}-of-00003.{kind}"
        part = dict(list(state.items())[at::3])
        if kind == "safetensors":
            save_file(part, folder / name, {"format": "pt"})
        else:
            torch.save(part, folder / name)
        places |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / f"{stem}.{kind}.index.json").write_text(json.dumps(index))


def failures_of_ranks(*ranks: Mapping[str, Any], **options: Any) -> list[str]:
    """Rewrite by ranks that are threads, each with options of its own; return their errors.

    Args:
        ranks: the arguments of `rewrite` in which each differs from the others.
        options: those that all have.

    Returns:
        For each rank its error as people read it, or "" where it has none.
    """
    common = {"world_size": len(ranks), "run_id": RUN_ID, "timeout": 60.0, **options}

    def one(rank: int) -> str:
        try:
            rewrite(**{"rank": rank, **common, **ranks[rank]})
        except ReinitError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(ranks)) as pool:
        return list(pool.map(one, range(len(ranks))))
