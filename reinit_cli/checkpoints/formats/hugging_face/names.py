"""Tell what files of a folder are from their names."""

from __future__ import annotations

import re

INDEX_SUFFIX = ".index.json"
"""How the name of an index of shards ends."""

WEIGHTS = re.compile(
    r"(model|pytorch_model|diffusion_pytorch_model|tf_model|flax_model|consolidated)[.-].*"
    r"(safetensors|bin|pt|pth|h5|msgpack|index\.json)|.*\.safetensors"
)
"""Names of weights that would contradict new ones if they were copied along."""


def is_index(name: str) -> bool:
    """Whether a file is an index of shards."""
    return name.endswith(INDEX_SUFFIX)


def is_plain(name: str) -> bool:
    """Whether an index may name such a file: it lies in the same folder."""
    separators = "/\\\0"
    return (
        name not in ("", ".", "..")
        and not any(char in name for char in separators)
        and not is_index(name)
    )
