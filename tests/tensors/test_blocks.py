"""Whatever a tensor's layout, its elements come once each, in blocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.storage.local import InputFile
from reinit_cli.storage.segments import Copy, Literal, View
from reinit_cli.tensors import blocks, spans
from reinit_cli.tensors.blocks import (
    blocks_as_stored,
    blocks_row_by_row,
    byte_blocks,
    gathered,
)
from reinit_cli.tensors.convert import boxed
from reinit_cli.tensors.rounding import torch_tensor
from reinit_cli.tensors.spans import boxes_of, spans_of

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

    found = list(map(torch_tensor, blocks_as_stored(_view(tensor))))

    assert all(block.numel() <= numel for block in found)
    assert sorted(torch.cat([torch.empty(0), *found]).tolist()) == sorted(tensor.flatten().tolist())
    if tensor.is_contiguous():
        assert torch.equal(torch.cat([torch.empty(0), *found]), tensor.flatten())


def test_a_transposed_tensor_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("x").write_bytes(BASE.numpy().tobytes())
    monkeypatch.setattr(blocks, "BLOCK_NUMEL", 16)
    read = _watch(monkeypatch)
    with InputFile("x") as file:
        view = View.of(Copy(file, 0, 4 * 720), "float32", (24, 30), (1, 24))

        assert sum(block.numel for block in blocks_as_stored(view)) == 720

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
    assert b"".join(block.array.tobytes() for block in numbers) == data


@pytest.mark.parametrize("gap", [0, 12, 100])
@pytest.mark.parametrize("numel", [1, 2, 7, 60, 10_000])
@pytest.mark.parametrize("name", LAYOUTS)
def test_row_by_row_every_element_comes_in_its_place(
    name: str, numel: int, gap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "BOX_NBYTES", 4 * numel)
    monkeypatch.setattr(spans, "LARGEST_BOX_NBYTES", 4 * numel)
    monkeypatch.setattr(blocks, "BLOCK_NUMEL", max(1, numel // 2))
    monkeypatch.setattr(spans, "GAP_NBYTES", gap)
    monkeypatch.setattr(spans, "SPAN_NBYTES", 4 * numel)
    tensor = LAYOUTS[name]()

    found = [torch_tensor(block).clone() for block in blocks_row_by_row(_view(tensor))]

    assert max((block.numel() for block in found), default=0) <= max(1, numel // 2)
    assert torch.equal(torch.cat([*found, torch.empty(0)]), tensor.reshape(-1))


@pytest.mark.parametrize("name", LAYOUTS)
def test_blocks_end_at_the_same_elements_whatever_is_read_together(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moments are sums over blocks, so the last bits of what is drawn from them depend on that."""
    monkeypatch.setattr(blocks, "BLOCK_NUMEL", 7)
    monkeypatch.setattr(blocks, "_PART_NUMEL", 60)
    view = _view(LAYOUTS[name]())
    found = []

    for nbytes in (4, 120, 1000, 2**20):
        monkeypatch.setattr(spans, "BOX_NBYTES", nbytes)
        monkeypatch.setattr(spans, "LARGEST_BOX_NBYTES", nbytes)
        found.append([block.numel for block in blocks_row_by_row(view)])

    assert found == [found[0]] * 4


def _watch(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many bytes each read of a file takes, from now on."""
    read: list[int] = []
    original = InputFile.read_into

    def watched(self: InputFile, buffer: memoryview, offset: int) -> None:
        read.append(len(buffer))
        original(self, buffer, offset)

    monkeypatch.setattr(InputFile, "read_into", watched)
    return read


def test_a_transposed_tensor_is_never_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = torch.arange(400.0).view(20, 20)
    (tmp_path / "file").write_bytes(tensor.numpy().tobytes())
    monkeypatch.setattr(spans, "BOX_NBYTES", 160)
    monkeypatch.setattr(spans, "LARGEST_BOX_NBYTES", 160)
    monkeypatch.setattr(spans, "GAP_NBYTES", 40)
    read = _watch(monkeypatch)
    with InputFile(str(tmp_path / "file")) as file:
        view = View.of(Copy(file, 0, 1600), "float32", (20, 20), (1, 20))
        found = torch.cat([torch_tensor(block).clone() for block in blocks_row_by_row(view)])

    assert torch.equal(found, tensor.t().reshape(-1))
    assert set(read) == {8}  # two rows at a time
    assert sum(read) == 1600


@pytest.mark.parametrize(
    ("part", "nbytes"),
    [
        (lambda matrix: matrix[:, 7], 4 * 50),
        (lambda matrix: matrix[:, 2000:2100], 400 * 50),
        (lambda matrix: matrix[7], 4 * 3000),
        (lambda matrix: matrix[::7, ::1100], 8 * 4 * 3),
        (lambda matrix: matrix[:, ::100], 4 * (49 * 3000 + 2901)),
    ],
    ids=["column", "columns", "row", "far apart", "near"],
)
def test_what_lies_between_is_read_only_where_that_takes_no_longer(
    part: Callable[[torch.Tensor], torch.Tensor],
    nbytes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    matrix = torch.arange(150_000.0).view(50, 3000)
    (tmp_path / "file").write_bytes(matrix.numpy().tobytes())
    tensor = part(matrix)
    read = _watch(monkeypatch)
    first = tensor.storage_offset() * 4
    last = sum((dim - 1) * step for dim, step in zip(tensor.shape, tensor.stride(), strict=True))
    with InputFile(str(tmp_path / "file")) as file:
        stride = None if tensor.is_contiguous() else tensor.stride()
        data = Copy(file, first, 4 * last + 4)
        found = torch_tensor(gathered(View.of(data, "float32", tuple(tensor.shape), stride)))

    assert torch.equal(found, tensor.reshape(-1))
    assert sum(read) == nbytes


@st.composite
def _strided(draw: st.DrawFn) -> torch.Tensor:
    """A view of a storage whose elements do not overlap, in any order of its dimensions."""
    shape = draw(st.lists(st.integers(1, 6), max_size=4))
    base = torch.arange(math.prod(dim * 2 for dim in shape) or 1)
    whole = base.view([dim * 2 for dim in shape])
    steps = draw(st.lists(st.integers(1, 2), min_size=len(shape), max_size=len(shape)))
    index = tuple(slice(None, dim * step, step) for dim, step in zip(shape, steps, strict=True))
    return whole[index].permute(draw(st.permutations(range(len(shape)))))


@given(_strided(), st.integers(0, 40), st.integers(1, 200), st.integers(1, 400))
def test_what_is_written_in_boxes_lies_as_torch_lays_it(
    tensor: torch.Tensor, gap: int, span: int, largest: int
) -> None:
    values = -torch.arange(1, tensor.numel() + 1).view(tensor.shape)
    storage = tensor.clone().set_(tensor.untyped_storage().clone())
    written = bytearray(storage.numpy().tobytes())
    expected = storage.as_strided(tensor.shape, tensor.stride())
    expected.copy_(values)

    def write(offset: int, data: memoryview) -> None:
        written[offset : offset + len(data)] = data

    def read(offset: int, data: memoryview) -> None:
        data[:] = written[offset : offset + len(data)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans, "GAP_NBYTES", gap)
        patch.setattr(spans, "SPAN_NBYTES", span)
        patch.setattr(spans, "BOX_NBYTES", largest)
        patch.setattr(spans, "LARGEST_BOX_NBYTES", largest)
        boxes = list(boxes_of(tuple(tensor.shape), tensor.stride(), 8))
        for box in boxes:
            start = sum(low * step for (low, _), step in zip(box, tensor.stride(), strict=True))
            for each in spans_of(boxed(values.numpy(), box).copy(), tensor.stride(), 8 * start):
                each.write(write, read)
    flat = torch.cat([torch.from_numpy(boxed(values.numpy(), box)).reshape(-1) for box in boxes])

    assert torch.equal(flat, values.reshape(-1))
    assert written == storage.numpy().tobytes()
