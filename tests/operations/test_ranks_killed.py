"""A rank that is killed leaves nothing at the destination, and the next run begins again or goes on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from tests.campaign.tracing import Call, calls_of, failing
from tests.operations.ranks import REINIT, RUN_ID, begin, begin_command, ended, make_sources, tree
from tests.tools import tool

KILLS = 100
COUNT = 2

RULES = ("-r", "*.weight=normal:std=0.02", "-r", "layers.0.*=orthogonal", "-q")
RUNS = {
    "file": ("m.safetensors", "out.safetensors"),
    "archive": ("m.pt", "out.pt"),
    "folder": ("hf", "out"),
    "DCP": ("dcp-grid", "out"),
}
CALLS = (
    *("mkdir", "rename", "renameat2", "unlink", "unlinkat", "rmdir", "link", "linkat"),
    *("openat", "write", "pwrite64", "copy_file_range", "ftruncate", "fallocate", "fsync", "close"),
)
NEXT = ("again", "resumed", "alone", "another run")


def _traced(rank: int, log: Path, *how: str) -> Sequence[str]:
    """Return the command of a rank that strace runs."""
    together = ("--rank", str(rank), "--world-size", str(COUNT), "--run-id", RUN_ID)
    strace = (tool("strace"), "-f", "-qq", "-y", "-s", "64", "-o", str(log), *how)
    return (*strace, *REINIT, *RULES, "--timeout", "60", *together)


class _Runs:
    """Runs of two ranks, of which one is killed."""

    def __init__(self, random: Random, log: Path) -> None:
        self._random = random
        self._log = log
        self._expected: dict[str, object] = {}
        self._calls: dict[tuple[str, int], list[Call]] = {}
        self._seconds: dict[str, tuple[float, float]] = {}
        self.tally = dict.fromkeys(("killed", "late", "committed", *NEXT), 0)

    def kill(self, name: str) -> None:
        """Kill a rank at some moment, and judge what is left and what the next run does."""
        rank = self._random.randrange(COUNT)
        if self._random.random() < 0.5:
            said = self._at_a_moment(name, rank)
        else:
            said = self._at_a_call(name, rank)
        self._judge(name, f"{name}, rank {rank} killed {said}")

    def _at_a_moment(self, name: str, rank: int) -> str:
        """Kill a rank, mostly while there is something to lose."""
        first, last = self._times(name)
        begins = 0.0 if self._random.random() < 0.2 else first
        moment = begins + self._random.random() * (last - begins)
        source, output = RUNS[name]
        processes = begin(COUNT, source, *RULES, "-o", f"to/{output}")
        time.sleep(moment)
        processes[rank].kill()
        self._end(processes, rank)
        return f"after {moment:.3f} s"

    def _at_a_call(self, name: str, rank: int) -> str:
        """Kill a rank when it makes a system call."""
        call = self._random.choice(self._calls_of(name, rank))
        processes = self._begin_traced(name, rank, *failing(call, "signal=KILL"))
        processes[rank].wait(60)
        self._end(processes, rank)
        return f"at {call.name} {call.nth}"

    def _begin_traced(self, name: str, rank: int, *how: str) -> list[subprocess.Popen[str]]:
        source, output = RUNS[name]
        args = (source, *RULES, "-o", f"to/{output}")
        processes = begin(COUNT, *args, ranks=[each for each in range(COUNT) if each != rank])
        traced = subprocess.Popen(
            (*_traced(rank, self._log, *how), source, "-o", f"to/{output}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return [*processes[:rank], traced, *processes[rank:]]

    def _end(self, processes: list[subprocess.Popen[str]], rank: int) -> None:
        """End all others, as torchrun does when one is gone."""
        processes[rank].wait(60)
        for process in processes:
            process.terminate()
        codes = [code for code, *_ in ended(processes)]
        assert set(codes) <= {0, 2, 143, -15, -9}, codes
        self.tally["killed" if codes[rank] == -9 else "late"] += 1

    def _times(self, name: str) -> tuple[float, float]:
        """Return when the staging appears, and when the run is over."""
        if name not in self._seconds:
            started = time.monotonic()
            source, output = RUNS[name]
            processes = begin(COUNT, source, *RULES, "-o", f"to/{output}")
            first = 0.0
            while any(process.poll() is None for process in processes):
                if not first and os.listdir("to"):
                    first = time.monotonic() - started
                time.sleep(0.002)
            self._seconds[name] = first * 0.9, time.monotonic() - started
            assert {code for code, *_ in ended(processes)} == {0}
            self._check_output(name)
        return self._seconds[name]

    def _calls_of(self, name: str, rank: int) -> list[Call]:
        """Return the calls of a rank that are about the files of a run."""
        if (name, rank) not in self._calls:
            processes = self._begin_traced(name, rank, "-e", f"trace={','.join(CALLS)}")
            assert [code for code, *_ in ended(processes)] == [0] * COUNT
            self._check_output(name)
            lines = self._log.read_text(errors="replace").splitlines()
            self._calls[name, rank] = calls_of(lines, Path.cwd() / "to")
        return self._calls[name, rank]

    # --- what is left -------------------------------------------------------------------

    def _judge(self, name: str, case: str) -> None:
        output = RUNS[name][1]
        left = os.listdir("to")
        if output in left:
            self.tally["committed"] += 1
            left.remove(output)
            self._check_output(name)
        assert len(left) <= 1, case
        assert all(re.fullmatch(rf"\.{output}\.reinit-[0-9a-f]{{12}}", each) for each in left), case
        self._go_on(name, self._random.choice(NEXT), case)

    def _go_on(self, name: str, how: str, case: str) -> None:
        """Run again; another run leaves what this one left, unless that is an empty folder."""
        source, output = RUNS[name]
        args = (source, *RULES, "-o", f"to/{output}")
        is_other = how in ("alone", "another run")
        left = [each for each in os.listdir("to") if os.listdir(f"to/{each}")] if is_other else []
        if is_other:
            own = ("--rank", "0", "--world-size", "1", "--run-id", "other")
            found = ended([begin_command(*args, *(own if how == "another run" else ()))])
        else:
            found = ended(begin(COUNT, *args, *(("--resume",) if how == "resumed" else ())))
        assert [code for code, *_ in found] == [0] * len(found), (case, how, found)
        self._check_output(name)
        assert os.listdir("to") == left, (case, how)
        shutil.rmtree(Path("to", *left)) if left else None
        self.tally[how] += 1

    def _check_output(self, name: str) -> None:
        """Compare the output with what one command writes, and remove it."""
        source, output = RUNS[name]
        if name not in self._expected:
            assert (
                ended([begin_command(source, *RULES, "-o", f"one {name}{Path(output).suffix}")])[0][
                    0
                ]
                == 0
            )
            self._expected[name] = tree(f"one {name}{Path(output).suffix}")
        path = Path("to", output)
        assert tree(path) == self._expected[name]
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def runs(tmp_path: Path) -> _Runs:
    make_sources()
    Path("to").mkdir()
    return _Runs(Random(18), tmp_path / "calls")


@pytest.mark.slow
def test_ranks_killed_at_any_moment_lose_nothing(runs: _Runs) -> None:
    for at in range(KILLS):
        runs.kill(list(RUNS)[at % len(RUNS)])

    assert runs.tally["killed"] >= KILLS / 2, runs.tally
    assert all(runs.tally[how] for how in NEXT), runs.tally
