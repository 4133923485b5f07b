"""Killed at any time or out of space, a run leaves what was there, or all of the new."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.tools import missing

REINIT = (sys.executable, "-m", "reinit_cli")

pytestmark = pytest.mark.slow

_KILLS = 14


def _make_checkpoint() -> None:
    """Make a file, and a folder of three shards, of 60 MB each."""
    state = {f"layers.{at}.weight": torch.full((500, 1000), float(at)) for at in range(30)}
    torch.save(state, "m.pt")
    Path("m").mkdir()
    weight_map = {key: f"part{at % 3}.safetensors" for at, key in enumerate(state)}
    for name in set(weight_map.values()):
        save_file({key: state[key] for key in state if weight_map[key] == name}, f"m/{name}")
    Path("m/model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    Path("m/config.json").write_text("{}")


def _content(path: str) -> dict[str, bytes]:
    """Every file at a path, by its name; none where nothing is."""
    if os.path.isfile(path):
        return {"": Path(path).read_bytes()}
    return {str(each.relative_to(path)): each.read_bytes() for each in Path(path).rglob("*")}


def _left(output: str) -> list[str]:
    return [name for name in os.listdir() if name.startswith(f".{output}.reinit-")]


@pytest.mark.parametrize(
    ("source", "output", "replaces"),
    [("m.pt", "out.pt", False), ("m.pt", "out.pt", True), ("m", "out", False)],
    ids=["a new file", "a replaced file", "a folder"],
)
def test_a_run_that_is_killed_leaves_the_old_or_the_new(
    source: str, output: str, replaces: bool
) -> None:
    _make_checkpoint()
    command = [*REINIT, source, "-r", "*=keep", "-q", "-o", output]
    old = {"": b"old"} if replaces else {}
    command += ["--force"] if replaces else []
    started = time.monotonic()
    if replaces:
        Path(output).write_bytes(b"old")
    subprocess.run(command, check=True)
    needed = time.monotonic() - started
    seen = []
    for at in range(_KILLS):
        _remove(output)
        if replaces:
            Path(output).write_bytes(b"old")
        with subprocess.Popen(command) as process:
            time.sleep(needed * (0.2 + at / _KILLS))
            process.send_signal(signal.SIGKILL)
        content = _content(output)
        assert content in (old, _content(source))
        assert len(_left(output)) <= (1 if replaces or source == "m" else 0)
        seen.append(content == old)
    _remove(output)
    subprocess.run(command, check=True)
    assert _left(output) == []
    assert _content(output) == _content(source)
    assert True in seen


def _remove(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else Path(path).unlink(
        missing_ok=True
    )


# --- out of space --------------------------------------------------------------------------


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 20 MB."""
    Path("disk").mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", "disk"]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        missing("this user cannot mount a file system")
    yield Path("disk")
    subprocess.run(["umount", "disk"], check=True)


@pytest.mark.parametrize(("source", "name"), [("m.pt", "out.pt"), ("m", "out"), ("m.pt", "shards")])
@pytest.mark.parametrize("rule", ["*=keep", "*=zeros"])
def test_a_disk_that_is_full_is_one_error_and_leaves_what_was_there(
    small_disk: Path, source: str, name: str, rule: str
) -> None:
    _make_checkpoint()
    (small_disk / "other").write_bytes(b"precious")
    if name == "out.pt":
        (small_disk / name).write_bytes(b"old")

    done = subprocess.run(
        [
            *(*REINIT, source, "-r", rule, "-f", "-o", f"{small_disk}/{name}"),
            *(["--shard-size", "1GB"] if name == "shards" else []),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write ")
    assert done.stderr.count("\n") == 1
    assert "no space left on device" in done.stderr
    expected = {"other": b"precious"} | ({name: b"old"} if name == "out.pt" else {})
    assert _content("disk") == expected


def _limited(nbytes: int) -> Callable[[], None]:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, nbytes))

    return limit


@pytest.mark.parametrize(("source", "output"), [("m.pt", "out.pt"), ("m", "out"), ("m.pt", "s")])
def test_a_limit_on_the_size_of_files_is_one_error(source: str, output: str) -> None:
    _make_checkpoint()
    before = sorted(os.listdir())

    done = subprocess.run(
        [
            *(*REINIT, source, "-r", "*=keep", "-o", output),
            *(["--shard-size", "1GB"] if output == "s" else []),
        ],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_limited(2_000_000),
    )

    assert (done.returncode, done.stderr[:20]) == (2, "error: cannot write ")
    assert "file too large" in done.stderr
    assert sorted(os.listdir()) == before
