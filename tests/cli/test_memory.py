"""No command's memory grows with a tensor: what is documented in explanation/limits.md."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.checkpoints.formats.dcp.saved import Cut, columns, rows, save

pytestmark = pytest.mark.slow

MIB = 2**20
SIDE = 8192
"""A matrix of so many rows and columns takes 256 MiB in float32, which would be seen."""

MEASURE = """
import os, subprocess, sys
stdin = open(sys.argv[1], "rb")
stdout = subprocess.PIPE if "-" in sys.argv[5:] else subprocess.DEVNULL
process = subprocess.Popen(sys.argv[2:], stdin=stdin, stdout=stdout, stderr=subprocess.DEVNULL)
while process.stdout and process.stdout.read1(2**20):
    pass
_, status, usage = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""
"""Run in a small process: a process starts with the peak memory of the one that starts it."""

SAVE = """
import sys, torch
view = {
    "transposed": lambda matrix: matrix.t(),
    "cut out": lambda matrix: matrix[:, : len(matrix) // 2].t(),
}[sys.argv[1]]
for name, side in (("small.pt", 16), ("large.pt", int(sys.argv[2]))):
    torch.save({"w": view(torch.zeros(side, side))}, name)
"""


@pytest.fixture(autouse=True)
def _no_files_are_kept() -> Iterator[None]:
    """Remove what was written, which pytest would keep for a while."""
    yield
    for path in Path().iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _safetensors(rows: int = SIDE) -> None:
    """Write checkpoints whose bytes are holes, which takes no time and no room."""
    for name, shape in (("small", (16, 16)), ("large", (rows, SIDE**2 // rows))):
        nbytes = 4 * shape[0] * shape[1]
        dims = f"[{shape[0]},{shape[1]}]"
        header = f'{{"w":{{"dtype":"F32","shape":{dims},"data_offsets":[0,{nbytes}]}}}}'
        for path in (f"{name}.safetensors", f"{name}-other.safetensors"):
            with open(path, "wb") as file:
                file.write(len(header).to_bytes(8, "little") + header.encode())
                file.truncate(8 + len(header) + nbytes)


def _torch(view: str) -> None:
    """Write torch files, in a process of its own."""
    subprocess.run([sys.executable, "-c", SAVE, view, str(SIDE)], check=True)


def _peak_nbytes(args: tuple[str, ...], name: str) -> int:
    """Run a command on the small or the large checkpoint; return the most memory it took."""
    for each in ("page.html", "page.svg"):
        Path(each).unlink(missing_ok=True)
    words = [word.replace("IN", name) for word in args]
    stdin = words.pop(0)[1:] if words[0].startswith("<") else "/dev/null"
    command = [sys.executable, "-c", MEASURE, stdin, sys.executable, "-m", "reinit_cli", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    code, nbytes = done.stdout.split()
    assert code == "0", words
    return int(nbytes)


OUT = ("-f", "-o", "out.safetensors")
NORMAL = ("-r", "w=normal:std=1")
NOISE = ("-r", "w=noise:std=0.1")
IN = "IN.safetensors"

OF_SAFETENSORS: dict[str, tuple[str, ...]] = {
    "a cast": (IN, "--dtype", "float16", *OUT),
    "a cast of a draw": (IN, *NORMAL, "--dtype", "float64", *OUT),
    "a new torch file": (IN, "-f", "-o", "out.pt"),
    "noise": (IN, *NOISE, *OUT),
    "rewinding": (IN, "-r", "w=rewind:IN-other.safetensors", *OUT),
    "zeros that are kept": (IN, "-r", "w=normal:std=1,keep_zeros=true", *OUT),
    "what was there": (IN, *NORMAL, *OUT, "--json", "-v"),
    "a page": (IN, *NOISE, *OUT, "--report", "page.html"),
    "a picture": (IN, *NORMAL, *OUT, "--report", "page.svg"),
    "a check and a record": (IN, *NORMAL, *OUT, "--check", "--record"),
    "a pipe": (IN, *NORMAL, "-o", "-"),
    "a pipe of casts": (IN, "--dtype", "bfloat16", "-o", "-"),
    "from a pipe": ("<IN.safetensors", "-", *NOISE, *OUT),
    "stats": ("stats", IN),
    "values": ("show", IN, "w"),
    "a column": ("show", IN, "w", "--slice", ":,7", "--json"),
}


@pytest.mark.parametrize("args", OF_SAFETENSORS.values(), ids=OF_SAFETENSORS)
def test_a_large_tensor_takes_a_few_blocks_more_than_a_small_one(args: tuple[str, ...]) -> None:
    _safetensors()

    small, large = (_peak_nbytes(args, name) for name in ("small", "large"))

    assert large - small < 32 * MIB


OF_VIEWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "a transposed one is filled": ("transposed", ("IN.pt", *NORMAL, "-f", "-o", "out.pt")),
    "a transposed one is changed": ("transposed", ("IN.pt", *NOISE, "-f", "-o", "out.pt")),
    "a transposed one is cast": ("transposed", ("IN.pt", "--dtype", "float16", *OUT)),
    "a transposed one goes to a pipe": ("transposed", ("IN.pt", *NORMAL, "-o", "-")),
    "one is cut out of another": ("cut out", ("IN.pt", *NORMAL, "-f", "-o", "out.pt")),
    "a column is shown": ("transposed", ("show", "IN.pt", "w", "--slice", ":,7")),
}


@pytest.mark.parametrize(("view", "args"), OF_VIEWS.values(), ids=OF_VIEWS)
def test_a_tensor_in_another_order_takes_a_few_boxes(view: str, args: tuple[str, ...]) -> None:
    _torch(view)

    small, large = (_peak_nbytes(args, name) for name in ("small", "large"))

    assert large - small < 96 * MIB


def test_verifying_a_transposed_tensor_takes_a_few_boxes() -> None:
    _torch("transposed")
    for name in ("small", "large"):
        _peak_nbytes(("IN.pt", *NORMAL, "-o", "IN-out.pt", "--record"), name)

    small, large = (_peak_nbytes(("verify", "IN-out.pt"), name) for name in ("small", "large"))

    assert large - small < 96 * MIB


FROM_RANKS: dict[str, tuple[str, ...]] = {
    "to safetensors": ("dcp-IN", *OUT),
    "to a Hugging Face folder": ("dcp-IN", "--shard-size", "1GB", "-o", "IN-out"),
    "to a torch file": ("dcp-IN", "-f", "-o", "out.pt"),
    "to a DCP folder": ("dcp-IN", "--to", "dcp", "-o", "IN-out"),
}


@pytest.mark.parametrize("args", FROM_RANKS.values(), ids=FROM_RANKS)
@pytest.mark.parametrize("cut", [rows, columns])
def test_pieces_of_many_ranks_are_joined_in_a_few_blocks(cut: Cut, args: tuple[str, ...]) -> None:
    for name, side in (("small", 16), ("large", SIDE)):
        save(Path(f"dcp-{name}"), {"w": torch.zeros(side, side)}, 8, cut)

    small, large = (_peak_nbytes(args, name) for name in ("small", "large"))

    assert large - small < 96 * MIB


@pytest.mark.parametrize(
    ("stream", "init", "tensors"),
    [
        ("torch", "trunc_normal", 0.0),
        ("torch", "sparse:0.1", 0.04),
        ("torch", "eye", 0.0),
        ("torch", "icnr", 0.0),
        ("torch", "block:4,axis=1", 0.0),
        ("torch", "orthogonal", 2.0),
        ("torch", "block:4,inner=orthogonal", 0.5),
        ("torch", "shuffle", 2.0),
        ("philox", "trunc_normal", 0.0),
        ("philox", "sparse:0.1", 0.75),
        ("philox", "icnr", 0.0),
        ("philox", "block:4,axis=1", 0.0),
        ("philox", "shuffle", 3.0),
    ],
)
def test_a_draw_takes_the_memory_that_the_docs_name(stream: str, init: str, tensors: float) -> None:
    """In units of the tensor's bytes; a little more is what blocks and LAPACK take."""
    _safetensors(rows=512)  # of which products take seconds
    drawn = ("IN.safetensors", "-r", f"w={init}", "--stream", stream)
    command = (*drawn, "-f", "-o", "out.safetensors")

    small, large = (_peak_nbytes(command, name) for name in ("small", "large"))

    assert (large - small) / (4 * SIDE**2) == pytest.approx(tensors, abs=0.15)
