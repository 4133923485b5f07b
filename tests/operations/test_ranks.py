"""Several processes write one output: the same bytes as one, and one commit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

RULE = ("-r", "*.weight=normal:std=0.02", "-q")
REINIT = (sys.executable, "-m", "reinit_cli")


def begin(
    args: Sequence[str], count: int, ranks: Sequence[int] | None = None, timeout: str = "30"
) -> list[subprocess.Popen[str]]:
    """Begin some ranks of a run."""
    ranks = range(count) if ranks is None else ranks
    told = ("--world-size", str(count), "--run-id", "test", "--timeout", timeout)
    return [
        subprocess.Popen(
            (*REINIT, *args, "--rank", str(rank), *told),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ranks
    ]


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Return exit code, standard output and standard error of each."""
    outputs = [process.communicate(timeout=60) for process in processes]
    return [
        (process.returncode, *output) for process, output in zip(processes, outputs, strict=True)
    ]


def written(path: Path) -> dict[str, bytes]:
    """Return every file below a path, hidden ones too."""
    return {
        str(each.relative_to(path)): each.read_bytes()
        for each in sorted(path.rglob("*"))
        if each.is_file()
    }


@pytest.fixture(autouse=True)
def source() -> None:
    state = {f"{at}.weight": torch.full((30 + at, 20), float(at)) for at in range(6)}
    save_file({**state, "bias": torch.arange(1000.0)}, "m.safetensors")
    Path("one").mkdir()
    Path("many").mkdir()


def test_two_ranks_write_the_bytes_of_one() -> None:
    (alone,) = ended(
        [subprocess.Popen((*REINIT, "m.safetensors", *RULE, "-o", "one/m.safetensors"))]
    )
    assert alone[0] == 0
    assert ended(begin(("m.safetensors", *RULE, "-o", "many/m.safetensors"), 2)) == [
        (0, "", ""),
        (0, "", ""),
    ]
    assert written(Path("many")) == written(Path("one"))


def test_a_rank_that_does_not_come_is_named_and_so_is_what_is_left() -> None:
    args = ("m.safetensors", *RULE, "-o", "many/m.safetensors")
    ((code, said, error),) = ended(begin(args, 2, [0], "0.5"))
    assert (code, said) == (2, "")
    (left,) = os.listdir("many")
    assert error == f"error: rank 1 did not come within 0.5 s; 'many/{left}' is left\n"
    assert left.startswith(".m.safetensors.reinit-")
