"""A tensor whose elements lie in several parts reads as torch has it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reinit_cli.storage.local import InputFile
from reinit_cli.storage.segments import Box, Copy, Part, View
from reinit_cli.tensors import blocks, spans
from reinit_cli.tensors.blocks import blocks_as_stored, blocks_row_by_row
from reinit_cli.tensors.convert import read
from reinit_cli.tensors.dtype import DTYPES
from reinit_cli.tensors.rounding import torch_tensor
from reinit_cli.tensors.slice import selected

FILLABLE = sorted(name for name, dtype in DTYPES.items() if dtype.kind != "packed")


@st.composite
def _boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> list[Box]:
    """Cut a tensor into boxes, in any order."""
    boxes: list[Box] = [tuple((0, dim) for dim in shape)]
    for _ in range(draw(st.integers(0, 5)) if 0 not in shape else 0):
        at = draw(st.integers(0, len(boxes) - 1))
        axes = [axis for axis, (low, high) in enumerate(boxes[at]) if high - low > 1]
        if axes:
            axis = draw(st.sampled_from(axes))
            low, high = boxes[at][axis]
            cut = draw(st.integers(low + 1, high - 1))
            whole = boxes.pop(at)
            halves = ((low, cut), (cut, high))
            boxes += [(*whole[:axis], span, *whole[axis + 1 :]) for span in halves]
    return draw(st.permutations(boxes))


@st.composite
def _laid(draw: st.DrawFn, tensor: torch.Tensor, box: Box) -> tuple[bytes, tuple[int, ...] | None]:
    """Lay the elements of a box in some order of dimensions with gaps; return bytes and stride."""
    values = tensor[tuple(slice(*span) for span in box)]
    order = draw(st.permutations(range(values.dim())))
    gap = draw(st.integers(1, 2))
    stride = [0] * values.dim()
    reach = gap
    for axis in reversed(order):
        stride[axis] = reach
        reach *= values.shape[axis]
    numel = sum((dim - 1) * step for dim, step in zip(values.shape, stride, strict=True)) + 1
    if not values.numel():
        return b"", tuple(stride)
    flat = torch.zeros(numel * tensor.element_size(), dtype=torch.uint8).view(tensor.dtype)
    flat.as_strided(values.shape, stride).copy_(values)
    is_plain = gap == 1 and list(order) == sorted(order)
    return bytes(flat.view(torch.uint8).tolist()), None if is_plain else tuple(stride)


@st.composite
def _cases(draw: st.DrawFn) -> tuple[torch.Tensor, list[tuple[Box, bytes, tuple[int, ...] | None]]]:
    shape = tuple(draw(st.lists(st.integers(0, 6), max_size=4)))
    dtype = getattr(torch, draw(st.sampled_from(FILLABLE)))
    itemsize = torch.empty(0, dtype=dtype).element_size()
    size = itemsize * math.prod(shape)
    data = torch.arange(size) * 7 % (2 if dtype is torch.bool else 251)
    tensor = (
        data.to(torch.uint8).view(dtype).view(shape) if size else torch.empty(shape, dtype=dtype)
    )
    boxes = draw(_boxes(shape))
    return tensor, [(box, *draw(_laid(tensor, box))) for box in boxes]


@contextmanager
def _view(
    folder: Path, tensor: torch.Tensor, laid: list[tuple[Box, bytes, tuple[int, ...] | None]]
) -> Iterator[View]:
    """Write parts to two files by turns, and view them together."""
    paths = [folder / "first", folder / "second"]
    texts = [b"head", b""]
    places = []
    for at, (_, data, _) in enumerate(laid):
        places.append((at % 2, len(texts[at % 2]), len(data)))
        texts[at % 2] += data + b"gap"
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text)
    with InputFile(str(paths[0])) as first, InputFile(str(paths[1])) as second:
        files = first, second
        parts = tuple(
            Part(Copy(files[file], start, nbytes), box if len(laid) > 1 else None, stride)
            for (file, start, nbytes), (box, _, stride) in zip(places, laid, strict=True)
        )
        yield View(parts, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def _bits(tensor: torch.Tensor) -> list[int]:
    """Return the bytes of a tensor in row-major order; floats may be NaN."""
    flat = torch.empty(tensor.numel(), dtype=tensor.dtype)
    flat.view(tensor.shape).copy_(tensor)
    return flat.view(torch.uint8).tolist()  # type: ignore[no-any-return]


@settings(deadline=None)
@given(_cases(), st.sampled_from([1, 3, 16, 1000]))
def test_whole_row_by_row_and_as_stored_the_elements_are_those_of_the_tensor(
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[torch.Tensor, list[tuple[Box, bytes, tuple[int, ...] | None]]],
    numel: int,
) -> None:
    tensor, laid = case
    with (
        pytest.MonkeyPatch.context() as patch,
        _view(tmp_path_factory.mktemp("view"), tensor, laid) as view,
    ):
        patch.setattr(blocks, "BLOCK_NUMEL", numel)
        patch.setattr(spans, "BOX_NBYTES", 8 * numel)
        patch.setattr(spans, "LARGEST_BOX_NBYTES", 8 * numel)
        patch.setattr(spans, "SPAN_NBYTES", 4 * numel)
        patch.setattr(spans, "GAP_NBYTES", numel)
        whole = torch_tensor(read(view))
        rows = [torch_tensor(block).clone() for block in blocks_row_by_row(view)]
        stored = [torch_tensor(block).clone() for block in blocks_as_stored(view)]

    assert whole.shape == tensor.shape
    assert _bits(whole) == _bits(tensor)
    assert list(chain(*map(_bits, rows))) == _bits(tensor)
    assert all(block.numel() <= numel for block in (*rows, *stored))
    itemsize = tensor.element_size()
    elements = [
        _elements(each, itemsize) for each in (list(chain(*map(_bits, stored))), _bits(tensor))
    ]
    assert elements[0] == elements[1]


def _elements(data: list[int], itemsize: int) -> list[list[int]]:
    return sorted(data[at : at + itemsize] for at in range(0, len(data), itemsize))


@given(_cases(), st.data())
def test_a_box_of_any_view_is_what_torch_takes(
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[torch.Tensor, list[tuple[Box, bytes, tuple[int, ...] | None]]],
    data: st.DataObject,
) -> None:
    tensor, laid = case
    taken = tuple(
        slice(*(data.draw(st.integers(0, 6)) for _ in range(2)), data.draw(st.integers(1, 3)))
        for _ in tensor.shape
    )
    with _view(tmp_path_factory.mktemp("view"), tensor, laid) as view:
        ranges = tuple(range(dim)[part] for dim, part in zip(tensor.shape, taken, strict=True))
        part = selected(view, ranges)
        found = torch_tensor(read(part))
        rows = [torch_tensor(block).clone() for block in blocks_row_by_row(part)]

    expected = tensor[taken]
    assert found.shape == expected.shape
    assert _bits(found) == _bits(expected) == list(chain(*map(_bits, rows)))


def test_a_box_reads_only_the_parts_that_it_meets() -> None:
    Path("first").write_bytes(torch.arange(8.0).numpy().tobytes())
    Path("second").write_bytes(torch.arange(8.0, 16.0).numpy().tobytes())
    with InputFile("first") as first, InputFile("second") as second:
        view = View(
            (
                Part(Copy(first, 0, 32), ((0, 2), (0, 4))),
                Part(Copy(second, 0, 32), ((2, 4), (0, 4))),
            ),
            "float32",
            (4, 4),
        )

        lower = selected(view, (range(2, 3), range(4)))
        both = selected(view, (range(1, 3), range(1, 4)))

        assert lower.contiguous == Copy(second, 0, 16)
        assert both.contiguous is None
        assert both.nbytes == 24
        assert read(both).array.tolist() == [[5.0, 6.0, 7.0], [9.0, 10.0, 11.0]]
