"""How far a run is: a bar on a terminal, lines in a log, and a word before a download."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from reinit_cli.cli.render import meter
from reinit_cli.operations.batch import plan_batch, requests_of, run_batch
from reinit_cli.request.rule import Rule
from tests.cli.conftest import Done

RULE = ["-r", "*.weight=normal:std=0.5"]


@pytest.fixture(autouse=True)
def model() -> None:
    state = {f"{name}.weight": torch.zeros(300, 20) for name in "ab"}
    save_file(state | {"a.bias": torch.ones(30)}, "m.safetensors")


class Watcher:
    """Counts bytes, and keeps which thread works on which tensor."""

    def __init__(self) -> None:
        self.nbytes = 0
        self.followed: list[tuple[int, str]] = []
        self._lock = threading.Lock()

    def __call__(self, nbytes: int, /) -> None:
        with self._lock:
            self.nbytes += nbytes

    def follow(self, key: str) -> None:
        with self._lock:
            self.followed.append((threading.get_ident(), key))


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("output", ["out/", "-"])
def test_what_watches_a_run_hears_of_each_tensor_before_its_bytes(
    output: str, at_once: int, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    watcher = Watcher()
    requests = requests_of(
        {"sources": ("m.safetensors",), "rules": (Rule.parse("*.weight=normal"),), "output": output}
    )
    run_batch(plan_batch(requests), lambda _: None, watcher, at_once=at_once)

    written = Path("out/m.safetensors") if output == "out/" else None
    size = written.stat().st_size if written else len(capfdbinary.readouterr().out)
    assert watcher.nbytes == size
    keys = [key for _, key in watcher.followed]
    assert sorted(filter(None, keys)) == ["a.weight", "b.weight"]
    for thread in {thread for thread, _ in watcher.followed}:
        own = [bool(key) for other, key in watcher.followed if other == thread]
        assert own == [True, False] * (len(own) // 2)


def test_a_log_gets_a_last_line_where_progress_is_asked_for(reinit: Callable[..., Done]) -> None:
    done = reinit("m.safetensors", *RULE, "--progress", "-q")

    size = Path("m-reinit.safetensors").stat().st_size / 1000
    assert (done.code, done.out) == (0, "")
    assert re.fullmatch(rf"m\.safetensors: {size:.1f} kB in [0-9.]+ s\n", done.err)


@pytest.mark.parametrize("options", [[], ["--no-progress"]])
def test_a_log_gets_nothing_where_it_is_not(
    options: list[str], reinit: Callable[..., Done]
) -> None:
    done = reinit("m.safetensors", *RULE, *options)

    assert "m.safetensors: " not in done.err


def test_a_log_gets_lines_now_and_then(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "_LOG_SECONDS", (0.01,))
    seen = threading.Event()

    with meter.Meter("m", is_shown=True, is_forced=True) as shown:
        progress = shown.of(1000)
        progress.follow("a.weight")
        progress(250)
        for _ in range(500):
            err = capfd.readouterr().err
            if "a.weight" in err:
                break
            seen.wait(0.01)

    assert err.splitlines()[-1].startswith("m: 25% of 1.0 kB, ")
    assert err.splitlines()[-1].endswith(", a.weight")


def test_nothing_is_said_of_a_run_that_fails(reinit: Callable[..., Done]) -> None:
    done = reinit("nope.pt", *RULE, "--progress")

    assert [line.partition(":")[0] for line in done.err.splitlines()] == ["error", "hint"]


def test_a_log_gets_no_last_line_of_a_run_that_fails_midway(reinit: Callable[..., Done]) -> None:
    half = torch.full((9, 9), 60_000.0, dtype=torch.float16)
    save_file({"a.weight": half}, "half.safetensors")
    args = ("half.safetensors", "m.safetensors", "-r", "a.weight=scale:9", "-o", "out/")
    options = ("--progress", "-q")

    done = reinit(*args, *options, "--keep-going")
    assert [line.partition(":")[0] for line in done.err.splitlines()] == [
        *("error", "hint", "1 of 2 done, 1 failed"),
    ]
    done = reinit("half.safetensors", "-r", "a.weight=scale:9", *options)
    assert [line.partition(":")[0] for line in done.err.splitlines()] == ["error", "hint"]
    assert os.listdir("out") == ["m.safetensors"]


def test_a_download_is_named_with_its_size_before_it_begins(
    reinit: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    before: list[str] = []

    def fetched(*_: object, **__: object) -> object:
        before.append(capfd.readouterr().err)
        return torchvision.models.squeezenet1_1().state_dict()

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", fetched)
    args = ("squeezenet1_1", "-r", "classifier.1.bias=zeros", "-f")

    assert reinit(*args, "-q").code == 0
    assert reinit(*args).code == 0
    assert reinit(*args, "-n").code == 0

    name = os.path.basename(weights.url)
    place = os.path.join(torch.hub.get_dir(), "checkpoints", name)
    assert before == [
        "",
        f"downloading the weights of squeezenet1_1 (IMAGENET1K_V1, 5.0 MB) to {place}\n",
    ]
    os.makedirs(os.path.dirname(place))
    Path(place).touch()
    assert reinit(*args).code == 0
    assert before[2:] == [""]


def _on_terminal(*args: str, width: int, **environment: str) -> str:
    """Return what a command writes to a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    unset = ("COLUMNS", "NO_COLOR", "TERM")
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    with subprocess.Popen(
        [sys.executable, "-m", "reinit_cli", *args],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**inherited, "TERM": "xterm", **environment},
    ) as process:
        os.close(theirs)
        seen = bytearray()
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # EIO: the last one who had it open has gone
                break
            if not data:
                break
            seen += data
    os.close(ours)
    assert process.returncode == 0, seen
    return seen.decode()


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 40])
def test_a_bar_on_a_terminal_has_one_line_with_the_tensor_in_work(width: int) -> None:
    key = "layers.0.attention.weight"
    save_file({key: torch.zeros(2500, 2500), "copied": torch.zeros(10)}, "slow.safetensors")

    seen = _on_terminal("slow.safetensors", "-r", "layers.*=orthogonal", "--no-pager", width=width)

    frames = re.split(r"\r|\n", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\r", seen))
    bars = [frame for frame in frames if re.search(r" [0-9]+%", frame)]
    assert bars
    assert max(map(len, bars)) < width
    if width == 80:
        assert any(key in bar and "B/s" in bar for bar in bars)


@pytest.mark.slow
def test_a_dumb_terminal_gets_no_bar_but_lines_where_they_are_asked_for() -> None:
    args = ("m.safetensors", *RULE, "-f", "-q")

    assert _on_terminal(*args, width=80, TERM="dumb") == ""
    assert re.fullmatch(
        r"(m\.safetensors: [^\r\n]*\r\n)*m\.safetensors: [0-9.]+ kB in [0-9.]+ s\r\n",
        _on_terminal(*args, "--progress", width=80, TERM="dumb"),
    )
