"""Standard input as a source: a file, or a pipe that is read once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli import rewrite

REINIT = (sys.executable, "-m", "reinit_cli")
STATE = {
    "a.weight": torch.arange(600_000.0).reshape(600, 1000),
    "b.weight": torch.arange(12.0).reshape(3, 4),
    "b.steps": torch.tensor(7),
    "c.weight": torch.ones(5, 5, dtype=torch.bfloat16),
}
RULE = "b.weight=normal:std=0.5"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_file(STATE, "in.safetensors", metadata={"format": "pt"})
    torch.save(STATE, "in.pt")
    torch.save(STATE, "in-legacy.pt", _use_new_zipfile_serialization=False)
    return tmp_path


def _piped(data: bytes, *args: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*REINIT, *args], input=data, capture_output=True, check=False)


@pytest.mark.parametrize("name", ["in.safetensors", "in.pt", "in-legacy.pt"])
def test_what_comes_through_a_pipe_is_rewritten_as_the_file_would_be(
    source: Path, name: str
) -> None:
    rewrite(name, [RULE], "expected" + Path(name).suffix)

    done = _piped(Path(name).read_bytes(), "-", "-r", RULE)

    assert (done.returncode, done.stdout) == (
        0,
        Path("expected" + Path(name).suffix).read_bytes(),
    ), done.stderr.decode()


def test_a_redirected_file_is_read_as_a_file(source: Path) -> None:
    with open("in.pt", "rb") as file:
        done = subprocess.run(
            [*REINIT, "-", "-r", RULE, "-o", "out.safetensors"],
            stdin=file,
            capture_output=True,
            check=False,
        )

    assert done.returncode == 0, done.stderr.decode()
    assert torch.equal(load_file("out.safetensors")["a.weight"], STATE["a.weight"])


def test_a_safetensors_pipe_is_streamed_without_a_copy(source: Path) -> None:
    script = (
        "import sys; from reinit_cli import cli; from reinit_cli.storage import pipe\n"
        "pipe.StandardInput.make_seekable = None\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "-", "-r", RULE, "-o", "out.safetensors"],
        input=Path("in.safetensors").read_bytes(),
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr.decode()
    rewrite("in.safetensors", [RULE], "expected.safetensors")
    assert Path("out.safetensors").read_bytes() == Path("expected.safetensors").read_bytes()


@pytest.mark.parametrize("args", [("-o", "out.pt"), ("-o", "out.safetensors", "-v")])
def test_a_pipe_can_be_converted_and_measured(source: Path, args: tuple[str, ...]) -> None:
    done = _piped(Path("in.safetensors").read_bytes(), "-", "-r", RULE, *args)

    assert done.returncode == 0, done.stderr.decode()
    out = args[1]
    found = torch.load(out) if out.endswith(".pt") else load_file(out)
    assert torch.equal(found["a.weight"], STATE["a.weight"])
    assert not torch.equal(found["b.weight"], STATE["b.weight"])


@pytest.mark.parametrize("name", ["in.safetensors", "in.pt"])
def test_keys_are_listed_from_a_pipe(source: Path, name: str) -> None:
    done = _piped(Path(name).read_bytes(), "keys", "-")

    assert sorted(done.stdout.decode().splitlines()) == sorted(STATE)


@pytest.mark.parametrize("kept", [0, 4, 100, 2_000, -1])
def test_a_pipe_that_ends_too_early_leaves_no_output(source: Path, kept: int) -> None:
    data = Path("in.safetensors").read_bytes()[:kept]

    done = _piped(data, "-", "-r", RULE, "-o", "out.safetensors")

    assert done.returncode == 2
    ends = "error: cannot read '-': it ends after " if kept else "error: '-' is empty\n"
    assert done.stderr.decode().startswith(ends)
    assert not Path("out.safetensors").exists()


def test_a_pipe_that_goes_on_leaves_no_output(source: Path) -> None:
    data = Path("in.safetensors").read_bytes() + b"more"

    done = _piped(data, "-", "-r", RULE, "-o", "out.safetensors")

    assert done.returncode == 2
    assert b"it goes on after" in done.stderr
    assert not Path("out.safetensors").exists()


def test_a_zip_that_finds_no_room_for_its_copy_is_told(source: Path) -> None:
    script = f"ulimit -f 100; cat in.pt | {sys.executable} -m reinit_cli keys -"
    done = subprocess.run(script, shell=True, capture_output=True, check=False)

    assert done.returncode == 2
    assert done.stderr.startswith(b"error: cannot read '-': it cannot be copied into ")


def test_a_closed_standard_input_is_told(source: Path) -> None:
    command = f"{sys.executable} -m reinit_cli keys - <&-"
    done = subprocess.run(command, shell=True, capture_output=True, check=False)

    assert done.returncode == 2
    assert done.stderr.startswith(b"error: cannot read '-'")
