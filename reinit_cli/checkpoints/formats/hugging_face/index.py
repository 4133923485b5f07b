"""Read the index of a folder's shards, compare it with them, and make new ones."""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import NoReturn

from reinit_cli.checkpoints.formats.base import Fault, Files
from reinit_cli.checkpoints.formats.foreign import LOOKED_AT_NBYTES, foreign, refused
from reinit_cli.checkpoints.formats.hugging_face.names import (
    Series,
    is_plain,
    series_of,
    shard_number,
)
from reinit_cli.checkpoints.formats.strict_json import JsonError, Pairs, parse_object
from reinit_cli.errors import MalformedFileError, UnreadableSourceError
from reinit_cli.storage.reader import Reader
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.text import listed, quoted

MAX_INDEX_NBYTES = 48 * 2**20

MAX_TOTAL = 2**63
"""More bytes than any checkpoint has; `inf` cannot be an integer."""

_MOST_NAMED = 3
"""How many faults of a kind are named."""

_MOST_SHARDS = 100_000
"""More shards than any checkpoint has; a name can speak of any number."""


class BrokenIndexError(MalformedFileError):
    """An index that says nothing of any key, such as one that was cut off."""

    def __init__(self, path: str, problem: str) -> None:
        """Say what is wrong with it."""
        super().__init__(path, problem, "index of shards")


def weight_map_of(file: Reader) -> dict[str, str]:
    """Return for each key the file that an index names.

    Raises:
        BrokenIndexError: it says nothing of any key.
        MalformedFileError: it is not an index, or names a file elsewhere.
        UnsupportedFormatError: a download left something else in its place.
    """
    path, members = file.path, _members_of(file)
    maps = [value for name, value in members if name == "weight_map"]
    if len(maps) != 1 or not isinstance(maps[0], Pairs):
        raise BrokenIndexError(path, "it has no weight_map, or several")
    found: dict[str, str] = {}
    for key, name in maps[0]:
        if key in found:
            _refuse(path, f"it has the key {key!r} twice")
        if not isinstance(name, str) or not is_plain(name):
            _refuse(path, f"it puts {key!r} into {name!r}, which is not a plain file name")
        found[key] = name
    if not found:
        raise BrokenIndexError(path, "its weight_map is empty")
    return found


def _members_of(file: Reader) -> Pairs:
    if file.nbytes > MAX_INDEX_NBYTES:
        _refuse(file.path, f"it is longer than {MAX_INDEX_NBYTES:,} bytes")
    data = file.read(0, file.nbytes)
    if not data.strip():
        raise BrokenIndexError(file.path, "it is empty")
    try:
        return parse_object(data.strip(b" \n\t\r"), "it", allows_floats=True)
    except JsonError as error:
        other = foreign(file.path, data[:LOOKED_AT_NBYTES])
        if other is not None and other.is_stand_in and not data.lstrip().startswith(b"{"):
            raise refused(file.path, other) from None
        raise BrokenIndexError(file.path, str(error)) from error


def faults_of(
    index: str,
    weight_map: Mapping[str, str],
    found: Mapping[str, str],
    files: Container[str],
    dead: Container[str],
) -> tuple[Fault, ...]:
    """Return everything in which an index differs from the files.

    Args:
        index: its name.
        weight_map: for each key the file that it names.
        found: for each key the file that has it.
        files: the names of those that were found.
        dead: the names of links that lead nowhere.
    """
    if found == weight_map:
        return ()
    named = weight_map.items()
    absent = [(name,) for name in dict.fromkeys(weight_map.values()) if name not in files]
    moved = [(key, found[key], name) for key, name in named if found.get(key, name) != name]
    lost = [(key, name) for key, name in named if key not in found and name in files]
    extra = [(key, name) for key, name in found.items() if key not in weight_map]
    problems = (
        _some("{} does not exist", [row for row in absent if row[0] not in dead]),
        _some("{} is a link that leads nowhere", [row for row in absent if row[0] in dead]),
        _some("{} is in {}, not in {}", moved),
        _some("{} is not in {}", lost),
        _some("it lacks {} of {}", extra),
    )
    return tuple(Fault(f"{quoted(index)}: {problem}") for problem in problems if problem)


def none_there(files: Files, index: str, named: Iterable[str]) -> UnreadableSourceError:
    """Return the error for an index that names no file that exists."""
    problem = _some("{}", [(name,) for name in named])
    return UnreadableSourceError(
        os.path.join(files.path, index), f"none of the files that it names exists: {problem}"
    )


def faults_without(shards: Sequence[str], broken: str = "") -> tuple[Fault, ...]:
    """Return what shards without an index lack, as far as their names tell.

    Args:
        shards: their names.
        broken: why an index that there is says nothing of them.
    """
    lack = Fault(broken or "it has no index of its shards", is_lack_alone=not broken)
    return (lack, *_gaps(shards))


def files_of_keys(path: str, shards: Mapping[str, Sequence[TensorInfo]]) -> dict[str, str]:
    """Return for each key the file that has it.

    Args:
        path: the folder.
        shards: the tensors of each file.

    Raises:
        MalformedFileError: one is in two, and nothing says which is meant.
    """
    found: dict[str, str] = {}
    for name, tensors in shards.items():
        for tensor in tensors:
            if tensor.key in found:
                problem = f"{tensor.key!r} is in {found[tensor.key]!r} and in {name!r}"
                raise MalformedFileError(path, problem, "set of shards")
            found[tensor.key] = name
    return found


def _gaps(shards: Sequence[str]) -> Iterator[Fault]:
    series = series_of(shards[0])
    there = {shard_number(name) for name in shards}
    if series is not None and series.shards <= _MOST_SHARDS:
        numbers = (at for at in range(1, series.shards + 1) if at not in there)
        gone = _some("{} does not exist", [(series.shard(at, series.shards),) for at in numbers])
        if gone:
            yield Fault(gone)


def _some(form: str, rows: Sequence[tuple[str, ...]]) -> str:
    said = [form.format(*map(quoted, row)) for row in rows[:_MOST_NAMED]]
    more = [f"{len(rows) - _MOST_NAMED:,} more like that"] if len(rows) > _MOST_NAMED else []
    return listed([*said, *more]) if rows else ""


def split(
    tensors: Sequence[TensorInfo], shard_nbytes: int, names: Series
) -> dict[str, list[TensorInfo]]:
    """Distribute tensors over new files, in their order.

    Args:
        tensors: what the folder will hold.
        shard_nbytes: the most bytes of tensors in a file; a larger one is alone in its own.
        names: how the files are called.

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
        return {names.file: shards[0]}
    return {names.shard(at, len(shards)): shard for at, shard in enumerate(shards, 1)}


def index_text(shards: Mapping[str, Sequence[TensorInfo]], old: Reader | None = None) -> bytes:
    """Return the index of files of weights.

    Args:
        shards: the tensors of each.
        old: the index that it replaces, whose other metadata stays.
    """
    weight_map = {tensor.key: name for name, shard in shards.items() for tensor in shard}
    total = sum(tensor.nbytes for shard in shards.values() for tensor in shard)
    metadata = {**(_metadata_of(old) if old is not None else {}), "total_size": total}
    index = {"metadata": metadata, "weight_map": weight_map}
    return (json.dumps(index, indent=2, sort_keys=True) + "\n").encode()


def total_nbytes(file: Reader) -> int | None:
    """Return the bytes of all tensors as an index says; None where it does not.

    Raises:
        MalformedFileError: it is not an index.
    """
    total = _metadata_of(file).get("total_size")
    return int(total) if isinstance(total, int | float) and 0 <= total < MAX_TOTAL else None


def _metadata_of(file: Reader) -> dict[str, object]:
    """Return the texts and numbers that an index holds besides the map, as far as it is whole."""
    try:
        members = dict(_members_of(file))
    except BrokenIndexError:
        return {}
    metadata = members.get("metadata")
    pairs = metadata if isinstance(metadata, Pairs) else ()
    return {name: value for name, value in pairs if isinstance(value, str | int | float | bool)}


def _refuse(path: str, problem: str) -> NoReturn:
    raise MalformedFileError(path, problem, "index of shards")
