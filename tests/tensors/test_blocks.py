"""Whatever a tensor's layout, its elements come once each, in blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.storage.local import InputFile
from reinit_cli.storage.segments import Copy, Literal, View
from reinit_cli.tensors import blocks
from reinit_cli.tensors.blocks import (
    blocks_as_stored,
    blocks_row_by_row,
    byte_blocks,
)

BASE = torch.arange(2 * 3 * 4 * 5 * 6, dtype=torch.float32)

LAYOUTS: dict[str, Any] = {
    "contiguous": lambda: BASE.reshape(6, 5, 24),
    "transposed": lambda: BASE.reshape(30, 24).t(),
    "permuted": lambda: BASE.reshape(2, 3, 4, 30).permute(2, 3, 0, 1),
    "columns": lambda: BASE.reshape(30, 24)[:, 3:9],
    "columns of a transposed one": lambda: BASE.reshape(30, 24).t()[:, 3:9],
    "steps": lambda: BASE[::7],
    "gaps everywhere": lambda: BASE.reshape(2, 3, 4, 5, 6)[:, 1:, ::2, 1:4, ::3],
    "single steps": lambda: BASE.reshape(30, 24)[:1, ::5],
    "one element": lambda: BASE[100],
    "empty": lambda: BASE[3:3],
}


def _view(tensor: torch.Tensor) -> View:
    first = tensor.storage_offset() * 4
    last = sum((dim - 1) * step for dim, step in zip(tensor.shape, tensor.stride(), strict=True))
    data = BASE.numpy().tobytes()[first : first + (last + 1) * 4 if tensor.numel() else first]
    stride = None if tensor.is_contiguous() else tensor.stride()
    return View.of(Literal(data), "float32", tuple(tensor.shape), stride)


@pytest.mark.parametrize("numel", [1, 2, 7, 60, 10_000])
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_element_comes_once_and_no_block_is_larger(
    name: str, numel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_NUMEL", numel)
    tensor = LAYOUTS[name]()

    found = list(blocks_as_stored(_view(tensor)))

    assert all(block.numel() <= numel for block in found)
    assert sorted(torch.cat([torch.empty(0), *found]).tolist()) == sorted(tensor.flatten().tolist())
    if tensor.is_contiguous():
        assert torch.equal(torch.cat([torch.empty(0), *found]), tensor.flatten())


def test_a_transposed_tensor_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("x").write_bytes(BASE.numpy().tobytes())
    monkeypatch.setattr(blocks, "BLOCK_NUMEL", 16)
    read: list[int] = []
    original = InputFile.read
    monkeypatch.setattr(InputFile, "read", lambda *args: read.append(args[2]) or original(*args))
    with InputFile("x") as file:
        view = View.of(Copy(file, 0, 4 * 720), "float32", (24, 30), (1, 24))

        assert sum(block.numel() for block in blocks_as_stored(view)) == 720

    assert sum(read) == 4 * 720
    assert max(read) <= 64


@given(st.integers(0, 3000), st.integers(1, 999))
def test_blocks_end_to_end_are_the_whole(nbytes: int, numel: int) -> None:
    data = bytes(at % 251 for at in range(nbytes * 4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_NUMEL", numel)
        patch.setattr(blocks, "_BLOCK_NBYTES", numel)
        joined = b"".join(bytes(block) for block in byte_blocks(Literal(data)))
        numbers = list(blocks_as_stored(View.of(Literal(data), "int32", (nbytes,))))

    assert joined == data
    assert b"".join(block.numpy().tobytes() for block in numbers) == data


@pytest.mark.parametrize("numel", [1, 2, 7, 60, 10_000])
@pytest.mark.parametrize("name", LAYOUTS)
def test_row_by_row_every_element_comes_in_its_place(
    name: str, numel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_BOX_NUMEL", numel)
    monkeypatch.setattr(blocks, "BLOCK_NUMEL", max(1, numel // 2))
    monkeypatch.setattr(blocks, "_LARGEST_GAP_NBYTES", 40)
    monkeypatch.setattr(blocks, "_LARGEST_NBYTES", 4 * numel)
    tensor = LAYOUTS[name]()

    found = [block.clone() for block in blocks_row_by_row(_view(tensor))]

    assert max((block.numel() for block in found), default=0) <= max(1, numel // 2)
    assert torch.equal(torch.cat([*found, torch.empty(0)]), tensor.reshape(-1))


def test_a_transposed_tensor_is_never_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = torch.arange(400.0).view(20, 20)
    (tmp_path / "file").write_bytes(tensor.numpy().tobytes())
    monkeypatch.setattr(blocks, "_BOX_NUMEL", 40)
    monkeypatch.setattr(blocks, "_LARGEST_NBYTES", 320)
    largest = 0
    read = InputFile.read

    def watched(self: InputFile, offset: int, nbytes: int) -> bytes:
        nonlocal largest
        largest = max(largest, nbytes)
        return read(self, offset, nbytes)

    monkeypatch.setattr(InputFile, "read", watched)
    with InputFile(str(tmp_path / "file")) as file:
        view = View.of(Copy(file, 0, 1600), "float32", (20, 20), (1, 20))
        found = torch.cat([block.clone() for block in blocks_row_by_row(view)])

    assert torch.equal(found, tensor.t().reshape(-1))
    assert 0 < largest <= 320
