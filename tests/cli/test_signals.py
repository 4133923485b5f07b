"""Signals end a command at once, whatever it waits for, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

REINIT = (sys.executable, "-m", "reinit_cli")

ENDS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]

pytestmark = pytest.mark.slow

# What draws for as long as it is told to, whatever stops it.
STUBBORN = """
import time
from reinit_cli import register
from reinit_cli.__main__ import entry
from reinit_cli.initializers.law import Constant

class Stubborn(Constant):
    def fill(self, values, chance):
        print("drawing", flush=True)
        time.sleep({seconds})

@register(law="stubborn", example="stubborn")
def stubborn(shape):
    return Stubborn(0.0)

entry()
"""


@contextmanager
def _started(*args: str, stdin: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        args, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _wait_until_it_sleeps(process: subprocess.Popen[bytes], temporaries: int) -> None:
    """Wait until a run has begun to write, and then for a moment."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        open_files = Path(f"/proc/{process.pid}/fd")
        if sum(".reinit-" in name or name.startswith("#") for name in _targets(open_files)) >= (
            temporaries
        ):
            break
        time.sleep(0.02)
    time.sleep(0.3)


def _targets(folder: Path) -> list[str]:
    """Return the names of the files that a process has open."""
    found = []
    for each in folder.iterdir():
        try:
            found.append(os.path.basename(os.readlink(each)))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(("number", "code"), ENDS)
def test_a_run_that_waits_for_its_input_ends(number: signal.Signals, code: int) -> None:
    data = save({"a": torch.zeros(1000, 1000), "b": torch.zeros(9)})
    with _started(
        *(*REINIT, "-", "-r", "b=ones", "-o", "out.safetensors", "-q"), stdin=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.write(data[:500_000])
        process.stdin.flush()
        _wait_until_it_sleeps(process, 1)

        process.send_signal(number)

        assert process.wait(30) == code
    assert os.listdir() == []


@pytest.mark.parametrize(("number", "code"), ENDS)
@pytest.mark.parametrize("rule", ["*=ones", "b=ones"])
def test_a_run_whose_output_nobody_reads_ends(number: signal.Signals, code: int, rule: str) -> None:
    save_file({"a": torch.zeros(1000, 1000), "b": torch.zeros(9)}, "in.safetensors")
    with _started(*REINIT, "in.safetensors", "-r", rule, "-o", "-", "-q") as process:
        assert process.stdout is not None
        process.stdout.read(1)  # it has begun
        time.sleep(0.3)

        process.send_signal(number)

        assert process.wait(30) == code


@pytest.mark.parametrize(("number", "code"), ENDS)
def test_a_comparison_that_waits_for_its_input_ends(number: signal.Signals, code: int) -> None:
    tensors = {"a": torch.zeros(1000, 1000)}
    save_file(tensors, "in.safetensors")
    with _started(*(*REINIT, "diff", "-", "in.safetensors"), stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(save(tensors)[:500_000])
        process.stdin.flush()
        _wait_until_threads_run(process)

        process.send_signal(number)

        assert process.wait(30) == code


def _wait_until_threads_run(process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and len(os.listdir(f"/proc/{process.pid}/task")) == 1:
        time.sleep(0.02)
    time.sleep(0.3)


@pytest.mark.parametrize(("number", "code"), ENDS)
@pytest.mark.parametrize("command", [["keys", "--json"], ["stats"]])
def test_a_listing_that_nobody_reads_ends(
    command: list[str], number: signal.Signals, code: int
) -> None:
    save_file({f"{at:080}": torch.zeros(1) for at in range(2000)}, "in.safetensors")
    with _started("sh", "-c", 'exec "$@" 2>&1', "sh", *REINIT, *command, "in.safetensors") as (
        process
    ):
        assert process.stdout is not None
        process.stdout.read(1)  # it has begun
        time.sleep(0.3)

        process.send_signal(number)

        assert process.wait(30) == code


@pytest.mark.parametrize(("number", "code"), ENDS)
@pytest.mark.parametrize("moment", ["_end_on_second_signal", "cli.streams.open_streams"])
def test_a_signal_while_the_process_starts_is_no_traceback(
    moment: str, number: signal.Signals, code: int
) -> None:
    script = (
        "import os, reinit_cli.__main__ as process, reinit_cli.cli.streams\n"
        "process.cli = reinit_cli.cli\n"
        f"process.{moment} = lambda: os.kill(os.getpid(), {number:d})\n"
        "process.entry()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "inits"], capture_output=True, check=False, timeout=60
    )

    said = b"error: interrupted\n" if number == signal.SIGINT else b""
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", said)


@pytest.mark.parametrize("package", ["torch", "numpy"])
@pytest.mark.parametrize(("number", "code"), ENDS)
def test_a_signal_that_a_library_swallows_while_it_is_imported_ends_the_run(
    number: signal.Signals, code: int, package: str, tmp_path: Path
) -> None:
    save_file({"a": torch.zeros(5)}, "in.safetensors")
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(
        "import time\nprint('importing', flush=True)\n"
        "try:\n    time.sleep(1.5)\nexcept BaseException:\n    pass\n"
    )
    command = [*(sys.executable, "-m", "reinit_cli", "in.safetensors"), *("-r", "a=normal")]
    command += ["--stream", "torch"] if package == "torch" else []
    named = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    with subprocess.Popen(
        [*command, "--in-place"], stdout=subprocess.PIPE, env=os.environ | named
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"importing\n"
        process.send_signal(number)

        assert process.wait(30) == code
    assert os.listdir() == ["in.safetensors"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_process_whatever_it_does(number: signal.Signals) -> None:
    save_file({"a": torch.zeros(5)}, "in.safetensors")
    with _started(
        *(sys.executable, "-c", STUBBORN.format(seconds=60)),
        *("in.safetensors", "-r", "a=stubborn", "-o", "out.safetensors"),
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        time.sleep(0.3)
        assert process.poll() is None

        process.send_signal(signal.SIGINT)

        assert process.wait(30) == -signal.SIGINT
    assert os.listdir() == ["in.safetensors"]


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_process_that_the_first_could_not_reach(
    first: signal.Signals,
) -> None:
    """As in a long call of torch, which no handler interrupts."""
    held = "__import__('ctypes').CDLL(None).pthread_mutex_lock"
    script = STUBBORN.replace("time.sleep({seconds})", f"[{held}(mutex) for _ in range(2)]")
    script = script.replace("import time", "import ctypes\nmutex = ctypes.create_string_buffer(64)")
    with _started(sys.executable, "-c", script, "draw", "stubborn", "5") as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(1)  # until it is in the call
        process.send_signal(first)
        time.sleep(0.3)
        assert process.poll() is None

        process.send_signal(signal.SIGINT)

        assert process.wait(30) == 130


def test_a_hang_up_removes_temporaries() -> None:
    save_file({f"{at}": torch.zeros(5) for at in range(600)}, "in.safetensors")
    with _started(
        *(sys.executable, "-c", "import os; del os.O_TMPFILE\n" + STUBBORN.format(seconds=0.1)),
        *("in.safetensors", "-r", "*=stubborn", "-o", "out.safetensors"),
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(os.listdir()) == 2
        process.send_signal(signal.SIGHUP)

        assert process.wait(30) == 129
    assert os.listdir() == ["in.safetensors"]


@pytest.mark.parametrize(
    ("trap", "number"), [("INT", signal.SIGINT), ("HUP", signal.SIGHUP), ("TERM", signal.SIGTERM)]
)
def test_a_signal_that_the_parent_ignores_is_ignored(trap: str, number: signal.Signals) -> None:
    """As nohup, and a shell that starts it in the background, have it."""
    save_file({f"{at}": torch.zeros(5) for at in range(8)}, "in.safetensors")
    Path("slow.py").write_text(STUBBORN.format(seconds=0.1))
    command = f"trap '' {trap}; exec '{sys.executable}' slow.py in.safetensors"
    with _started("sh", "-c", f"{command} -r '*=stubborn' -o out.safetensors -q") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)

        assert process.wait(60) == 0
    assert Path("out.safetensors").exists()


def test_tests_of_signals_pass_whoever_started_them() -> None:
    """In the background of a shell without job control, as many CI runners have it."""
    test = f"{__file__}::test_a_run_that_waits_for_its_input_ends[{signal.SIGINT:d}-130]"
    python = f"'{sys.executable}' -m pytest -q -p no:cacheprovider"

    done = subprocess.run(
        ["sh", "-c", f"trap '' INT HUP TERM; exec {python} '{test}'"],
        check=False,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        timeout=120,
    )

    assert done.returncode == 0, done.stdout.decode()
    assert b"1 passed" in done.stdout
