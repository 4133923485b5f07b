"""What is drawn once is written to every place, and the first failure ends everything."""

from __future__ import annotations

import gc
import io
import os
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Self

import pytest
import torch

from reinit_cli import rewrite
from reinit_cli.errors import MalformedFileError
from reinit_cli.execution import engine
from reinit_cli.execution.engine import run, write_together
from reinit_cli.execution.fill import UNWATCHED, Fill, FillPart
from reinit_cli.execution.joined import joined_by_draws
from reinit_cli.execution.pieces import OpenFile, Piece
from reinit_cli.initializers import parse_init
from reinit_cli.initializers.law import Law
from reinit_cli.planning.plan import Step
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.local import InputFile
from reinit_cli.storage.segments import Box, Copy, Late, Literal, Segment
from reinit_cli.storage.writer import Writer, nothing
from reinit_cli.streams.stream import DEFAULT_STREAM
from reinit_cli.tensors.blocks import Blocks
from reinit_cli.tensors.device import one_thread
from reinit_cli.tensors.elements import Elements
from reinit_cli.tensors.info import TensorInfo
from reinit_cli.tensors.moments import Moments
from reinit_cli.threads import unwatched
from tests.draws import draw
from tests.execution.fills import Watched, fill_of


class _Memory:
    """Keeps a file in memory."""

    def __init__(self, *, is_seekable: bool = True) -> None:
        self.is_seekable = is_seekable
        self.data = bytearray()
        self._lock = threading.Lock()  # several threads write, and each may extend

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        with self._lock:
            assert self.is_seekable or offset == len(self.data)
            self.data.extend(bytes(max(0, offset + len(data) - len(self.data))))
            self.data[offset : offset + len(data)] = data

    def copy_from(self, file: InputFile, start: int, offset: int, nbytes: int) -> int:
        del file, start, offset, nbytes
        return 0

    def clone(self, file: InputFile) -> bool:
        del file
        return False

    def read(self, offset: int, nbytes: int) -> bytes:
        return bytes(self.data[offset : offset + nbytes])

    def close(self) -> None:
        """Keep it."""


class _Counted:
    """Counts the elements that are drawn."""

    def __init__(self) -> None:
        self.numel = 0

    def see_before(self, blocks: Blocks, moments: Moments) -> None:
        del blocks, moments

    def see(self, block: Elements, moments: Moments) -> None:
        del moments
        self.numel += block.numel


def _step(shape: tuple[int, ...], init: str = "normal:std=1", dtype: str = "float32") -> Step:
    law = parse_init(init).law(shape)
    assert isinstance(law, Law)
    numel = torch.Size(shape).numel()
    nbytes = numel * getattr(torch, dtype).itemsize
    return Step(
        TensorInfo("w", dtype, shape, nbytes),
        "fill",
        law=law,
        seed_key="w",
        seed=7,
        stream=DEFAULT_STREAM,
    )


def _boxes(shape: tuple[int, ...], cuts: tuple[int, ...]) -> list[Box]:
    """Cut each dimension in two."""
    spans = [
        [(0, cut), (cut, dim)] if 0 < cut < dim else [(0, dim)]
        for dim, cut in zip(shape, cuts, strict=True)
    ]
    return list(product(*spans))


def _drawn(step: Step) -> torch.Tensor:
    assert step.law is not None
    tensor = step.tensor
    with one_thread():  # on whose number the bits of a decomposition depend
        whole = draw(step.law, tensor.shape, tensor.dtype, step.seed, stream=DEFAULT_STREAM)
    return whole.to(getattr(torch, tensor.dtype))


CASES = [
    ((600, 3, 300), (250, 0, 0), "normal:std=1"),  # several blocks, cut between rows
    ((600, 3, 300), (0, 0, 100), "normal:std=1"),
    ((600, 3, 300), (301, 1, 299), "normal:std=1"),
    ((1, 1, 540_000), (0, 0, 300_001), "normal:std=1"),
    ((2, 270_000), (1, 7), "normal:std=1"),  # a row is more than a block
    ((40, 50), (13, 20), "orthogonal"),  # drawn as a whole
    ((40, 50), (13, 20), "zeros"),
    ((1, 1), (0, 0), "ones"),
]


@pytest.mark.parametrize(("shape", "cuts", "init"), CASES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parts_of_a_draw_in_several_files_are_boxes_of_one_draw(
    shape: tuple[int, ...], cuts: tuple[int, ...], init: str, dtype: str
) -> None:
    step = _step(shape, init, dtype)
    fill = Fill(step, step.tensor.nbytes)
    boxes = _boxes(shape, cuts)
    itemsize = getattr(torch, dtype).itemsize
    files: dict[str, list[Segment]] = {"a": [Literal(b"head")], "b": []}
    for at, box in enumerate(boxes):
        numel = torch.Size([stop - start for start, stop in box]).numel()
        files["ab"[at % 2]] += [FillPart(fill, numel * itemsize, box), Literal(b"gap")]
    writers = {"a": _Memory(), "b": _Memory()}
    counted = _Counted()

    write_together(files, writers, "cpu", unwatched, Watched(counted))

    expected = _drawn(step)
    reached = {"a": 4, "b": 0}
    for at, box in enumerate(boxes):
        part = expected[tuple(slice(*span) for span in box)].contiguous()
        data = bytes(part.view(torch.uint8).numpy())
        start = reached["ab"[at % 2]]
        assert writers["ab"[at % 2]].read(start, len(data)) == data
        assert writers["ab"[at % 2]].read(start + len(data), 3) == b"gap"
        reached["ab"[at % 2]] += len(data) + 3
    assert counted.numel == expected.numel()


def test_parts_with_gaps_keep_what_lies_between() -> None:
    step = _step((6, 4))
    fill = Fill(step, step.tensor.nbytes)
    Path("under").write_bytes(bytes(range(200)))
    with InputFile("under") as file:
        apart = FillPart(fill, 4 * 23, ((0, 3), (0, 4)), (8, 2), Copy(file, 8, 4 * 23))
        files: dict[str, list[Segment]] = {"": [apart, FillPart(fill, 48, ((3, 6), (0, 4)))]}
        writer = _Memory()

        write_together(files, {"": writer}, "cpu", unwatched)

    expected = torch.frombuffer(bytearray(range(8, 100)), dtype=torch.float32).clone()
    expected.as_strided((3, 4), (8, 2)).copy_(_drawn(step)[:3])
    assert writer.data[:92] == expected.numpy().tobytes()
    assert writer.data[92:] == _drawn(step)[3:].numpy().tobytes()


def test_parts_of_a_draw_go_to_a_pipe_in_their_order() -> None:
    step = _step((5, 4))
    fill = Fill(step, step.tensor.nbytes)
    left, right = FillPart(fill, 40, ((0, 5), (0, 2))), FillPart(fill, 40, ((0, 5), (2, 4)))
    writer = _Memory(is_seekable=False)

    write_together({"": [right, Literal(b"gap"), left]}, {"": writer}, "cpu", unwatched)

    drawn = _drawn(step)
    expected = (drawn[:, 2:].contiguous(), drawn[:, :2].contiguous())
    assert writer.data == expected[0].numpy().tobytes() + b"gap" + expected[1].numpy().tobytes()


@pytest.mark.parametrize("output", ["out.pt", "-"])
def test_a_crc_that_does_not_match_ends_the_run_before_the_draws_are_done(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {"kept": torch.ones(100_000)}
    torch.save(kept | {f"{at}": torch.zeros(9) for at in range(300)}, "m.pt")
    data = bytearray(Path("m.pt").read_bytes())
    data[data.index(torch.ones(8).numpy().tobytes())] ^= 1
    Path("m.pt").write_bytes(data)
    drawn: list[None] = []

    def fill(*_: object) -> None:
        drawn.append(None)
        time.sleep(0.05)

    monkeypatch.setattr("reinit_cli.initializers.law.Normal.fill", fill)
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO()))

    with pytest.raises(MalformedFileError):
        rewrite("m.pt", ["[0-9]*=normal:std=1"], output)

    assert len(drawn) < 100
    assert os.listdir() == ["m.pt"]


class _Output:
    """Notes when its files are opened and closed."""

    written: Sequence[str] = ()

    def __init__(self) -> None:
        self.events: list[str] = []
        self.writers: dict[str, _Memory] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        """Keep everything."""

    def file(self, name: str, nbytes: int) -> Writer:
        del nbytes
        self.events.append(f"open {name}")
        self.writers[name] = _Memory()
        return self.writers[name]

    def file_at(self, destination: Destination, nbytes: int) -> Writer:
        raise NotImplementedError

    def commit(self, check: Callable[[], object] = nothing) -> None:
        raise NotImplementedError


def test_files_with_a_draw_in_common_are_written_together_and_others_in_their_turn() -> None:
    step, other = _step((4, 4)), _step((2, 2))
    shared, alone = Fill(step, 64), Fill(other, 16)
    files: dict[str, list[Segment]] = {
        "a": [Literal(b"a")],
        "b": [FillPart(shared, 32, ((0, 2), (0, 4)))],
        "c": [alone],
        "d": [FillPart(shared, 32, ((2, 4), (0, 4)))],
        "e": [Literal(b"e")],
    }
    output = _Output()

    def written(name: str, writer: Writer) -> bool:
        del writer
        output.events.append(f"written {name}")
        return name != "c"

    run(files, output, "cpu", unwatched, UNWATCHED, written)

    turns = [["a"], ["b", "d"], ["c"]]  # and no other after what says so
    assert output.events == [
        f"{event} {name}" for names in turns for event in ("open", "written") for name in names
    ]
    together = output.writers["b"].data + output.writers["d"].data
    assert together == _drawn(step).numpy().tobytes()


@pytest.mark.parametrize(
    ("draws", "groups"),
    [
        ("", []),
        ("- - -", ["0", "1", "2"]),
        ("x y x", ["02", "1"]),
        ("x y xy z", ["012", "3"]),
        ("x y z yz x", ["04", "123"]),
        ("x y z xyz", ["0123"]),
    ],
)
def test_files_are_grouped_by_the_draws_that_they_have_in_common(
    draws: str, groups: list[str]
) -> None:
    fills = {name: Fill(_step((2,)), 8) for name in "xyz"}
    files = {
        str(at): [FillPart(fills[name], 4) for name in names if name != "-"]
        for at, names in enumerate(draws.split())
    }

    assert joined_by_draws(files) == [list(group) for group in groups]


def test_a_file_of_many_checksums_is_written_in_linear_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An archive has two checksums for each tensor; comparing them all with all took minutes."""
    asked: list[Late] = []
    is_ready = OpenFile.is_ready
    monkeypatch.setattr(
        OpenFile, "is_ready", lambda self, late: asked.append(late) or is_ready(self, late)
    )
    monkeypatch.setattr(Piece, "__eq__", lambda *_: pytest.fail("pieces are compared"))
    segments: list[Segment] = []
    for at in range(500):
        crc = Late(4, (range(2 * at, 2 * at + 1),), lambda crcs: crcs[0].to_bytes(4, "little"))
        segments += [Literal(b"%08d" % at), crc]
    memory = _Memory()

    write_together({"": segments}, {"": memory}, "cpu", unwatched)

    expected = [b"%08d" % at for at in range(500)]
    assert memory.data == b"".join(
        data + zlib.crc32(data).to_bytes(4, "little") for data in expected
    )
    assert len(asked) == 500


def test_buffers_are_freed_without_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """It pauses while a folder of many shards is written, each with buffers of its own."""
    made = []

    class Noted(engine.Copier):
        def __init__(self) -> None:
            super().__init__()
            made.append(weakref.ref(self))

    monkeypatch.setattr(engine, "Copier", Noted)
    segments: list[Segment] = [fill_of((9,)), Literal(b"x")]
    gc.disable()
    try:
        write_together({"": segments}, {"": _Memory()}, "cpu", unwatched)

        assert [copier() for copier in made] == [None]
    finally:
        gc.enable()


@pytest.mark.parametrize("rules", [["w=normal:std=1"], ["w=scale:2"], []], ids=str)
def test_a_tensor_may_have_more_dimensions_than_an_array(rules: list[str]) -> None:
    """Arrays of numpy have 64 at most, or 32; all but a few of a tensor's are one then."""
    tensor = torch.arange(12.0).view(3, 4).t()[(None,) * 66]
    torch.save({"w": tensor, "v": torch.ones(2)}, "many.pt")
    torch.save({"w": tensor[(0,) * 66], "v": torch.ones(2)}, "few.pt")

    for name in ("many", "few"):
        rewrite(f"{name}.pt", [*rules, "v=ones"], f"{name}-out.pt")

    many, few = torch.load("many-out.pt")["w"], torch.load("few-out.pt")["w"]
    assert many.shape == tensor.shape
    assert torch.equal(many[(0,) * 66], few)
