"""A new DCP folder is what `dcp.save` of one process writes, to the byte."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reinit_cli.checkpoints.formats.base import Content, Supply
from reinit_cli.checkpoints.formats.dcp.format import Dcp
from reinit_cli.checkpoints.formats.dcp.new.slices import Frames
from reinit_cli.checkpoints.formats.dcp.new.tensor_pickle import pickle_of
from reinit_cli.storage.crc32 import crc32
from reinit_cli.storage.segments import Late, Literal, Reserved, Segment
from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.info import TensorInfo
from tests.checkpoints.formats.dcp.saved import save_alone
from tests.tools import needs_torch

needs_torch("2.9", ".metadata has a version")

SHAPES = [
    (),
    (0,),
    (1,),
    (7,),
    (0, 3),
    (3, 0),
    (2, 0, 3),
    (1, 300),
    (2, 3, 4),
    (2, 3, 4, 5),
    (2, 1, 2, 1, 2, 3),
    (70_000,),
]


def _bytes_of(tensor: Tensor) -> bytes:
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def _of(key: str, tensor: Tensor) -> TensorInfo:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return TensorInfo(key, dtype, tuple(tensor.shape), tensor.numel() * tensor.itemsize)


def _rendered(segments: Sequence[Segment]) -> bytes:
    """Return what the engine writes for segments that copy and draw nothing."""
    crcs = [crc32(each.data) if isinstance(each, Literal) else 0 for each in segments]
    parts: list[bytes] = []
    for each in segments:
        if isinstance(each, Literal):
            parts.append(bytes(each.data))
        elif isinstance(each, Late):
            parts.append(each.compute([crcs[span.start] for span in each.of]))
        else:
            assert isinstance(each, Reserved)
            parts.append(bytes(each.nbytes))
        assert len(parts[-1]) == each.nbytes
    return b"".join(parts)


def _created(state: Mapping[str, Tensor], **supply: Any) -> dict[str, bytes]:
    tensors = tuple(_of(key, tensor) for key, tensor in state.items())
    data = {key: [Literal(_bytes_of(tensor))] for key, tensor in state.items()}
    files = Dcp().created(Content(tensors), Supply(data, dict, **supply))
    return {name: _rendered(segments) for name, segments in files.items()}


def _saved(state: Mapping[str, Any]) -> dict[str, bytes]:
    folder = save_alone(Path("saved"), state)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("dtype", [*DTYPES, "float8_e8m0fnu"])
def test_a_piece_is_what_torch_saves_for_the_tensor_alone(dtype: str) -> None:
    for shape in SHAPES:
        tensor = torch.zeros(shape, dtype=torch.uint8).to(getattr(torch, dtype))
        alone = io.BytesIO()
        torch.save(tensor, alone)

        info = _of("", tensor)
        pickle = pickle_of(info.dtype, info.shape, info.nbytes)
        piece = Frames().segments(pickle, [Literal(_bytes_of(tensor))], 0)

        assert _rendered(piece) == alone.getvalue(), shape


@pytest.mark.parametrize("nbytes", [2**32 - 1024, 2**32 - 1, 2**32, 2**32 + 64])
def test_a_piece_of_four_gigabytes_has_the_headers_of_torch(tmp_path: Path, nbytes: int) -> None:
    """torch leaves a hole in a sparse file for the data, and we do not write any."""
    path = tmp_path / "archive"
    with torch.serialization.skip_data():
        torch.save(torch.empty(nbytes, dtype=torch.uint8), path)
    pickle = pickle_of("uint8", (nbytes,), nbytes)
    before, _, after = Frames().segments(pickle, [Reserved(nbytes)], 0)
    assert isinstance(before, Literal)
    assert isinstance(after, Late)

    with path.open("rb") as file:
        start = file.read(before.nbytes)
        file.seek(nbytes, io.SEEK_CUR)
        end = file.read()
    # torch computes no CRC-32 of a hole, and no id from it.
    made = after.compute([struct.unpack("<I", end[4:8])[0]])
    at = end.index(b"serialization_id")
    digits = end.index(b"1572819951185464", at)
    assert start == before.data
    assert len(end) == after.nbytes
    assert end[: digits + 20] == made[: digits + 20]
    directory = end.index(b"PK\1\2")
    own = end.rindex(b"PK\1\2")  # the record of the id, which has its CRC-32
    assert end[directory:own] == made[directory:own]
    assert end[own + 20 :] == made[own + 20 :]


NESTED: dict[str, tuple[str, ...]] = {
    "the state dict itself": (),
    "under a key": ("model",),
    "deeper": ("state", "model"),
    "with a path of four": ("a", "b", "c"),
    "with a path of five": ("a", "b", "c", "d"),
}


@pytest.mark.parametrize("root", NESTED.values(), ids=NESTED)
# Pickles set items by thousands, and one alone in another way.
@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_metadata_is_what_torch_pickles(count: int, root: tuple[str, ...]) -> None:
    state = _many(count)
    nested: Mapping[str, Any] = state
    for key in reversed(root if count else ()):
        nested = {key: nested}

    assert _created(state, root=root) == _saved(nested)


@pytest.mark.slow
def test_metadata_of_many_frames_is_what_torch_pickles() -> None:
    state = _many(2500)
    assert _created(state, root=("model",)) == _saved({"model": state})


def _many(count: int) -> dict[str, Tensor]:
    shapes = [(), (3,), (0, 300), (2, 3, 4, 5)]
    dtypes = [torch.float32, torch.bfloat16, torch.int64]
    return {
        f"layers.{at}.{'long' * (at % 90)}": torch.zeros(
            shapes[at % len(shapes)], dtype=dtypes[at % len(dtypes)]
        )
        for at in range(count)
    }


def test_keys_that_are_called_as_members_are_told_from_them() -> None:
    """Texts of files are never those of the program, which a pickle would recall."""
    keys = ["size", "offset", "torch", "Metadata", "__0_0.distcp", "é" * 100, "x" * 300]
    state = {"".join([*key]): torch.ones(2) for key in keys}

    assert _created(state) == _saved(state)


def test_files_have_as_many_bytes_as_is_asked_for_in_the_order_of_the_keys() -> None:
    state = {f"k{at}": torch.full((10 * at,), float(at)) for at in range(6)}  # 0 to 200 bytes
    files = _created(state, shard_nbytes=240)

    assert list(files) == [*(f"__0_{at}.distcp" for at in range(3)), ".metadata"]
    lone = _created(state)
    assert b"".join(list(files.values())[:3]) == lone["__0_0.distcp"]


def test_what_is_no_plain_tensor_is_beyond_it() -> None:
    sparse = TensorInfo("sparse", "float32", (2,), 8, carried="a sparse tensor")
    packed = TensorInfo("packed", "F4", (2,), 1)
    shortfall = Dcp().refuses(Content((sparse, packed, TensorInfo("a", "float32", (), 4))))
    assert [each.key for each in shortfall.beyond] == ["sparse", "packed"]


def test_more_pieces_than_are_read_are_said() -> None:
    tensor = TensorInfo("a", "float32", (), 4)
    assert not Dcp().refuses(Content((tensor,) * 200_000)).notes
    (note,) = Dcp().refuses(Content((tensor,) * 200_001)).notes
    assert note.startswith("the new folder has 200,001 pieces, more than the 200,000")
