"""A format of two files, where a matrix lies in four boxes: two in each file.

tensors.toy      {"key": {"dtype": "float32", "shape": [4, 6], "places": [...]}, ...}
                 and for each place its file, its offset, its length and its box, or null
left.raw         the left boxes, and whatever cannot be divided
right.raw        the right boxes
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from reinit_cli.checkpoints.formats.base import (
    Edits,
    Files,
    Located,
    Place,
    Recorded,
    spliced,
    whole,
)
from reinit_cli.errors import MalformedFileError, UnwritableContentError
from reinit_cli.storage.segments import Box, Check, Segment
from reinit_cli.tensors.info import TensorInfo

INDEX, LEFT, RIGHT = "tensors.toy", "left.raw", "right.raw"


class Toy:
    """The format."""

    name = "toy"
    suffixes = (".toy",)
    is_folder = True
    holds_record = False

    def recognizes(self, head: bytes, names: Sequence[str] = ()) -> bool:
        return not head and INDEX in names

    def locate(self, files: Files, root: str | None = None) -> Located:
        del root
        index = files[INDEX]
        try:
            entries = json.loads(index.read(0, index.nbytes))
        except ValueError as error:
            raise MalformedFileError(index.path, str(error)) from None
        places = {key: tuple(map(_place, entry["places"])) for key, entry in entries.items()}
        for place in (each for found in places.values() for each in found):
            if place.offset + place.nbytes > files[place.file].nbytes:
                raise MalformedFileError(files[place.file].path, "it is cut off")
        tensors = tuple(
            TensorInfo(
                key,
                entry["dtype"],
                tuple(entry["shape"]),
                sum(place.nbytes for place in places[key]),
            )
            for key, entry in entries.items()
        )
        return Located(self.name, tensors, places, files=(INDEX, LEFT, RIGHT))

    def checks(self, located: Located, files: Files) -> list[Check]:
        del located, files
        return []

    def rewritten(
        self, located: Located, files: Files, edits: Edits, record: str = ""
    ) -> Mapping[str, list[Segment]]:
        del located
        if record:
            raise UnwritableContentError(files.path, "a record")
        return {
            INDEX: whole(files[INDEX]),
            **{
                name: spliced(files[name], 0, files[name].nbytes, edits.get(name, {}))
                for name in (LEFT, RIGHT)
            },
        }

    def recorded(self, located: Located, files: Files) -> Mapping[str, Recorded]:
        del located, files
        return {}


def _place(form: tuple[str, int, int, list[list[int]] | None]) -> Place:
    file, offset, nbytes, box = form
    return Place(file, offset, nbytes, None if box is None else tuple((a, b) for a, b in box))


def boxes_of(tensor: Tensor) -> Iterator[tuple[str, Box | None]]:
    """Yield where a tensor lies: a matrix in four boxes of different sizes."""
    if tensor.ndim < 2 or min(tensor.shape) < 2:
        yield LEFT, None
        return
    rows, columns = tensor.shape[0] // 3 + 1, tensor.shape[1] // 2
    rest = tuple((0, dim) for dim in tensor.shape[2:])
    ranges = ((0, rows), (rows, tensor.shape[0])), ((0, columns), (columns, tensor.shape[1]))
    for across, down in product((1, 0), (0, 1)):  # the last box comes before the first
        yield (LEFT, RIGHT)[across], (ranges[0][1 - down], ranges[1][across], *rest)


def elements(tensor: Tensor, box: Box | None) -> Tensor:
    """Return the elements of a box."""
    return tensor if box is None else tensor[tuple(slice(*each) for each in box)]


def write_toy(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Write a checkpoint."""
    data = {LEFT: bytearray(b"left"), RIGHT: bytearray(b"right")}
    entries = {}
    for key, tensor in state.items():
        places = []
        for file, box in boxes_of(tensor):
            content = (
                elements(tensor, box).contiguous().flatten().view(torch.uint8).numpy().tobytes()
            )
            places.append((file, len(data[file]), len(content), box))
            data[file] += content + b"|"
        dtype = str(tensor.dtype).removeprefix("torch.")
        entries[key] = {"dtype": dtype, "shape": list(tensor.shape), "places": places}
    folder.mkdir()
    (folder / INDEX).write_text(json.dumps(entries))
    for name, content in data.items():
        (folder / name).write_bytes(content)


def read_toy(folder: Path) -> dict[str, Tensor]:
    """Read a checkpoint with torch alone."""
    state = {}
    for key, entry in json.loads((folder / INDEX).read_text()).items():
        tensor = torch.empty(entry["shape"], dtype=getattr(torch, entry["dtype"]))
        for file, offset, nbytes, box in entry["places"]:
            content = bytearray((folder / file).read_bytes()[offset : offset + nbytes])
            part = elements(tensor, box)
            if nbytes:
                part.copy_(torch.frombuffer(content, dtype=tensor.dtype).view(part.shape))
        state[key] = tensor
    return state
