"""Print what draws of philox-1 cost next to torch's own, on one thread.

`benchmarks/run.py` runs it. The draws take turns in one process; the figure of each is the
least of several rounds, in nanoseconds of processor time for one value.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.init import trunc_normal_

from reinit_cli.streams.philox.stream import PhiloxStream

NUMEL = 1 << 22
ROUNDS = 12
BEYOND = 10_000_000_000 - 1_000_000

Draw = Callable[[], object]


class Row(NamedTuple):
    """Two ways to the same values, and how much longer ours may take."""

    name: str
    ours: Draw
    beside: str
    theirs: Draw
    limit: float
    numel: int = NUMEL


def rows() -> list[Row]:
    """Return what is compared."""
    stream = PhiloxStream()
    chance = stream.chance(stream.seed_for(7, "embed.weight"), "cpu")
    generator = torch.Generator().manual_seed(7)
    out, tensor = np.empty(NUMEL, np.float32), torch.empty(NUMEL)
    wide, tensor64 = np.empty(NUMEL), torch.empty(NUMEL, dtype=torch.float64)
    part = out[:1_000_000]

    def truncate(low: float, high: float) -> tuple[Draw, Draw]:
        return (
            lambda: chance.at(0).truncated(out, 0.0, 1.0, low, high),
            lambda: trunc_normal_(tensor, 0.0, 1.0, low, high, generator=generator),
        )

    narrow, uncut = truncate(-2, 2), truncate(-20, 20)
    return [
        Row(
            "normals",
            lambda: chance.at(0).normal(out, 0.0, 0.02),
            "`normal_`",
            lambda: tensor.normal_(0.0, 0.02, generator=generator),
            1.4,
        ),
        Row(
            "uniforms",
            lambda: chance.at(0).uniform(out, -0.1, 0.1),
            "`uniform_`",
            lambda: tensor.uniform_(-0.1, 0.1, generator=generator),
            1.1,
        ),
        Row("normals truncated at ±2 std", narrow[0], "`trunc_normal_`", narrow[1], 0.3),
        Row("normals truncated at ±20 std", uncut[0], "`trunc_normal_`", uncut[1], 1.4),
        Row(
            "normals, float64",
            lambda: chance.at(0).normal(wide, 0.0, 0.02),
            "`normal_`",
            lambda: tensor64.normal_(0.0, 0.02, generator=generator),
            1.4,
        ),
        Row(
            "the last 1 M normals of 10¹⁰",
            lambda: chance.at(BEYOND).normal(part, 0.0, 0.02),
            "the first 1 M",
            lambda: chance.at(0).normal(part, 0.0, 0.02),
            1.1,
            len(part),
        ),
    ]


def nanoseconds(draw: Draw, numel: int) -> float:
    """Return what a value takes of this thread's time."""
    started = time.thread_time()
    draw()
    return 1e9 * (time.thread_time() - started) / numel


def main() -> None:
    """Print lines of the table of results."""
    torch.set_num_threads(1)
    for row in rows():
        ours, theirs = (
            min(times)
            for times in zip(
                *(
                    (nanoseconds(row.ours, row.numel), nanoseconds(row.theirs, row.numel))
                    for _ in range(ROUNDS)
                ),
                strict=True,
            )
        )
        sys.stdout.write(
            f"| {row.name} | {ours:.2f} ns | {row.beside} | {theirs:.2f} ns "
            f"| {ours / theirs:.2f} | {row.limit:.2f} |\n"
        )


if __name__ == "__main__":
    main()
