"""Draws of forked processes are those of this one, and no process stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from reinit_cli.execution.fill import Form
from reinit_cli.execution.forked import Forked, can_fork
from reinit_cli.threads import Progress, Work

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux is forked on")

# Forks for draws of any size, and notes each process that is made.
FORKS = """
import os
from reinit_cli.__main__ import entry
from reinit_cli.execution import engine, forked

def fork(make=forked._fork):
    pid = make()
    if pid:
        os.write(9, b"%d\\n" % pid)
    return pid

engine.cores = lambda: 3
engine._FORKED_NBYTES = {least}
forked._fork = fork
entry()
"""


def _reinit(*args: str, least: int = 0) -> tuple[subprocess.CompletedProcess[bytes], list[int]]:
    """Run a command that forks where that many bytes are drawn; return the processes too."""
    reads, writes = os.pipe()
    script = f"import os; os.dup2({writes}, 9)\n{FORKS.format(least=least)}"
    done = subprocess.run(
        [sys.executable, "-c", script, *args],
        capture_output=True,
        check=False,
        pass_fds=[writes],
        timeout=60,
    )
    os.close(writes)
    with open(reads) as file:
        return done, [int(line) for line in file]


def _both(*args: str) -> Iterator[bytes]:
    """Yield what a command prints as it draws in forked processes, and in threads."""
    for least, count in ((0, 3), (2**60, 0)):
        done, forked = _reinit(*args, least=least)
        assert (done.returncode, len(forked)) == (0, count), done.stderr.decode()
        assert not any(map(_is_alive, forked))
        yield done.stdout


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


STATE = {
    "embed.weight": torch.zeros(700, 900, dtype=torch.bfloat16),
    "up.weight": torch.zeros(300, 40),
    "down.weight": torch.zeros(40, 300, dtype=torch.float64),
    "norm.weight": torch.zeros(40, dtype=torch.float16),
    "kept.weight": torch.arange(50.0),
}

RULES = ("-r", "*=normal:std=0.02", "-r", "up*=trunc_normal:std=1", "-r", "norm*=ones")

RULES += ("-r", "kept*=keep")


def _write(name: str) -> None:
    if name.endswith(".pt"):
        torch.save(STATE, name)
    else:
        save_file(STATE, name)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_forked_processes_write_what_threads_write(suffix: str) -> None:
    source, output = f"m.{suffix}", f"out.{suffix}"
    _write(source)
    runs = _both(source, *RULES, "-o", output, "--force")
    written = [Path(output).read_bytes() for _ in runs]

    assert written[0] == written[1]
    found = torch.load(output) if suffix == "pt" else load_file(output)
    assert list(found) == list(STATE) if suffix == "pt" else sorted(STATE)
    assert found["kept.weight"].equal(STATE["kept.weight"])
    assert found["norm.weight"].equal(torch.ones(40, dtype=torch.float16))
    assert abs(found["embed.weight"].double().std().item() / 0.02 - 1) < 0.01
    if suffix == "pt":
        with zipfile.ZipFile(output) as archive:
            assert archive.testzip() is None  # Python's own CRC-32s


def test_what_is_seen_of_draws_is_the_same_whoever_draws() -> None:
    _write("m.safetensors")
    command = ("m.safetensors", *RULES, "-o", "out.safetensors", "--force", "--check", "--json")
    seen = [_timeless(json.loads(printed)) for printed in _both(*command)]

    assert seen[0] == seen[1]
    assert sum("after" in each and "check" in each for each in seen[0]["tensors"]) == 4


def _timeless(said: Any) -> Any:
    if isinstance(said, dict):
        return {key: _timeless(each) for key, each in said.items() if "seconds" not in key}
    return [_timeless(each) for each in said] if isinstance(said, list) else said


def test_numbers_that_are_too_large_are_refused_whoever_draws_them() -> None:
    state = {key: torch.zeros(3000, 1000, dtype=torch.float16) for key in "abcd"}
    save_file(state, "m.safetensors")
    said = []
    for least in (0, 2**60):
        rule = ("-r", "*=normal:std=1.3e4")
        done, forked = _reinit("m.safetensors", *rule, "-o", "o.safetensors", least=least)
        assert (done.returncode, len(forked)) == (2, 0 if least else 3)
        said.append(done.stderr)

    assert said[0] == said[1]
    assert said[0].startswith(b"error: ")
    assert os.listdir() == ["m.safetensors"]


def test_what_depends_on_a_file_is_written_by_this_process() -> None:
    _write("m.safetensors")
    done, forked = _reinit("m.safetensors", "-r", "*=shuffle", "-o", "out.safetensors")

    assert (done.returncode, forked) == (0, [])


def test_little_is_drawn_by_this_process() -> None:
    _write("m.safetensors")
    done, forked = _reinit("m.safetensors", *RULES, "-o", "out.safetensors", least=2**26)

    assert (done.returncode, forked) == (0, [])


@contextmanager
def _drawing() -> Iterator[tuple[subprocess.Popen[bytes], IO[str]]]:
    """Begin a long command in a session of its own; yield it, and the numbers of its processes."""
    save_file({key: torch.zeros(4000, 4000) for key in "abcdef"}, "m.safetensors")
    reads, writes = os.pipe()
    script = f"import os; os.dup2({writes}, 9)\n{FORKS.format(least=0)}"
    command = [sys.executable, "-c", script, "m.safetensors", "-r", "*=normal"]
    command += ["-o", "o.safetensors"]
    with (
        subprocess.Popen(
            command, pass_fds=[writes], start_new_session=True, stderr=subprocess.PIPE
        ) as process,
        open(reads) as made,
    ):
        os.close(writes)
        yield process, made


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_leaves_nothing(number: signal.Signals) -> None:
    with _drawing() as (process, made):
        forked = [int(made.readline()) for _ in range(3)]
        time.sleep(0.1)
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=30)

    assert process.returncode == 128 + number
    assert b"Traceback" not in errors
    assert os.listdir() == ["m.safetensors"]
    assert not any(map(_is_alive, forked))


def test_the_processes_of_one_that_is_killed_end() -> None:
    with _drawing() as (process, made):
        for _ in range(3):
            made.readline()
        process.kill()
        process.wait(30)
        made.read()  # it ends when the last process has ended that could write to it


# --- alone -------------------------------------------------------------------------------


def _open_pipes() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(name for name in found if name.startswith("pipe:"))


def _forms(forked: Forked, numbers: Sequence[int], progress: Progress) -> list[Form | None]:
    return [forked.draw(number, progress) for number in numbers]


def _draw(number: int, progress: Progress) -> Form:
    progress(number)
    if number == 13:
        raise ZeroDivisionError
    if number == 14:
        os.kill(os.getpid(), signal.SIGKILL)
    progress(number)
    return {"number": number, "pid": os.getpid()}


def test_a_process_draws_what_it_is_told_and_says_how_far_it_is() -> None:
    told: list[int] = []
    before = _open_pipes()
    with Forked(2, _draw) as forked:
        found = _forms(forked, (3, 4, 5), told.append)

    assert told == [3, 3, 4, 4, 5, 5]
    assert [each and each["number"] for each in found] == [3, 4, 5]
    pids = {each["pid"] for each in found if each}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert not any(map(_is_alive, pids))
    assert _open_pipes() == before


@pytest.mark.parametrize("number", [13, 14])
def test_a_process_that_ends_is_asked_no_more_and_what_it_did_is_taken_back(number: int) -> None:
    told: list[int] = []
    with Forked(2, _draw) as forked:
        found = _forms(forked, (number, 1, number, 2, 3), told.append)

    assert [each and each["number"] for each in found] == [None, 1, None, None, None]
    assert told == [number, -number, 1, 1, number, -number]


def test_a_process_that_is_killed_as_it_waits_is_asked_no_more() -> None:
    with Forked(1, _draw) as forked:
        first = forked.draw(1, lambda _: None)
        assert first is not None
        os.kill(first["pid"], signal.SIGKILL)
        time.sleep(0.1)

        assert forked.draw(2, lambda _: None) is None


def test_a_process_that_is_killed_ends_no_program_that_lets_broken_pipes_end_it() -> None:
    script = """
import os, signal
from reinit_cli.execution.forked import Forked

signal.signal(signal.SIGPIPE, signal.SIG_DFL)
with Forked(1, lambda number, progress: {"pid": os.getpid()}) as forked:
    pid = forked.draw(1, id)["pid"]
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    print(forked.draw(2, id))
    print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.sigpending())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"None\nset() set()\n"


def test_where_the_system_forks_no_more_those_that_there_are_draw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = [True]
    fork = os.fork

    def forks_once() -> int:
        if not left:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        left.pop()
        return fork()

    monkeypatch.setattr(os, "fork", forks_once)
    before = _open_pipes()
    with Forked(3, _draw) as forked:
        assert forked.draw(1, lambda _: None) is not None

    assert _open_pipes() == before


def test_a_signal_while_processes_are_made_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    fork = os.fork

    def fork_and_interrupt() -> int:
        pid = fork()
        if pid:
            made.append(pid)
            os.kill(os.getpid(), signal.SIGINT)
        return pid

    monkeypatch.setattr(os, "fork", fork_and_interrupt)
    before = _open_pipes()
    with pytest.raises(KeyboardInterrupt), Forked(2, _draw):
        pass

    assert len(made) == 2
    assert not any(map(_is_alive, made))
    assert _open_pipes() == before


def test_a_process_that_somebody_stopped_ends_with_the_work() -> None:
    def continue_late(pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    started = time.monotonic()
    with pytest.raises(ZeroDivisionError), Forked(1, _draw) as forked:
        first = forked.draw(1, lambda _: None)
        assert first is not None
        os.kill(first["pid"], signal.SIGSTOP)
        late = threading.Timer(20, continue_late, (first["pid"],))
        late.start()
        raise ZeroDivisionError
    late.cancel()

    assert time.monotonic() - started < 15
    assert not _is_alive(first["pid"])


def test_a_process_ignores_a_hangup_that_the_one_that_made_it_ignores() -> None:
    def hang_up(number: int, progress: Progress) -> Form:
        del progress
        os.kill(os.getpid(), signal.SIGHUP)
        return {"number": number}

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Forked(1, hang_up) as forked:
            under_nohup = forked.draw(1, lambda _: None)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with Forked(1, hang_up) as forked:
            at_a_terminal = forked.draw(1, lambda _: None)
    finally:
        signal.signal(signal.SIGHUP, before)

    assert (under_nohup, at_a_terminal) == ({"number": 1}, None)


def test_a_long_step_of_a_draw_ends_with_the_process_that_waits_for_it() -> None:
    script = """
import os, time
from reinit_cli.execution.forked import Forked

def draw(number, progress):
    os.write(1, b"begun")
    time.sleep(60)
    return {}

with Forked(1, draw) as forked:
    forked.draw(1, print)
"""
    started = time.monotonic()
    command = (sys.executable, "-c", script)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(5) == b"begun"
        process.kill()
        # The pipe ends when the last process has ended that could write to it.
        assert process.stdout.read() == b""

    assert time.monotonic() - started < 40


def test_a_wait_for_a_process_stops_with_its_work() -> None:
    begun = threading.Event()

    def sleep(number: int, progress: Progress) -> Form:
        progress(number)
        for _ in range(600):
            time.sleep(0.1)
            progress(number)
        return {}

    def wait(forked: Forked) -> Form | None:
        return forked.draw(1, lambda _: begun.set())

    started = time.monotonic()
    with Forked(1, sleep) as forked, Work() as work:
        results = work.each(wait, (forked,), 1)
        assert begun.wait(10)
        work.stop()

        assert list(results) == []
    assert time.monotonic() - started < 20


def test_a_process_with_other_threads_or_with_torch_is_not_forked() -> None:
    script = """
import sys, threading
from reinit_cli.execution.forked import can_fork
print(can_fork())
end = threading.Event()
quiet = threading.Thread(target=end.wait, name="reinit-meter"); quiet.start()
print(can_fork())
other = threading.Thread(target=end.wait); other.start()
print(can_fork())
end.set(); other.join(); quiet.join()
sys.modules["torch"] = sys
print(can_fork())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)

    assert done.stdout.split() == [b"True", b"True", b"False", b"False"]
    assert not can_fork()  # torch is imported here
