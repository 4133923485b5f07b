"""Read the index of a folder's shards, compare it with them, and make new ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NoReturn

from reinit_cli.checkpoints.formats.hugging_face.names import INDEX_SUFFIX, is_plain
from reinit_cli.checkpoints.formats.strict_json import JsonError, Pairs, parse_object
from reinit_cli.errors import MalformedFileError
from reinit_cli.storage.reader import Reader
from reinit_cli.tensors.info import TensorInfo

MAX_INDEX_NBYTES = 48 * 2**20


def weight_map_of(file: Reader) -> dict[str, str]:
    """Return for each key the file that an index names."""
    path = file.path
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
        if not isinstance(name, str) or not is_plain(name):
            _refuse(path, f"it puts {key!r} into {name!r}, which is no plain file name")
        found[key] = name
    if not found:
        _refuse(path, "its weight_map is empty")
    return found


def check_keys(
    path: str, weight_map: Mapping[str, str], shards: Mapping[str, Sequence[TensorInfo]]
) -> None:
    """Check that every key is in the file that the index names, once, and in no other.

    Args:
        path: the index.
        weight_map: for each key the file that it names.
        shards: the tensors of each file.

    Raises:
        MalformedFileError: the index and the files differ.
    """
    found: dict[str, str] = {}
    for name, tensors in shards.items():
        for key in (tensor.key for tensor in tensors):
            if key in found:
                _refuse(path, f"{key!r} is in {found[key]!r} and in {name!r}")
            if weight_map.get(key) != name:
                _refuse(path, f"{key!r} is in {name!r}, and the index does not say so")
            found[key] = name
    for key, name in weight_map.items():
        if key not in found:
            _refuse(path, f"{key!r} is not in {name!r}")


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


def _refuse(path: str, problem: str) -> NoReturn:
    raise MalformedFileError(path, problem, "index of shards")
