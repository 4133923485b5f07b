"""Write DCP folders with torch's own planner and writer, the plans of all ranks in one process.

A tensor can be cut into the boxes that FSDP, tensor parallelism or both would give to each
rank, so that no process group is needed.
"""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed.checkpoint as dcp
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint._nested_dict import flatten_state_dict
from torch.distributed.checkpoint.default_planner import (
    _EmptyStateDictLoadPlanner,
    create_default_global_save_plan,
)
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import (
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

Box = tuple[tuple[int, int], ...]
Cut = Callable[[Tensor, int], list[list[Box]]]
"""Returns the boxes that each of some ranks has of a tensor."""


def split(dim: int, ranks: int) -> list[tuple[int, int]]:
    """Return the rows of each rank, as `torch.chunk` gives them: the last have fewer, or none."""
    step = -(-dim // ranks)
    return [(min(at * step, dim), min((at + 1) * step, dim)) for at in range(ranks)]


def rows(tensor: Tensor, ranks: int) -> list[list[Box]]:
    """Cut as FSDP does: rows; a scalar is on the first rank."""
    return along(0)(tensor, ranks)


def columns(tensor: Tensor, ranks: int) -> list[list[Box]]:
    """Cut along the last dimension."""
    return along(-1)(tensor, ranks)


def along(axis: int) -> Cut:
    """Return a way to cut along a dimension."""

    def cut(tensor: Tensor, ranks: int) -> list[list[Box]]:
        whole = tuple((0, dim) for dim in tensor.shape)
        if not whole:
            return [[()], *([] for _ in range(ranks - 1))]
        at = axis % len(whole)
        parts = split(tensor.shape[at], ranks)
        return [[(*whole[:at], part, *whole[at + 1 :])] for part in parts]

    return cut


def grid(tensor: Tensor, ranks: int) -> list[list[Box]]:
    """Cut a matrix into rows and columns, as FSDP over tensor parallelism does."""
    if tensor.ndim < 2:
        return rows(tensor, ranks)
    rest = tuple((0, dim) for dim in tensor.shape[2:])
    boxes: list[list[Box]] = [
        [(across, down, *rest)]
        for across in split(tensor.shape[0], 2)
        for down in split(tensor.shape[1], ranks // 2)
    ]
    return boxes + [[] for _ in range(ranks - len(boxes))]


def whole(tensor: Tensor, ranks: int) -> list[list[Box]]:
    """Leave a tensor whole, on the last rank."""
    return [*([] for _ in range(ranks - 1)), [tuple((0, dim) for dim in tensor.shape)]]


class _Planner:
    """Gives the writer what an item stands for."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._state = state

    def resolve_data(self, item: WriteItem) -> Tensor | io.BytesIO:
        value = self._state[item.index.fqn]
        if item.type == WriteItemType.BYTE_IO:
            data = io.BytesIO()
            torch.save(value, data)
            return data
        return self.tensor(item)

    def tensor(self, item: WriteItem) -> Tensor:
        value = self._state[item.index.fqn]
        assert item.tensor_data is not None
        chunk = item.tensor_data.chunk
        if chunk.sizes == value.shape:
            return value.detach()
        return elements(value.detach(), box_of(chunk)).clone()


def box_of(chunk: ChunkStorageMetadata) -> Box:
    """Return a chunk as ranges."""
    return tuple((a, a + n) for a, n in zip(chunk.offsets, chunk.sizes, strict=True))


def elements(tensor: Tensor, box: Box) -> Tensor:
    """Return the elements of a box."""
    return tensor[tuple(slice(*each) for each in box)]


def save(
    folder: Path,
    state: Mapping[str, Any],
    ranks: int = 1,
    cut: Cut = rows,
    *,
    flat: bool = True,
    **options: Any,
) -> Path:
    """Write a folder as so many ranks do together."""
    leaves, paths = flatten_state_dict(dict(state)) if flat else (dict(state), None)
    writers = [dcp.FileSystemWriter(folder, **options) for _ in range(ranks)]
    _write(writers, leaves, _plans(leaves, ranks, cut), planner_data=paths)
    return folder


def save_alone(folder: Path, state: Mapping[str, Any]) -> Path:
    """Write what `dcp.save` of one process does, but for the uuid and the path of the save."""

    class Writer(dcp.FileSystemWriter):
        def storage_meta(self) -> StorageMeta:
            return StorageMeta()

    with mock.patch.object(pickle, "DEFAULT_PROTOCOL", 4):  # 5 from Python 3.14 on
        dcp.save(dict(state), storage_writer=Writer(folder), no_dist=True)
    return folder


def save_shards(
    folder: Path,
    state: Mapping[str, Tensor],
    ranks: int = 4,
    cut: Cut = rows,
    files: Mapping[str, int] | None = None,
) -> Path:
    """Write what HuggingFaceStorageWriter of torch 2.8 and later leaves, a file for each rank.

    Args:
        folder: where to.
        state: the tensors.
        ranks: how many have a part of each.
        cut: which part.
        files: the number of the file of each tensor; None for one file.
    """
    folder.mkdir(parents=True)
    numbers = files or dict.fromkeys(state, 1)
    last = max(numbers.values())
    for rank, items in enumerate(_plans(state, ranks, cut), 1):
        for number in sorted({numbers[item.index.fqn] for item in items}):
            own = [item for item in items if numbers[item.index.fqn] == number]
            name = f"shard-{rank:05d}-model-{number:05d}-of-{last:05d}.safetensors"
            _save_shard(folder / name, state, own)
    return folder


def _save_shard(path: Path, state: Mapping[str, Tensor], items: Sequence[WriteItem]) -> None:
    starts = {item.index.fqn: {"saved_offsets": list(item.index.offset or ())} for item in items}
    metadata = {
        "DCP_SHARDING_INFO": json.dumps(starts),
        "DCP_VERSION": "1.0",
        "format": "pt",
    }
    planner = _Planner(state)
    tensors = {item.index.fqn: planner.tensor(item).contiguous() for item in items}
    save_file(tensors, path, metadata)


def together(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of which files of `save_shards` hold pieces."""
    pieces: dict[str, list[tuple[list[int], Tensor]]] = {}
    for path in sorted(folder.glob("shard-*")):
        with safe_open(path, "pt") as file:
            starts = json.loads(file.metadata()["DCP_SHARDING_INFO"])
        for key, tensor in load_file(path).items():
            pieces.setdefault(key, []).append((starts[key]["saved_offsets"], tensor))
    return {key: _joined(each) for key, each in pieces.items()}


def _joined(pieces: Sequence[tuple[Sequence[int], Tensor]]) -> Tensor:
    ends = [[at + dim for at, dim in zip(start, each.shape, strict=True)] for start, each in pieces]
    made = torch.empty([max(dims) for dims in zip(*ends, strict=True)], dtype=pieces[0][1].dtype)
    for (start, each), end in zip(pieces, ends, strict=True):
        made[tuple(map(slice, start, end))] = each
    return made


def write_shards(folder: Path, state: Mapping[str, Tensor], ranks: int, cut: Cut) -> Path:
    """Let torch write what `save_shards` does."""
    writers = [
        dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True) for _ in range(ranks)
    ]
    _write(writers, state, _plans(state, ranks, cut))
    return folder


def _plans(leaves: Mapping[str, Any], ranks: int, cut: Cut) -> list[list[WriteItem]]:
    """Return what each rank writes; what several have, the first of them does."""
    plans: list[list[WriteItem]] = [[] for _ in range(ranks)]
    for fqn, value in leaves.items():
        if not isinstance(value, Tensor):
            plans[0].append(WriteItem(MetadataIndex(fqn), WriteItemType.BYTE_IO))
            continue
        met = set()
        for rank, boxes in enumerate(cut(value, ranks)):
            for box in boxes:
                if box not in met:
                    plans[rank].append(_item(fqn, value, box))
                    met.add(box)
    return plans


def _write(
    writers: Sequence[dcp.FileSystemWriter],
    leaves: Mapping[str, Any],
    plans: Sequence[list[WriteItem]],
    planner_data: Any = None,
) -> None:
    all_plans, metadata = create_default_global_save_plan([SavePlan(items) for items in plans])
    for at, writer in enumerate(writers):
        writer.set_up_storage_writer(at == 0)
    all_plans = [
        writer.prepare_local_plan(plan) for writer, plan in zip(writers, all_plans, strict=True)
    ]
    all_plans = writers[0].prepare_global_plan(all_plans)
    results = [
        writer.write_data(plan, _Planner(leaves)).wait()  # type: ignore[arg-type]
        for writer, plan in zip(writers, all_plans, strict=True)
    ]
    writers[0].finish(dataclasses.replace(metadata, planner_data=planner_data), results)


def _item(fqn: str, tensor: Tensor, box: Box) -> WriteItem:
    offsets = torch.Size([start for start, _ in box])
    sizes = torch.Size([stop - start for start, stop in box])
    data = TensorWriteData(
        ChunkStorageMetadata(offsets, sizes),
        TensorProperties.create_from_tensor(tensor),
        tensor.size(),
    )
    return WriteItem(MetadataIndex(fqn, offsets), WriteItemType.SHARD, tensor_data=data)


def load(folder: Path) -> dict[str, Any]:
    """Return what `dcp.load` gives of all that a folder holds."""
    state: dict[str, Any] = {}
    reader = dcp.FileSystemReader(folder)
    _load_state_dict(state, reader, planner=_EmptyStateDictLoadPlanner(), no_dist=True)
    return state


def metadata_of(folder: Path) -> Metadata:
    """Return what torch reads in `.metadata`."""
    with (folder / ".metadata").open("rb") as file:
        return pickle.load(file)


def write_metadata(folder: Path, metadata: Metadata) -> None:
    """Write `.metadata` as torch does."""
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


def slices_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each piece of a tensor, with its name."""
    metadata = metadata_of(folder)
    for index, info in metadata.storage_data.items():
        if index.offset is not None:
            data = (folder / info.relative_path).read_bytes()
            yield index.fqn, data[info.offset : info.offset + info.length]


def objects_of(folder: Path) -> Iterator[tuple[MetadataIndex, bytes]]:
    """Yield each object as `torch.save` wrote it."""
    for index, info in metadata_of(folder).storage_data.items():
        if index.offset is None:
            data = (folder / info.relative_path).read_bytes()
            yield index, data[info.offset : info.offset + info.length]


def saved_again(data: bytes) -> bytes:
    """Return what `torch.save` writes for what it has read."""
    again = io.BytesIO()
    torch.save(torch.load(io.BytesIO(data), weights_only=True), again)
    return again.getvalue()


def flat_tensors(state: Mapping[str, Any] | Sequence[Any], before: str = "") -> dict[str, Tensor]:
    """Return the tensors in a nested state dict by their keys."""
    items = state.items() if isinstance(state, Mapping) else enumerate(state)
    found: dict[str, Tensor] = {}
    for key, value in items:
        if isinstance(value, Tensor):
            found[f"{before}{key}"] = value
        elif isinstance(value, (Mapping, list)):
            found |= flat_tensors(value, f"{before}{key}.")
    return found
