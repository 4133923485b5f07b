"""torchrun makes one run of its processes, and what it leaves in an environment makes none of others."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.operations.ranks import REINIT, begin_command, ended, left_by, make_sources, tree

RULES = ("-r", "*.weight=normal:std=0.02")


def _torchrun(count: int, *args: str) -> subprocess.Popen[str]:
    """Begin torchrun on the loopback."""
    launch = ("-m", "torch.distributed.run", "--standalone", "--no-python")
    command = (sys.executable, *launch, "--nproc-per-node", str(count), *REINIT, *args)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, text=True, start_new_session=True)


def _alone(*args: str, environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    return ended([begin_command(*args, env={**os.environ, **(environment or {})})])[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "output", "count"),
    [("m.pt", "out.pt", 2), ("hf", "out", 4), ("dcp-columns", "out", 2)],
)
def test_torchrun_writes_what_one_command_writes(source: str, output: str, count: int) -> None:
    make_sources()
    args = (source, *RULES, "--record", "-o")

    ((code, said, error),) = ended([_torchrun(count, *args, output)])
    assert (code, _without_times(error)) == (0, _without_times(error))
    assert _alone(*args, f"one-{output}")[0] == 0

    assert tree(output) == tree(f"one-{output}")
    assert said.count("*.weight\tnormal") == 1  # rank 0 reports alone
    assert error.count("output: ") == 1
    assert left_by(".") == []


def _without_times(text: str) -> str:
    return re.sub(r"\d+\.\d s", "", text)


@pytest.mark.slow
def test_torchrun_ends_all_when_one_is_killed_and_nothing_is_at_the_destination() -> None:
    make_sources()
    # Long enough to be caught at work, whichever rank draws it.
    rules = ("-r", "emb.weight=orthogonal", "-r", "layers.*=orthogonal")
    process = _torchrun(2, "m.safetensors", *rules, "-o", "out.safetensors")
    while not left_by("."):
        assert process.poll() is None
        time.sleep(0.005)
    _kill_one_of(process.pid)

    ((code, said, _),) = ended([process])

    assert code == 1
    assert said == ""
    assert not Path("out.safetensors").exists()
    assert len(left_by(".")) <= 1

    ((code, _, _),) = ended([_torchrun(2, "m.safetensors", *rules, "-o", "out.safetensors")])
    assert code == 0
    assert _alone("m.safetensors", *rules, "-o", "one.safetensors")[0] == 0
    assert tree("out.safetensors") == tree("one.safetensors")


def _kill_one_of(parent: int) -> None:
    """Kill the last process that another one has begun."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "1", "WORLD_SIZE": "4"},
        {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"},
        {"RANK": "1", "WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": ""},
        {"TORCHELASTIC_RUN_ID": "7"},
        {"SLURM_PROCID": "1", "SLURM_NTASKS": "4", "OMPI_COMM_WORLD_RANK": "1"},
    ],
    ids=["a pod", "a pod with a master", "an empty id", "an id alone", "Slurm and MPI"],
)
def test_a_command_among_variables_of_others_is_alone(environment: Mapping[str, str]) -> None:
    make_sources()

    code, said, _ = _alone(
        "m.safetensors", *RULES, "-o", "out.safetensors", environment=environment
    )

    assert code == 0
    assert "*.weight\tnormal" in said
    assert os.path.exists("out.safetensors")


def test_what_torchrun_sets_makes_a_rank() -> None:
    make_sources()
    environment = {"RANK": "1", "WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "7"}

    code, said, error = _alone(
        *("m.safetensors", *RULES, "-o", "out.safetensors", "--timeout", "0.3"),
        environment=environment,
    )

    assert (code, said) == (2, "")
    assert error == "error: rank 0 did not come within 0.3 s\n"
    assert not os.path.exists("out.safetensors")


def test_options_come_before_what_torchrun_sets() -> None:
    make_sources()
    environment = {"RANK": "3", "WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "7"}
    own = ("--rank", "0", "--world-size", "1", "--run-id", "own")

    code, _, _ = _alone(
        *("m.safetensors", *RULES, "-o", "out.safetensors", *own), environment=environment
    )

    assert code == 0
    assert os.path.exists("out.safetensors")
