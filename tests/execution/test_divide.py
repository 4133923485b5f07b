"""Large segments are cut for several ranks, and the bytes of the output stay what they are."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinit_cli.execution import divide
from reinit_cli.execution.apart import dims_of
from reinit_cli.execution.divide import divided
from reinit_cli.execution.engine import write_together
from reinit_cli.execution.fill import FillPart
from reinit_cli.execution.share import cost_of, shares_of
from reinit_cli.storage.local import InputFile
from reinit_cli.storage.segments import Check, Copy, Late, Literal, Segment
from reinit_cli.threads import unwatched
from tests.execution.fills import UNREAD, Memory, boxes_at, fill_of

Files = Mapping[str, Sequence[Segment]]

_COPIED = bytes(range(256)) * 8

_SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple)


def _largest_load(files: Mapping[str, Sequence[Segment]], count: int) -> float:
    """Return how much more the busiest of some ranks has to do than the mean."""
    cut = divided(files, count)
    loads = [
        sum(cost_of(cut[name][at]) for name, found in each.items() for at in found)
        for each in shares_of(cut, count)
    ]
    return max(loads) * count / sum(loads)


def _crc(span: range) -> Late:
    return Late(4, (span,), lambda crcs: struct.pack("<I", *crcs))


def _written(files: Files, count: int) -> dict[str, bytes]:
    writers = {name: Memory() for name in files}
    write_together(divided(files, count), dict(writers), "cpu", unwatched)
    return {name: bytes(writer.data) for name, writer in writers.items()}


@settings(max_examples=60, deadline=None)
@given(_SHAPES, st.lists(st.integers(0, 8), max_size=3), st.integers(2, 9))
def test_files_in_pieces_have_the_same_bytes_and_checksums(
    shape: tuple[int, ...], cuts: list[int], count: int
) -> None:
    alone, in_boxes = fill_of(shape), fill_of(shape, "uniform:a=-1,b=1", "bfloat16")
    boxes = boxes_at(shape, (tuple(cuts),) * len(shape))
    Path("copied").write_bytes(_COPIED)
    with InputFile("copied") as file:
        parts = [FillPart(in_boxes, 2 * prod(dims_of(box)), box) for box in boxes]
        first: list[Segment] = [_crc(range(1, 4)), Copy(file, 3, 1999), Literal(b"x"), alone]
        first += [_crc(range(3, 4)), *parts[::2]]
        first += [_crc(range(5, len(first))), _crc(range(0))]
        files: Files = {"first": first, "second": [*parts[1::2], _crc(range(len(parts[1::2])))]}
        expected = _written(files, 1)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(divide, "_LEAST_NBYTES", 8)
            found = _written(files, count)
            pieces = divided(files, count)

    assert found == expected
    assert len(pieces["first"]) > len(first)


@pytest.mark.parametrize(
    "shape", [(50_000, 4096), (4096, 50_000), (1, 205_000_000), (8, 1, 5000, 5000), (3, 70_000_000)]
)
@pytest.mark.parametrize("count", [2, 16, 64])
def test_a_tensor_alone_is_split_evenly(shape: tuple[int, ...], count: int) -> None:
    file: list[Segment] = [Literal(bytes(100)), fill_of(shape, dtype="bfloat16")]

    assert _largest_load({"": file}, count) <= 1.11


def test_a_tensor_in_columns_is_split_evenly_between_rows() -> None:
    """Rows of all columns go to one rank, which would draw them again for each place."""
    shape = (4096, 8192)
    fill = fill_of(shape)
    boxes = boxes_at(shape, ((), (1024, 2048, 4096)))
    files: Files = {
        str(at): [FillPart(fill, 4 * prod(dims_of(box)), box)] for at, box in enumerate(boxes)
    }

    cut = divided(files, 8)

    rows = [
        [part.box[0] for part in each if isinstance(part, FillPart) and part.box]
        for each in cut.values()
    ]
    assert rows == [rows[0]] * 4
    assert _largest_load(files, 8) <= 1.11


def test_a_copy_is_cut_unless_its_checksum_is_compared() -> None:
    plain, checked = (
        Copy(UNREAD, 0, 10**10),
        Copy(UNREAD, 0, 10**10, Check(UNREAD, 0, 10**10, 1, "w")),
    )

    cut = divided({"": [plain, checked]}, 8)[""]

    assert cut[-1] is checked
    assert [each.nbytes for each in cut[:-1]] == [10**10 // (len(cut) - 1)] * (len(cut) - 1)
    assert len(cut) > 8


@pytest.mark.parametrize("count", [1, 64])
def test_what_one_rank_writes_in_no_time_stays_in_one_piece(count: int) -> None:
    files: Files = {
        "": [fill_of((256, 256)), Copy(UNREAD, 0, 2**18), fill_of((9, 10**9), stream="torch-1")]
    }

    assert divided(files, count) == files
