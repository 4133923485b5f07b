"""Run the campaign and print what it found.

python -m tests.campaign [PART ...] [--seed N] [--times N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from tests.campaign import changing, faults, kills
from tests.campaign.parsers import (
    archives,
    arguments,
    indices,
    patterns,
    pickles,
    recipes,
    records,
    safetensors,
)
from tests.campaign.server import Servers, start_servers
from tests.campaign.tally import Tally


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the campaign.

    Attributes:
        run: tries a number of inputs or faults in a folder.
        few: how many the fast tests try.
        many: how many the slow tests try.
        all: how many `make campaign` tries.
    """

    run: Callable[[Random, int, Path, Servers], Tally]
    few: int
    many: int
    all: int


PARTS: dict[str, Part] = {
    "faults": Part(faults.run, few=40, many=600, all=6000),
    "archives": Part(archives.run, few=300, many=3000, all=60_000),
    "pickles": Part(pickles.run, few=300, many=3000, all=60_000),
    "pickles, every command": Part(pickles.run_commands, few=30, many=300, all=6000),
    "kills": Part(kills.run, few=24, many=300, all=2000),
    "changing": Part(changing.run, few=30, many=300, all=3000),
    "pairs": Part(changing.run_pairs, few=4, many=40, all=200),
    "safetensors": Part(safetensors.run, few=800, many=8000, all=60_000),
    "indices": Part(indices.run, few=200, many=2000, all=20_000),
    "recipes": Part(recipes.run, few=200, many=2000, all=20_000),
    "records": Part(records.run, few=200, many=2000, all=20_000),
    "patterns": Part(patterns.run, few=200, many=2000, all=20_000),
    "arguments": Part(arguments.run, few=200, many=2000, all=20_000),
}


def run_part(name: str, seed: int, count: int, place: Path, servers: Servers) -> Tally:
    """Run one part under its own random stream, whatever other parts run."""
    return PARTS[name].run(Random(f"{seed}:{name}"), count, place, servers)


def main(argv: list[str]) -> int:
    """Run the parts that are asked for, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("part", nargs="*", choices=[[], *PARTS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--times", type=float, default=1.0, help="how much of each part to run")
    asked = parser.parse_args(argv)
    print("part\ttried\tbad\tworst CPU\tmost memory\ttook", flush=True)
    bad = [_report(name, asked.seed, asked.times) for name in asked.part or PARTS]
    for finding in (each for tally in bad for each in tally.findings):
        print(finding, file=sys.stderr)
    return int(any(tally.findings for tally in bad))


def _report(name: str, seed: int, times: float) -> Tally:
    started = time.monotonic()
    servers = start_servers()
    with tempfile.TemporaryDirectory(prefix=f"campaign-{name}-") as place:
        try:
            tally = run_part(name, seed, max(1, int(PARTS[name].all * times)), Path(place), servers)
        except pytest.skip.Exception as reason:
            print(f"{name}\tskipped: {reason}", flush=True)
            return Tally()
        finally:
            servers.close()
    took = time.monotonic() - started
    cells = (
        *(name, str(tally.tried), str(len(tally.findings))),
        *(f"{tally.seconds:.2f} s", f"{tally.nbytes / 1e6:.0f} MB", f"{took:.0f} s"),
    )
    print("\t".join(cells), flush=True)
    for kind, count in sorted(tally.counts.items()):
        print(f"  {kind}\t{count}", flush=True)
    return tally


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
