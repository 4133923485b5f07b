"""Hugging Face folders: which files hold the weights, and what lies beside them.

    model.safetensors.index.json or pytorch_model.bin.index.json:
        {"metadata": {...}, "weight_map": {"key": "model-00001-of-00002.safetensors", ...}}
    model.safetensors or pytorch_model.bin, where there is one file

A file in the index is a plain name: no path in a file leaves its folder. In a hub cache
each of them is a link to a blob elsewhere, and links that are there are followed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from reinit_cli.checkpoints.formats.strict_json import JsonError, Pairs, parse_object
from reinit_cli.errors import MalformedFileError, UnreadableSourceError
from reinit_cli.storage.local import InputFile
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import why

INDEX_SUFFIX = ".index.json"
MAX_INDEX_NBYTES = 48 * 2**20
MAX_SHARDS = 10_000
SHARD_NBYTES = 5_000_000_000
"""The tensors' bytes that a new shard has at most, unless one tensor alone has more."""

_PREFERRED = ("model.safetensors", "diffusion_pytorch_model.safetensors", "pytorch_model.bin")
"""What is read where several are there, as transformers prefers them."""

_WEIGHTS = re.compile(
    r"(model|pytorch_model|diffusion_pytorch_model|tf_model|flax_model|consolidated)[.-].*"
    r"(safetensors|bin|pt|pth|h5|msgpack|index\.json)|.*\.safetensors"
)
"""Names of weights that would contradict new ones if they were copied along."""


@dataclass(frozen=True, slots=True)
class Shards:
    """The weights of a folder.

    Attributes:
        folder: the folder.
        index: the name of the index; None where one file holds all.
        files: the names of the files, in the order in which the index names them.
        weight_map: for each key its file; empty without an index.
        others: paths of what else is copied, relative to the folder.
        left_out: other weights and hidden folders, which are not copied.
    """

    folder: str
    index: str | None
    files: tuple[str, ...]
    weight_map: Mapping[str, str]
    others: tuple[str, ...]
    left_out: tuple[str, ...]


def find_shards(path: str) -> Shards:
    """Look into a folder.

    Args:
        path: the folder, or an index in it.

    Raises:
        UnreadableSourceError: it cannot be listed, or holds no weights that can be told.
        MalformedFileError: its index is wrong.
    """
    is_folder = os.path.isdir(path)
    folder = path if is_folder else os.path.dirname(path) or "."
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise UnreadableSourceError(path, why(error)) from error
    index, files = _chosen(path, names) if is_folder else (os.path.basename(path), ())
    weight_map = _weight_map(os.path.join(folder, index)) if index is not None else {}
    files = files or tuple(dict.fromkeys(weight_map.values()))
    own = {*files, index}
    others: list[str] = []
    left_out: list[str] = []
    for name in names:
        if name in own:
            continue
        if _WEIGHTS.fullmatch(name) or (name.startswith(".") and _is_dir(folder, name)):
            left_out.append(name)
        elif _is_dir(folder, name):
            others += _files_below(folder, name)
        else:
            others.append(name)
    return Shards(folder, index, files, weight_map, tuple(others), tuple(left_out))


def _chosen(folder: str, names: list[str]) -> tuple[str | None, tuple[str, ...]]:
    """Return the index, or the one file, that holds the weights of a folder."""
    for name in _PREFERRED:
        if name + INDEX_SUFFIX in names:
            return name + INDEX_SUFFIX, ()
        if name in names:
            return None, (name,)
    indices = [name for name in names if name.endswith(INDEX_SUFFIX)]
    weights = [name for name in names if _WEIGHTS.fullmatch(name)]
    if len(indices) == 1:
        return indices[0], ()
    if not indices and len(weights) == 1:
        return None, (weights[0],)
    found = f"{len(indices or weights)} that could be: " + ", ".join((indices or weights)[:5])
    what = found if indices or weights else "none"
    raise UnreadableSourceError(
        folder, f"a folder needs an index or one file of weights; it has {what}"
    )


def _is_dir(folder: str, name: str) -> bool:
    return os.path.isdir(os.path.join(folder, name))


def _files_below(folder: str, name: str) -> list[str]:
    found = []
    for place, _, names in os.walk(os.path.join(folder, name)):
        found += [os.path.relpath(os.path.join(place, each), folder) for each in sorted(names)]
    return found


def _weight_map(path: str) -> dict[str, str]:
    with InputFile(path) as file:
        if file.nbytes > MAX_INDEX_NBYTES:
            _refuse(path, f"it is longer than {MAX_INDEX_NBYTES:,} bytes")
        data = file.read(0, file.nbytes)
    try:
        members = parse_object(data.strip(b" \n\t\r"), "it", allows_floats=True)
    except JsonError as error:
        _refuse(path, str(error))
    maps = [value for name, value in members if name == "weight_map"]
    if len(maps) != 1 or not isinstance(maps[0], Pairs):
        _refuse(path, "it has no weight_map, or several")
    found: dict[str, str] = {}
    for key, name in maps[0]:
        if key in found:
            _refuse(path, f"it has the key {key!r} twice")
        if not isinstance(name, str) or not _is_plain(name):
            _refuse(path, f"it puts {key!r} into {name!r}, which is no plain file name")
        found[key] = name
    if not found:
        _refuse(path, "its weight_map is empty")
    return found


def _is_plain(name: str) -> bool:
    separators = "/\\\0"
    return (
        name not in ("", ".", "..")
        and not any(char in name for char in separators)
        and not name.endswith(INDEX_SUFFIX)
    )


def _refuse(path: str, problem: str) -> NoReturn:
    raise MalformedFileError(path, problem, "index of shards")


def split(tensors: Sequence[TensorInfo], shard_nbytes: int) -> dict[str, list[TensorInfo]]:
    """Distribute tensors over new files, in their order.

    Args:
        tensors: what the folder will hold.
        shard_nbytes: the most bytes of tensors in a file; a larger one is alone in its own.

    Returns:
        For the name of each file its tensors.
    """
    shards: list[list[TensorInfo]] = [[]]
    nbytes = 0
    for tensor in tensors:
        if shards[-1] and nbytes + tensor.nbytes > shard_nbytes:
            shards.append([])
            nbytes = 0
        shards[-1].append(tensor)
        nbytes += tensor.nbytes
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    return {
        f"model-{at:05d}-of-{len(shards):05d}.safetensors": shard
        for at, shard in enumerate(shards, 1)
    }


def index_of(shards: Mapping[str, Sequence[TensorInfo]]) -> tuple[str, bytes]:
    """Return the name of the index of several new files, and what is in it."""
    weight_map = {tensor.key: name for name, shard in shards.items() for tensor in shard}
    total = sum(tensor.nbytes for shard in shards.values() for tensor in shard)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"
    return f"model.safetensors{INDEX_SUFFIX}", text.encode()


def check_keys(shards: Shards, keys: Mapping[str, tuple[str, ...]]) -> None:
    """Check that every key is in the file that the index names, once, and in no other.

    Args:
        shards: the folder.
        keys: for each file, the keys in it.

    Raises:
        MalformedFileError: the index and the files differ.
    """
    if shards.index is None:
        return
    path = os.path.join(shards.folder, shards.index)
    found: dict[str, str] = {}
    for name, inside in keys.items():
        for key in inside:
            if key in found:
                _refuse(path, f"{key!r} is in {found[key]!r} and in {name!r}")
            if shards.weight_map.get(key) != name:
                _refuse(path, f"{key!r} is in {name!r}, and the index does not say so")
            found[key] = name
    for key, name in shards.weight_map.items():
        if key not in found:
            _refuse(path, f"{key!r} is not in {name!r}")
