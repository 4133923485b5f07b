"""No option makes the memory of a run grow with a tensor."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

NUMEL = 2**26  # 256 MiB of float32, which would be seen


def _sparse(name: str) -> None:
    """Write a checkpoint whose bytes are a hole, which takes no time and no room."""
    nbytes = 4 * NUMEL
    header = f'{{"w":{{"dtype":"F32","shape":[8192,8192],"data_offsets":[0,{nbytes}]}}}}'
    with open(name, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header.encode())
        file.truncate(8 + len(header) + nbytes)


def _peak_nbytes(*args: str) -> int:
    """Run a command, and return the most memory that it took."""
    process = subprocess.Popen(
        [sys.executable, "-m", "reinit_cli", *args], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)

    assert process.returncode == 0
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.parametrize("options", [["-v"], ["--json", "-v"], ["--report", "page.svg"]])
def test_what_was_there_is_measured_within_the_memory_of_a_draw(options: list[str]) -> None:
    _sparse("in.safetensors")
    command = ["in.safetensors", "-r", "w=normal:std=1", "-f", "-o", "out.safetensors"]
    alone = _peak_nbytes(*command)
    # What is imported to draw a picture is no tensor: it is measured with a small one.
    if "--report" in options:
        _small("small.safetensors")
        picture = _peak_nbytes("small.safetensors", *command[1:], *options)
        os.remove("page.svg")
        alone = max(alone, picture)

    measured = _peak_nbytes(*command, *options)

    assert measured - alone < NUMEL  # a quarter of the tensor


def _small(name: str) -> None:
    header = '{"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}'
    with open(name, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header.encode() + bytes(16))
