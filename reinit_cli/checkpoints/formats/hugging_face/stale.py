"""Tell which files of a folder would contradict new weights, and are not copied next to them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from reinit_cli.checkpoints.formats.base import Files, Located
from reinit_cli.checkpoints.formats.hugging_face.choice import Sets
from reinit_cli.checkpoints.formats.hugging_face.names import PEFT_STEM, is_training_state

_PLACES = (
    r"(?i)(original|onnx|openvino|coreml|tflite|gguf|ggml|flax|tensorflow|checkpoint-[\w.-]+|"
    r"global_step\d+|pytorch_model_fsdp_\d+|[^/]+\.mlpackage)/"
)
"""Folders that hold the same weights in another format, or those of another time."""

_FORMATS = (
    r"(?is).*\.(gguf|ggml|llamafile|onnx|onnx_data\w*|onnx\.data|ort|h5|hdf5|keras|msgpack|tflite|"
    r"mlmodel|ot|pdparams|pdopt|pdiparams|pdmodel|pb|pte|t7|engine|plan|trt|nemo|mar|"
    r"ckpt\.(index|meta)|data-\d{5}-of-\d{5})|(.*/)?(openvino_\w+\.(xml|bin)|variables\.index|"
    r"(model|weights)(\.\d+)?\.npz|(__\d+)?\.metadata)|.*\.distcp"
)
"""Names of weights in formats that are not read."""

_SHARDED_OPTIMIZER = r"optimizer_\d+/"

_LEFT_OUT_BEFORE = (
    r"(model|pytorch_model|diffusion_pytorch_model|tf_model|flax_model|consolidated)[.-].*"
    r"(safetensors|bin|pt|pth|h5|msgpack|index\.json)|.*\.safetensors"
)
"""Names that stood for other weights until `--copy` came, in the folder itself alone."""


def stale_of(files: Files, read: Collection[str | None], sets: Sets) -> dict[str, int]:
    """Return the files that hold other weights, or the same in another format, with their sizes.

    A folder below may hold a component of the model, which has weights of its own.

    Args:
        files: those of a folder.
        read: the names of those that are read.
        sets: the sets of weights that it has, folders below left out.
    """
    own = {*read, *files.outside, *_adapters(files, read, sets)}
    places, formats = re.compile(_PLACES), re.compile(_FORMATS)
    return {
        name: file.nbytes
        for name, file in files.readers.items()
        if name in sets.likely or places.match(name) or formats.fullmatch(name)
        if name not in own
    }


def _adapters(files: Files, read: Collection[str | None], sets: Sets) -> set[str]:
    """Return the weights of an adapter next to those that are read.

    Its configuration goes along, and transformers fails where it finds that alone.
    """
    found = {each.name for each in sets.lone if each.series.stem == PEFT_STEM}
    return found if "adapter_config.json" in files.readers and found.isdisjoint(read) else set()


def training_of(files: Files) -> tuple[str, ...]:
    """Return the files that fit only weights of the same keys and shapes."""
    return tuple(
        name
        for name in files.readers
        if is_training_state(name) or re.match(_SHARDED_OPTIMIZER, name) is not None
    )


def copied_before(located: Located) -> Located:
    """Return a folder with the files that went along until `--copy` came: records are of them."""
    is_stale = re.compile(_LEFT_OUT_BEFORE).fullmatch
    others = [name for name in located.others if "/" in name or not is_stale(name)]
    others += [name for name in located.stale if "/" in name or not is_stale(name)]
    return replace(located.with_others(tuple(others)), fitting=(), stale={})
