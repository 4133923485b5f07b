"""Print how evenly the work on an output is split between ranks, without writing it.

`benchmarks/run.py split` runs it. Of each output, the busiest rank is compared with an even
split of all work, in GB whose copying takes as long. The tensors are those of a model of 1.4 T
parameters in bfloat16; a seeded tenth of them is drawn.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import cast

from reinit_cli.execution.divide import divided
from reinit_cli.execution.fill import Fill, FillPart
from reinit_cli.execution.share import cost_of, shares_of
from reinit_cli.initializers import parse_init
from reinit_cli.initializers.law import Law
from reinit_cli.planning.plan import Step
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Copy, Segment
from reinit_cli.streams.stream import DEFAULT_STREAM
from reinit_cli.tensors.info import TensorInfo

Files = Mapping[str, Sequence[Segment]]

FILE = cast("Reader", object())


def fill(*shape: int) -> Fill:
    """Draw a matrix of bfloat16."""
    law = parse_init("normal:std=0.02").law(shape)
    assert isinstance(law, Law)
    tensor = TensorInfo("w", "bfloat16", shape, 2 * shape[0] * shape[1])
    step = Step(tensor, "fill", law=law, seed_key="w", seed=0, stream=DEFAULT_STREAM)
    return Fill(step, tensor.nbytes)


def shards(count: int, tensors: int, *shape: int) -> Files:
    """Return shards of matrices, a tenth of which is drawn."""
    chance = random.Random(0)
    copy = Copy(FILE, 0, 2 * shape[0] * shape[1])
    return {
        f"model-{at:05d}.safetensors": [
            fill(*shape) if chance.random() < 0.1 else copy for _ in range(tensors)
        ]
        for at in range(count)
    }


def dcp(ranks: int, tensors: int, axis: int) -> Files:
    """Return what ranks wrote, each its rows or columns of every matrix, all of them drawn."""
    fills = [fill(16384, 16384) for _ in range(tensors)]
    step = 16384 // ranks
    files: dict[str, list[Segment]] = {}
    for rank in range(ranks):
        own = rank * step, (rank + 1) * step
        box = (own, (0, 16384)) if axis == 0 else ((0, 16384), own)
        parts = [FillPart(each, each.nbytes // ranks, box) for each in fills]
        files[f"__{rank}_0.distcp"] = [*parts]
    return files


def show(name: str, files: Files, count: int, least: float) -> None:
    """Print a row of the table: how much faster, at least, all ranks are than one."""
    started = time.process_time()
    files = divided(files, count)
    shares = shares_of(files, count)
    seconds = time.process_time() - started
    loads = [
        sum(cost_of(files[name][at]) for name, found in share.items() for at in found)
        for share in shares
    ]
    busiest, mean = max(loads) / 1e9, sum(loads) / count / 1e9
    speedup = sum(loads) / max(loads)
    print(
        f"| {name} over {count} ranks: {speedup:.1f}×, split in {seconds:.2f} s | {busiest:.1f} GB "
        f"| an even split | {mean:.1f} GB | {busiest / mean:.2f} | {count / least:.2f} |",
        flush=True,
    )


def main() -> None:
    """Print the table's rows."""
    many = shards(1000, 100, 2048, 7168)
    show("1,000 shards", many, 64, 60)
    show("1,000 shards", many, 256, 240)
    few = shards(4, 300, 4096, 4096)
    show("4 shards", few, 16, 15)
    show("a file alone", shards(1, 300, 4096, 4096), 16, 15)
    show("a tensor alone, drawn", {"m.safetensors": [fill(262_144, 16_384)]}, 16, 15)
    show("256 DCP files of rows, drawn", dcp(256, 200, axis=0), 64, 60)
    show("256 DCP files of columns, drawn", dcp(256, 200, axis=1), 64, 60)


if __name__ == "__main__":
    main()
