"""The layouts of the trainers that write DCP folders, and of the versions of torch."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import sys
import types
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed._shard.sharded_tensor.metadata import TensorProperties as OldProperties
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from reinit_cli import rewrite
from reinit_cli.checkpoints.find import find_source
from reinit_cli.cli import main
from reinit_cli.errors import ReinitError
from tests.checkpoints.formats.dcp.saved import (
    along,
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


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_of_pickles_is_read(protocol: int) -> None:
    folder = save(Path("dcp"), {"model": _model(), "step": 7}, 3, rows)
    before = find_source("dcp/").located
    data = pickle.dumps(metadata_of(folder), protocol)
    (folder / ".metadata").write_bytes(data)

    after = find_source("dcp/").located

    assert before is not None
    assert after is not None
    assert after.tensors == before.tensors
    assert dict(after.places) == dict(before.places)
    assert (after.facts, after.unknown_names) == (before.facts, ())


@pytest.fixture
def megatron(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class that Megatron saved up to version 0.15."""
    name = "megatron.core.dist_checkpointing.strategies.torch"
    module = types.ModuleType(name)
    fields = [("mcore_data", Any, None)]
    made = dataclasses.make_dataclass("MCoreMetadata", fields, bases=(Metadata,))
    made.__module__ = name
    vars(module)["MCoreMetadata"] = made
    for each in accumulate(name.split("."), "{}.{}".format):
        monkeypatch.setitem(sys.modules, each, module)
    return made


def test_what_megatron_saves_is_read_and_its_other_files_go_along(
    megatron: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    state: dict[str, Any] = {
        "decoder.layers.mlp.linear_fc1.weight": torch.randn(2, 6, 4),  # of two layers
        "decoder.layers.mlp.linear_fc1._extra_state/shard_0_2": [io.BytesIO(b"amax")],
    }
    folder = save(Path("iter_0000100"), state, 2, along(1), flat=False)
    metadata = vars(metadata_of(folder))
    extra = {"nd_reformulated_orig_global_shape": (12, 4)}
    write_metadata(folder, megatron(**metadata, mcore_data={"a": extra}))
    torch.save({"args": {"lr": 0.1}}, folder / "common.pt")
    (folder / "metadata.json").write_text('{"sharded_backend": "torch_dist"}')

    key = "decoder.layers.mlp.linear_fc1.weight"
    assert main(["iter_0000100", "-r", f"{key}=normal:std=0.02", "-o", "out"]) == 0

    said = capsys.readouterr().err
    assert "MCoreMetadata" not in said
    for name in ("common.pt", "metadata.json", ".metadata"):
        assert Path("out", name).read_bytes() == (folder / name).read_bytes()
    save_file({key: state[key]}, "m.safetensors")
    rewrite("m.safetensors", [f"{key}=normal:std=0.02"], "new.safetensors")
    rewrite("out", (), "one.safetensors", tensors_only=True)
    assert torch.equal(load_file("one.safetensors")[key], load_file("new.safetensors")[key])


def test_the_folders_of_accelerate_are_named_where_the_one_above_is_meant(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("step").mkdir()
    save(Path("step/pytorch_model_fsdp_0"), {"model": _model()}, 2, rows)
    save(Path("step/optimizer_0"), {"optim": _nested(_model())}, 2, rows)

    assert main(["keys", "step"]) == 2
    assert "pytorch_model_fsdp_0" in capsys.readouterr().err
    assert main(["step/pytorch_model_fsdp_0", "-r", "*.weight=zeros"]) == 0
    after = load(Path("step/pytorch_model_fsdp_0-reinit"))["model"]
    assert not after["layers.0.weight"].any()


def test_a_folder_of_lightning_is_called_like_a_file() -> None:
    folder = save(Path("epoch=3.ckpt"), {"state_dict": _model()}, 2, rows)
    torch.save({"epoch": 3}, folder / "meta.pt")

    rewrite("epoch=3.ckpt", ["*.weight=zeros"])

    out = Path("epoch=3.ckpt-reinit")
    assert (out / "meta.pt").read_bytes() == (folder / "meta.pt").read_bytes()
    assert not load(out)["state_dict"]["layers.0.weight"].any()


def test_objects_come_before_tensors_in_safetensors(capsys: pytest.CaptureFixture[str]) -> None:
    formats = pytest.importorskip("torch.distributed.checkpoint.filesystem")
    if not hasattr(formats, "SerializationFormat"):
        pytest.skip("torch has them since 2.8")
    options = {"serialization_format": formats.SerializationFormat.SAFETENSORS}
    save(Path("dcp"), {"model": _model(), "step": 7, "args": {"lr": 0.1}}, 2, rows, **options)

    assert main(["keys", "dcp", "--meta"]) == 0
    assert "step\tint\t7" in capsys.readouterr().out
    rewrite("dcp", ["layers.0.weight=normal"], "out")

    data = {each.name: each.read_bytes() for each in Path("dcp").iterdir()}
    changed = [name for name in data if Path("out", name).read_bytes() != data[name]]
    assert changed
    assert all(len(data[name]) == Path("out", name).stat().st_size for name in data)
    save_file(_model(), "m.safetensors")
    rewrite("m.safetensors", ["layers.0.weight=normal"], "new.safetensors")
    rewrite("out", (), "one.safetensors", tensors_only=True)
    want = load_file("new.safetensors")["layers.0.weight"]
    assert torch.equal(load_file("one.safetensors")["layers.0.weight"], want)


def test_two_pieces_of_a_tensor_in_one_file_of_safetensors_are_refused() -> None:
    """Torch writes both under one name, so that the first is lost."""
    folder = save(Path("dcp"), {"a.weight": torch.randn(6, 4)}, 2, rows)
    metadata = metadata_of(folder)
    save_file({"a.weight": torch.randn(3, 4)}, folder / "__0_0.distcp")
    places = {
        index: dataclasses.replace(info, relative_path="__0_0.distcp", offset=0, length=48)
        for index, info in metadata.storage_data.items()
    }
    write_metadata(folder, dataclasses.replace(metadata, storage_data=places))

    with pytest.raises(ReinitError, match="overlaps"):
        find_source("dcp")


@pytest.mark.slow
def test_at_most_64_files_are_open() -> None:
    """torchtune has a file for each item, more than a process may open together."""
    import resource

    state = {f"layers.{at}.bias": torch.full((2,), float(at)) for at in range(1000)}
    save(Path("dcp"), state, 1, rows, single_file_per_rank=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ours = len(os.listdir("/proc/self/fd")) + 20  # outputs, and what Python opens
    resource.setrlimit(resource.RLIMIT_NOFILE, (64 + ours, hard))
    try:
        rewrite("dcp/", ["layers.1*=zeros"], "out")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    after = load(Path("out"))
    expected = {
        key: torch.zeros(2) if key.startswith("layers.1") else each for key, each in state.items()
    }
    assert all(torch.equal(after[key], each) for key, each in expected.items())
