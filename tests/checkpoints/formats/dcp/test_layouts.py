"""The layouts of the trainers that write DCP folders, and of the versions of torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed._shard.sharded_tensor.metadata import TensorProperties as OldProperties
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from reinit_cli import rewrite
from reinit_cli.checkpoints.find import find_source
from tests.checkpoints.formats.dcp.saved import (
    flat_tensors,
    load,
    metadata_of,
    rows,
    save,
    write_metadata,
)


def _model() -> dict[str, Tensor]:
    return {"layers.0.weight": torch.randn(6, 4), "layers.0.bias": torch.randn(6)}


def _slots(model: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    return {
        key: {
            "step": torch.tensor(3.0),
            "exp_avg": torch.ones_like(each),
            "exp_avg_sq": torch.ones_like(each),
        }
        for key, each in model.items()
    }


def _nested(model: dict[str, Tensor]) -> dict[str, Any]:
    groups = [{"lr": 0.1, "betas": (0.9, 0.95), "params": [*model]}]
    return {"state": _slots(model), "param_groups": groups}


def _flat(model: dict[str, Tensor]) -> dict[str, Any]:
    """Return an optimizer as `get_optimizer_state_dict` flattens it, which torchtitan asks for."""
    slots = {
        f"state.{key}.{slot}": each
        for key, of in _slots(model).items()
        for slot, each in of.items()
    }
    return slots | {f"param_groups.{key}.lr": 0.1 for key in model}


def _layouts() -> dict[str, tuple[dict[str, Any], str, str]]:
    """Return for each trainer what it saves, the root, and the path of the optimizer's state."""
    model = _model()
    return {
        "torchtitan": (
            {**model, "optimizer": _flat(model), "train_state": {"step": 3}, "dataloader": b"x"},
            "",
            "optimizer",
        ),
        "torchtune": ({"model": model, "optim": _nested(model), "epoch": 1}, "model", "optim"),
        "Lightning": (
            {"state_dict": model, "optimizer_0": _nested(model)},
            "state_dict",
            "optimizer_0",
        ),
        "accelerate": ({"model": model}, "model", ""),
        "model and app": (
            {"app": {"model": model, "optim": _nested(model)}},
            "app.model",
            "app.optim",
        ),
    }


@pytest.mark.parametrize("trainer", _layouts())
def test_the_model_is_found_in_what_a_trainer_saves(trainer: str) -> None:
    state, root, optimizer = _layouts()[trainer]
    save(Path("dcp"), state, 2, rows)

    located = find_source("dcp/").located
    assert located is not None
    assert located.root == root
    keys = [each.key for each in located.tensors if not each.is_no_tensor]
    assert keys == ["layers.0.weight", "layers.0.bias"]
    assert [each.path for each in located.optimizers] == ([optimizer] if optimizer else [])

    rewrite("dcp/", ["layers.0.weight=ones"], "out", reset_optimizer=bool(optimizer))

    before, after = flat_tensors(load(Path("dcp"))), flat_tensors(load(Path("out")))
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    prefix = f"{root}." if root else ""
    of = f"{optimizer}.state.layers.0.weight."
    slots = {of + slot for slot in ("step", "exp_avg", "exp_avg_sq")} if optimizer else set()
    assert changed == {f"{prefix}layers.0.weight", *slots}


def test_a_state_dict_without_paths_has_the_names_as_keys() -> None:
    save(Path("dcp"), _model(), 2, rows, flat=False)

    assert [each.key for each in find_source("dcp/").tensors] == list(_model())


def test_folders_of_torch_2_1_are_read() -> None:
    """TensorProperties lay elsewhere, and there was no storage_meta."""
    folder = save(Path("dcp"), {"model": _model()}, 2, rows)
    metadata = metadata_of(folder)
    tensors = {}
    for fqn, each in metadata.state_dict_metadata.items():
        assert isinstance(each, TensorStorageMetadata)
        old = OldProperties(dtype=each.properties.dtype)
        tensors[fqn] = dataclasses.replace(each, properties=old)  # type: ignore[arg-type]
    write_metadata(
        folder, dataclasses.replace(metadata, state_dict_metadata=tensors, storage_meta=None)
    )

    located = find_source("dcp/").located

    assert located is not None
    assert located.unknown_names == ()
    assert {each.key: each.dtype for each in located.tensors} == dict.fromkeys(_model(), "float32")


@pytest.mark.slow
def test_files_are_opened_when_needed() -> None:
    """torchtune has a file for each item, more than a process may open together."""
    import resource

    state = {f"layers.{at}.bias": torch.full((2,), float(at)) for at in range(300)}
    save(Path("dcp"), state, 1, rows, single_file_per_rank=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        rewrite("dcp/", ["layers.1*=zeros"], "out")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    after = load(Path("out"))
    expected = {
        key: torch.zeros(2) if key.startswith("layers.1") else each for key, each in state.items()
    }
    assert all(torch.equal(after[key], each) for key, each in expected.items())
