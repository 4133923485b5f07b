"""Make folders with several sets of weights, and compare what libraries load with what we read.

It runs in forked children of a process that has imported the libraries, see
`test_library_folders`.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft.utils.save_and_load import load_peft_weights
from safetensors.torch import save_file
from torch import Tensor

from reinit_cli import stats
from reinit_cli.cli import main
from tests.checkpoints.formats.libraries import MODELS

State = dict[str, Tensor]


def _write(state: State, name: str) -> None:
    """Write a state dict as the file of a name, or as a shard with an index of that name."""
    stem, kind, *rest = name.split(".")
    save: Callable[[State, str], object] = torch.save
    if kind == "safetensors":
        save = lambda state, path: save_file(state, path, {"format": "pt"})  # noqa: E731
    if rest:
        shard = f"{stem}-00001-of-00001.{kind}"
        save(state, f"folder/{shard}")
        index = {"metadata": {}, "weight_map": dict.fromkeys(state, shard)}
        Path("folder", name).write_text(json.dumps(index))
    else:
        save(state, f"folder/{name}")


def _filled(model: Any, number: float) -> State:
    """Return the state dict of a model with a number everywhere, without its ties."""
    full = {key: torch.full_like(tensor, number) for key, tensor in model.state_dict().items()}
    return {key: tensor for key, tensor in full.items() if "decoder.weight" not in key}


def compare_choice(name: str, said: str) -> None:
    """Compare which of each two sets of weights is loaded by a library, and read by us.

    Args:
        name: a name of `MODELS`.
        said: JSON: the names that stand for the sets.
    """
    model = MODELS[name]()
    key = next(key for key in model.state_dict() if key.endswith("weight"))
    for pair in itertools.permutations(json.loads(said), 2):
        shutil.rmtree("folder", ignore_errors=True)
        model.save_pretrained("folder")
        for path in Path("folder").glob("*model*.safetensors"):
            path.unlink()
        for number, each in enumerate(pair, 1):
            _write(_filled(model, number), each)

        loaded = type(model).from_pretrained("folder").state_dict()[key]

        assert _read("folder", key) == float(loaded.flatten()[0]), pair


def compare_adapters() -> None:
    """Compare which of two files of an adapter PEFT loads, and we read."""
    Path("folder").mkdir()
    for number, name in enumerate(("adapter_model.bin", "adapter_model.safetensors"), 1):
        _write({"a.lora_A.weight": torch.full((2, 2), float(number))}, name)

    loaded = load_peft_weights("folder", device="cpu")["a.lora_A.weight"]

    assert _read("folder", "a.lora_A.weight") == float(loaded[0, 0]) == 2


def _read(folder: str, key: str) -> float | None:
    (found,) = stats(folder, [key])
    return found.statistics.finite.mean


def load_variant(name: str, said: str) -> None:
    """Convert a folder that holds a variant, and load it as that.

    Args:
        name: a name of `MODELS`.
        said: JSON: how the folder is saved, and the options of the command.
    """
    asked = json.loads(said)
    model = MODELS[name]()
    model.save_pretrained("before", variant="fp16", **asked["saved"])
    assert main(["run", "before", "-o", "after", *asked["argv"]]) == 0

    dtype = getattr(torch, asked["dtype"])
    _assert_alike(model, "after", variant="fp16", torch_dtype=dtype)


def load_mended(name: str, said: str) -> None:
    """Take the index of a folder's shards away, write the folder with a new one, and load it.

    Args:
        name: a name of `MODELS`.
        said: JSON: the name of the index.
    """
    model = MODELS[name]()
    model.save_pretrained("before", max_shard_size="8KB")
    Path("before", json.loads(said)).unlink()
    assert main(["run", "before", "--fix-index", "-o", "after"]) == 0

    _assert_alike(model, "after")


def load_after(name: str, said: str) -> None:
    """Run a command on a folder, and load what it writes.

    Args:
        name: a name of `MODELS`.
        said: JSON: the options.
    """
    model = MODELS[name]()
    model.save_pretrained("before")
    names: Sequence[str] = json.loads(said)
    assert main(["run", "before", "-o", "after", *names]) == 0

    _assert_alike(model, "after")


def _assert_alike(model: Any, folder: str, **options: Any) -> None:
    """Load a folder, and compare each tensor with that of a model, cast as it is loaded."""
    loaded = type(model).from_pretrained(folder, **options).state_dict()
    before = model.state_dict()
    assert list(loaded) == list(before)
    for key, tensor in before.items():
        assert torch.equal(loaded[key], tensor.to(loaded[key].dtype)), key
