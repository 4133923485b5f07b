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


_LIST_MODULES = """
import os, sys
from reinit_cli.__main__ import entry
leave = os._exit
os._exit = lambda code: (os.write(2, " ".join(sys.modules).encode()), leave(code))
entry()
"""

_REWRITES = ("rewrite", "rewrite of a torch file")

_NOT_FOR_A_REWRITE = (
    *("torch", "rich", "jinja2", "statistics", "importlib.metadata", "reinit_cli.cli.hints"),
    *("reinit_cli.cli.render.table", "reinit_cli.initializers.families.transforms"),
    *("reinit_cli.initializers.loose", "reinit_cli.request.recipe", "reinit_cli.storage.pipe"),
    *("reinit_cli.planning.optimizers", "reinit_cli.streams.philox.normal"),
    *("reinit_cli.streams.torch.chance", "reinit_cli.checkpoints.models.torchvision"),
)
"""What explains mistakes, prints tables, reads recipes, draws other laws, or knows models."""


@pytest.mark.parametrize(
    ("command", "most"),
    [
        ("rewrite", 275),
        ("rewrite of a torch file", 330),
        ("show", 120),
        ("stats", 178),
        ("diff", 240),
    ],
)
def test_a_command_imports_few_of_our_modules(command: str, most: int) -> None:
    """Each takes a fifth of a millisecond: `importtime` of Python lists them."""
    args = [sys.executable, "-c", _LIST_MODULES, *_COMMANDS[command]]

    done = subprocess.run(args, check=False, capture_output=True, timeout=60)

    found = set(done.stderr.decode().split())
    assert 50 < sum(name.startswith("reinit_cli") for name in found) <= most
    assert found.isdisjoint(_NOT_FOR_A_REWRITE) or command not in _REWRITES
