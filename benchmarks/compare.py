"""Print what commands take here and in another checkout, in one run.

    python benchmarks/compare.py ../other-checkout

Both are run in turns, as whole processes with one interpreter, on the checkpoint of
`benchmarks/run.py` and on a folder of its shards. The ratio is that of the medians.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from run import ALL, MAKE, REINIT, TENTH

HERE = str(Path(__file__).parents[1])
RUNS = 3

COMMANDS = {
    "`reinit --help`": ("--help",),
    "`reinit keys m.safetensors`": ("keys", "m.safetensors"),
    "`reinit keys m.pt`": ("keys", "m.pt"),
    "a dry run": ("m.safetensors", *TENTH, "-n"),
    "a tenth of `m.safetensors` drawn": ("m.safetensors", *TENTH, "-o", "out.safetensors"),
    "a tenth of `m.pt` drawn": ("m.pt", *TENTH, "-o", "out.pt"),
    "all of `m.safetensors` drawn": ("m.safetensors", *ALL, "-o", "out.safetensors"),
    "the same, `-v`": ("m.safetensors", *ALL, "-o", "out.safetensors", "-v"),
    "noise on all": ("m.safetensors", "-r", "*=noise:std=0.01", "-o", "out.safetensors"),
    "a tenth drawn, `--record`": ("m.safetensors", *TENTH, "-o", "out.safetensors", "--record"),
    "`reinit verify`": ("verify", "recorded.safetensors"),
    "`m.pt` converted": ("m.pt", "-o", "out.safetensors"),
    "a tenth of a folder drawn": ("shards", *TENTH, "-o", "out/"),
    "`reinit stats`": ("stats", "m.safetensors"),
    "`reinit diff`": ("diff", "m.safetensors", "m.pt"),
}


class Cost(NamedTuple):
    """What one run took; megabytes are the peak of its memory."""

    seconds: float
    cpu_seconds: float
    megabytes: float


def run(checkout: str, args: tuple[str, ...]) -> Cost:
    """Run a command of a checkout, without its output there."""
    for name in ("out.pt", "out.safetensors"):
        Path(name).unlink(missing_ok=True)
    shutil.rmtree("out", ignore_errors=True)
    started = time.perf_counter()
    process = subprocess.Popen(
        (*REINIT, *args),
        env=os.environ | {"PYTHONPATH": checkout},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"failed in {checkout}: {args}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


def medians(costs: list[Cost]) -> Cost:
    """Return the median of each figure."""
    return Cost(*map(statistics.median, zip(*costs, strict=True)))


def main(other: str) -> None:
    """Make the checkpoints, and run each command in both checkouts by turns."""
    subprocess.run([sys.executable, "-c", MAKE, "1"], check=True)
    run(HERE, ("m.safetensors", *TENTH, "-o", "recorded.safetensors", "--record"))
    run(HERE, ("m.safetensors", "--shard-size", "200MB", "-o", "shards"))
    print("| what | there | here | ratio | CPU there | CPU here | MB there | MB here |")
    print("|---|---|---|---|---|---|---|---|")
    for name, args in COMMANDS.items():
        costs: dict[str, list[Cost]] = {other: [], HERE: []}
        for turn in range(RUNS + 1):
            for checkout, found in costs.items():
                cost = run(checkout, args)
                if turn:  # the first warms the caches
                    found.append(cost)
        there, here = (medians(found) for found in costs.values())
        print(
            f"| {name} | {there.seconds:.2f} s | {here.seconds:.2f} s "
            f"| {here.seconds / there.seconds:.2f} | {there.cpu_seconds:.2f} s "
            f"| {here.cpu_seconds:.2f} s | {there.megabytes:.0f} | {here.megabytes:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    checkout = str(Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        main(checkout)
