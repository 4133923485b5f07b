"""A draw that memory cannot hold is refused in one line, before a byte is written."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reinit_cli import apply_
from reinit_cli.errors import TensorError
from tests.cli.conftest import Done

LIMIT = 100_000
NEEDED = 8 * (128 * 128 + 64 * 128)
SAYS = f"'w' cannot be drawn: it takes {NEEDED:,} bytes of memory, and this machine has {LIMIT:,}"


@pytest.fixture
def _small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("prepare", "rewrite", "apply"):
        name = f"reinit_cli.operations.{module}.limits"
        monkeypatch.setattr(name, lambda: {"this machine has": LIMIT})


@pytest.mark.usefixtures("_small_machine")
@pytest.mark.parametrize(
    "options", [[], ["-n"], ["-n", "--json"], ["-o", "-"], ["--in-place"]], ids=str
)
def test_it_is_refused_before_a_byte_is_written(
    options: list[str], reinit: Callable[..., Done]
) -> None:
    save_file({"w": torch.zeros(128, 128)}, "m.safetensors")
    before = Path("m.safetensors").read_bytes()

    done = reinit("m.safetensors", "-r", "w=orthogonal", *options)

    assert (done.code, done.out, done.said) == (2, "", f"error: {SAYS}\n")
    assert os.listdir() == ["m.safetensors"]
    assert Path("m.safetensors").read_bytes() == before


@pytest.mark.usefixtures("_small_machine")
def test_what_is_drawn_in_blocks_is_not_refused(reinit: Callable[..., Done]) -> None:
    save_file({"w": torch.zeros(1024, 128)}, "m.safetensors")

    assert reinit("m.safetensors", "-r", "w=normal:std=1").code == 0


def test_where_python_itself_has_no_memory_left_that_is_said(
    reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> dict[str, int]:
        raise MemoryError

    monkeypatch.setattr("reinit_cli.operations.prepare.limits", fail)
    save_file({"w": torch.zeros(2)}, "m.safetensors")

    done = reinit("m.safetensors", "-r", "w=zeros")

    assert (done.code, done.err) == (2, "error: this machine does not have enough memory\n")


@pytest.mark.usefixtures("_small_machine")
def test_from_python_nothing_changes() -> None:
    state = {"w": torch.ones(128, 128)}

    with pytest.raises(TensorError, match=r"^'w' cannot be drawn: it takes"):
        apply_(state, ["w=orthogonal"])

    assert bool((state["w"] == 1).all())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="macOS sets no limit of this kind")
@pytest.mark.parametrize("init", ["orthogonal", "shuffle"])
@pytest.mark.parametrize("dry", [True, False])
def test_the_limit_of_a_shell_is_obeyed(init: str, dry: bool, tmp_path: Path) -> None:
    """Torch alone takes some gigabytes of the addresses that `ulimit -v` counts."""
    rows, columns = 256, 2**22
    nbytes = 4 * rows * columns
    header = f'{{"w":{{"dtype":"F32","shape":[{rows},{columns}],"data_offsets":[0,{nbytes}]}}}}'
    with open("m.safetensors", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header.encode())
        file.truncate(8 + len(header) + nbytes)
    limit = 7 * 2**30

    done = subprocess.run(
        [sys.executable, "-m", "reinit_cli", "m.safetensors", "-r", f"w={init}", *["-n"] * dry],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    gigabytes = {"orthogonal": 8, "shuffle": 12}[init]
    assert done.stderr.startswith(f"error: 'w' cannot be drawn: it takes {gigabytes},")
    assert ", and ulimit -v leaves " in done.stderr
    assert os.listdir() == ["m.safetensors"]
