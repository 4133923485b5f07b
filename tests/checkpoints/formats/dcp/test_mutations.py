"""A mutated folder is refused with an error of ours, or read as torch reads it, if it does."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from reinit_cli.checkpoints.find import find_source
from reinit_cli.checkpoints.formats.base import Files
from reinit_cli.checkpoints.formats.dcp.metadata import read_metadata
from reinit_cli.checkpoints.formats.dcp.places import Places
from reinit_cli.errors import ReinitError
from reinit_cli.storage.local import InputFile
from tests.checkpoints.formats.dcp.saved import grid, metadata_of, save, save_shards

MUTATIONS = 1_000

Read = dict[str, tuple[Any, ...]]


def _mutated(data: bytes, dice: random.Random) -> bytes:
    """Change, copy, take out or repeat some bytes."""
    new = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        at, length = dice.randrange(len(new)), dice.choice((1, 1, 2, 4, 20))
        match dice.randrange(5):
            case 0:
                new[at] = dice.randrange(256)
            case 1:
                new[at] ^= 1 << dice.randrange(8)
            case 2:
                del new[at : at + length]
            case 3:
                new[at:at] = new[at : at + length]
            case 4:
                there = dice.randrange(len(new))
                new[at : at + length] = new[there : there + length]
    return bytes(new)


def _ours(path: Path) -> Read | None:
    """Return what we read; None where a name would be imported that is not known."""
    with InputFile(str(path)) as file:
        found = read_metadata(file)
    if found.unknown_names:
        return None
    return {
        fqn: (
            stored.dtype,
            stored.shape,
            [
                (*each.chunk, each.file, each.offset, each.nbytes)
                for each in stored.pieces
                if each.chunk
            ],
        )
        for fqn, stored in found.tensors.items()
    } | {fqn: (each.file, each.offset, each.nbytes) for fqn, each in found.objects.items()}


def _theirs(data: bytes) -> Read:
    found = pickle.loads(data)
    places = found.storage_data
    index = type(next(iter(places)))
    read: Read = {}
    for fqn, each in found.state_dict_metadata.items():
        if not hasattr(each, "chunks"):
            info = places[index(fqn)]
            read[fqn] = info.relative_path, info.offset, info.length
            continue
        pieces = []
        for chunk in each.chunks:
            info = places[index(fqn, chunk.offsets)]
            where = info.relative_path, info.offset, info.length
            pieces.append((tuple(chunk.offsets), tuple(chunk.sizes), *where))
        dtype = str(each.properties.dtype).removeprefix("torch.")
        read[fqn] = dtype, tuple(each.size), pieces
    return read


def _apart(call: Callable[[], Any]) -> Any:
    """Return what a call gives in a process of its own, which may hang or crash there."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reading)
            os.close(2)
            import signal

            signal.alarm(10)
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(call(), pipe)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(data) if data else None


@pytest.fixture
def folder() -> Path:
    state = {
        "model": {
            "a.weight": torch.randn(6, 4),
            "b.bias": torch.randn(3).half(),
            "c": torch.ones(()),
        },
        "step": 7,
    }
    return save(Path("dcp"), state, 4, grid)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mutated_metadata_is_refused_or_read_as_torch_reads_it(folder: Path) -> None:
    data = (folder / ".metadata").read_bytes()
    dice = random.Random(7)
    count = 0
    for _ in range(MUTATIONS):
        mutated = _mutated(data, dice)
        Path("mutated").write_bytes(mutated)
        try:
            ours = _ours(Path("mutated"))
        except ReinitError:
            continue
        theirs = _apart(partial(_theirs, mutated)) if ours is not None else None
        if theirs is not None:  # torch refuses other forms of memory, say, which nobody reads
            count += 1
            assert theirs == ours
    assert count > MUTATIONS // 100


@pytest.mark.slow
def test_mutated_pieces_are_refused_or_read_as_torch_reads_them(folder: Path) -> None:
    info = next(
        info
        for key, info in metadata_of(folder).storage_data.items()
        if key.fqn == "model.a.weight"
    )
    name = folder / info.relative_path
    data = name.read_bytes()
    span = slice(info.offset, info.offset + info.length)
    with InputFile(str(folder / ".metadata")) as file:
        stored = read_metadata(file).tensors["model.a.weight"]
    dice = random.Random(8)
    count = 0
    for _ in range(MUTATIONS):
        piece = bytearray(data[span])
        for _ in range(dice.choice((1, 1, 2, 5))):
            piece[dice.randrange(len(piece))] ^= 1 << dice.randrange(8)
        name.write_bytes(data[: span.start] + bytes(piece) + data[span.stop :])
        readers = {each.name: InputFile(str(each)) for each in folder.glob("*.distcp")}
        try:
            places = Places({"a": stored}, Files("dcp", readers))["a"]
        except ReinitError:
            continue
        finally:
            for reader in readers.values():
                reader.close()
        count += 1
        place = next(
            each
            for each in places
            if span.start <= each.offset < span.stop and each.file == name.name
        )
        elements = name.read_bytes()[place.offset : place.offset + place.nbytes]
        ours = torch.frombuffer(bytearray(elements), dtype=torch.float32)

        def theirs(given: bytes = bytes(piece)) -> Any:
            return torch.load(io.BytesIO(given), weights_only=True).reshape(-1).tolist()

        found = _apart(theirs)
        if found is not None:
            assert struct.pack(f"{len(found)}f", *found) == ours.numpy().tobytes()
    assert count > MUTATIONS // 100


@pytest.mark.slow
def test_a_mutated_folder_is_read_or_refused_with_an_error_of_ours(folder: Path) -> None:
    data = (folder / ".metadata").read_bytes()
    dice = random.Random(9)
    refused = 0
    for _ in range(MUTATIONS):
        (folder / ".metadata").write_bytes(_mutated(data, dice))
        try:
            located = find_source("dcp/").located
            assert located is not None
            for key in located.places:
                assert located.places[key]
        except ReinitError:
            refused += 1
    assert MUTATIONS // 2 < refused < MUTATIONS


def _shards_of_ours(path: Path) -> Read:
    found = find_source(str(path)).located
    assert found is not None
    return {
        each.key: (each.dtype, each.shape, sorted(map(repr, found.pieces[each.key])))
        for each in found.tensors
    }


def _shards_of_torch(path: Path) -> Read:
    from torch.distributed.checkpoint import HuggingFaceStorageReader

    found = HuggingFaceStorageReader(str(path)).read_metadata()
    files = {(index.fqn, *(index.offset or ())): info for index, info in found.storage_data.items()}
    read: Read = {}
    for fqn, each in found.state_dict_metadata.items():
        boxes = [
            (
                Path(files[(fqn, *chunk.offsets)].relative_path).name,
                tuple((a, a + n) for a, n in zip(chunk.offsets, chunk.sizes, strict=True)),
            )
            for chunk in each.chunks
        ]
        dtype = str(each.properties.dtype).removeprefix("torch.")
        read[fqn] = dtype, tuple(each.size), sorted(map(repr, boxes))
    return read


@pytest.mark.slow
def test_mutated_shards_of_safetensors_are_refused_or_read_as_torch_reads_them() -> None:
    state = {"a.weight": torch.randn(6, 4), "b.bias": torch.randn(3).half(), "c": torch.ones(())}
    save_shards(Path("hf"), state, 2, grid)
    path = max(Path("hf").iterdir())
    data = path.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    dice = random.Random(10)
    count = 0
    for _ in range(MUTATIONS):
        new = bytearray(data[:header])
        for _ in range(dice.choice((1, 1, 2))):
            at = dice.randrange(header)
            # A digit for a digit: most other changes leave no JSON.
            new[at] = dice.choice(b"0123456789") if chr(new[at]).isdigit() else new[at]
            new[at] ^= dice.choice((0, 0, 0, 1 << dice.randrange(7)))
        path.write_bytes(bytes(new) + data[header:])
        try:
            ours = _shards_of_ours(Path("hf"))
        except ReinitError:
            continue
        theirs = _apart(partial(_shards_of_torch, Path("hf")))
        if theirs is not None:
            count += 1
            assert theirs == ours
    assert count > MUTATIONS // 100
