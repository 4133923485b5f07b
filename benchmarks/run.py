"""Print what commands take beside the alternative, in one run.

Whole processes, medians of several after one that is not counted.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

REINIT = (sys.executable, "-m", "reinit_cli")


@dataclass(frozen=True)
class Cost:
    """Medians over runs of one command."""

    seconds: float
    megabytes: float


def measure(*args: str, runs: int = 5) -> Cost:
    """Run a command several times."""
    seconds, megabytes = [], []
    for run in range(runs + 1):
        started = time.perf_counter()
        process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, _, usage = os.wait4(process.pid, 0)
        if run:
            seconds.append(time.perf_counter() - started)
            megabytes.append(usage.ru_maxrss / 1000)
    return Cost(statistics.median(seconds), statistics.median(megabytes))


def show(name: str, cost: Cost, other: str, reference: Cost) -> None:
    """Print a line of the table."""
    print(
        f"| {name} | {cost.seconds:.2f} s | {cost.megabytes:.0f} MB "
        f"| {other} | {reference.seconds:.2f} s | {reference.megabytes:.0f} MB "
        f"| {cost.seconds / reference.seconds:.2f} |"
    )


# In another process, since a process starts with the peak of the one it is forked from.
CHECKPOINT = """
import torch
from safetensors.torch import save_file
state = {f"layers.{at}.weight": torch.ones(4096, 2048).bfloat16() for at in range(32)}
save_file(state, "model.safetensors")
"""

SCRIPT = """
import torch
from safetensors.torch import load_file, save_file
state = load_file("model.safetensors")
for at in range(0, 32, 10):
    torch.nn.init.normal_(state[f"layers.{at}.weight"], std=0.02)
save_file(state, "script.safetensors")
"""


def main() -> None:
    """Make a checkpoint, and run everything on it."""
    subprocess.run([sys.executable, "-c", CHECKPOINT], check=True)
    size = os.stat("model.safetensors").st_size / 1e6
    print(f"checkpoint: {size:.0f} MB, cores: {os.cpu_count()}\n")
    print("| command | time | memory | beside | time | memory | ratio |")
    print("|---|---|---|---|---|---|---|")
    click = measure(sys.executable, "-c", "import click")
    bare = "`import click`"
    show("`reinit --help`", measure(*REINIT, "--help"), bare, click)
    show(
        "a syntax error in a rule", measure(*REINIT, "model.safetensors", "-r", "foo"), bare, click
    )
    show("`reinit keys FILE`", measure(*REINIT, "keys", "model.safetensors"), bare, click)
    rewrite = measure(
        *(*REINIT, "model.safetensors", "-r", "layers.*0.weight=normal:std=0.02"),
        *("-f", "-o", "out.safetensors"),
        runs=3,
    )
    script = measure(sys.executable, "-c", SCRIPT, runs=3)
    show("a rewrite, an eighth drawn", rewrite, "`load_file`, `nn.init`, `save_file`", script)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        main()
