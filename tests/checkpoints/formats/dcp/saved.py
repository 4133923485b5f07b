"""Write DCP folders with torch's own planner and writer, the plans of all ranks in one process.

A tensor can be cut into the boxes that FSDP, tensor parallelism or both would give to each
rank, so that no process group is needed.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
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
    all_plans, metadata = create_default_global_save_plan([SavePlan(items) for items in plans])
    writers = [dcp.FileSystemWriter(folder, **options) for _ in range(ranks)]
    writers[0].set_up_storage_writer(True)
    for writer in writers[1:]:
        writer.set_up_storage_writer(False)
    all_plans = [
        writer.prepare_local_plan(plan) for writer, plan in zip(writers, all_plans, strict=True)
    ]
    all_plans = writers[0].prepare_global_plan(all_plans)
    results = [
        writer.write_data(plan, _Planner(leaves)).wait()  # type: ignore[arg-type]
        for writer, plan in zip(writers, all_plans, strict=True)
    ]
    writers[0].finish(dataclasses.replace(metadata, planner_data=paths), results)
    return folder


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
