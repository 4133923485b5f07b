"""What a small command does before its work: counted, as the clock depends on the machine."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

_COUNT_COLLECTIONS = """
import gc, os
from reinit_cli.__main__ import entry
phases = []
leave = os._exit
os._exit = lambda code: (os.write(2, str(len(phases)).encode()), leave(code))
gc.collect()
gc.callbacks.append(lambda phase, info: phases.append(phase))
entry()
"""

_COMMANDS = {
    "rewrite": [
        "model.safetensors",
        "-r",
        "a.weight=xavier_uniform",
        "-q",
        "-o",
        "out.safetensors",
    ],
    "rewrite of a torch file": ["model.pt", "-r", "a.weight=xavier_uniform", "-q", "-o", "out.pt"],
    "stats": ["stats", "model.safetensors"],
    "show": ["show", "model.safetensors", "a.weight"],
    "diff": ["diff", "model.safetensors", "model.pt"],
}


@pytest.fixture(autouse=True)
def _files() -> None:
    state = {"a.weight": torch.ones(3, 40), "a.bias": torch.zeros(3)}
    torch.save(state, "model.pt")
    save_file(state, "model.safetensors")


@pytest.mark.parametrize("args", _COMMANDS.values(), ids=_COMMANDS)
def test_the_garbage_collector_does_not_walk_the_modules(args: list[str]) -> None:
    """It would take a tenth of the time."""
    command = [sys.executable, "-c", _COUNT_COLLECTIONS, *args]

    done = subprocess.run(command, check=False, capture_output=True, timeout=60)

    assert done.stderr.split()[-1] == b"0"
