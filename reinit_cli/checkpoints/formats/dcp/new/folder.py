"""Lay out a new folder: what `dcp.save` of one rank writes, in as many files as are asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from reinit_cli.checkpoints.formats.base import Content, Shortfall, Supply
from reinit_cli.checkpoints.formats.dcp.glance import METADATA_NAME, SUFFIX
from reinit_cli.checkpoints.formats.dcp.metadata import MAX_PIECES
from reinit_cli.checkpoints.formats.dcp.new.metadata_pickle import Laid, metadata_of
from reinit_cli.checkpoints.formats.dcp.new.slices import Frames
from reinit_cli.checkpoints.formats.dcp.new.tensor_pickle import pickle_of
from reinit_cli.checkpoints.formats.folder_record import record_of_folder
from reinit_cli.checkpoints.formats.torch.shortfall import shortfall_of
from reinit_cli.storage.segments import Literal, Segment
from reinit_cli.tensors.info import TensorInfo, tied_groups


def refused(content: Content) -> Shortfall:
    """Return what a new folder could not hold: what is not a tensor, and ties."""
    shortfall = shortfall_of(replace(content, is_live=False))
    ties = [
        f"{' and '.join(map(repr, group))} are one tensor; a DCP folder holds it under each name"
        for group in dict.fromkeys(tied_groups(content.tensors).values())
    ]
    count = len(content.tensors)
    read = f"more than the {MAX_PIECES:,} of a folder that reinit reads"
    many = [f"the new folder has {count:,} pieces, {read}"] if count > MAX_PIECES else []
    return replace(shortfall, notes=(*shortfall.notes, *ties, *many))


def created(content: Content, supply: Supply) -> Mapping[str, list[Segment]]:
    """Return the segments of each file of a new folder."""
    frames = Frames()
    files: dict[str, list[Segment]] = {}
    laid: list[Laid] = []
    tensors = [tensor for tensor in content.tensors if not tensor.carried]
    for name, part in _parts(tensors, supply.shard_nbytes or sys.maxsize):
        segments = files.setdefault(name, [])
        reached = 0
        for tensor in part:
            pickle = pickle_of(tensor.dtype, tensor.shape, tensor.nbytes)
            archive = frames.segments(pickle, supply.data[tensor.key], len(segments))
            nbytes = sum(segment.nbytes for segment in archive)
            path = (*supply.root, tensor.key)
            laid.append(Laid(path, tensor.dtype, tensor.shape, name, reached, nbytes))
            segments += archive
            reached += nbytes
    files[METADATA_NAME] = [Literal(metadata_of(laid))]
    return {**files, **supply.others, **record_of_folder(supply.record)}


def _parts(
    tensors: Sequence[TensorInfo], most_nbytes: int
) -> Iterator[tuple[str, list[TensorInfo]]]:
    """Distribute tensors over files in their order; one that is too large is alone in its own."""
    count, part, nbytes = 0, list[TensorInfo](), 0
    for tensor in tensors:
        if part and nbytes + tensor.nbytes > most_nbytes:
            yield _name(count), part
            count, part, nbytes = count + 1, [], 0
        part.append(tensor)
        nbytes += tensor.nbytes
    yield _name(count), part


def _name(count: int) -> str:
    """Return what rank 0 calls one of its files."""
    return f"__0_{count}{SUFFIX}"
