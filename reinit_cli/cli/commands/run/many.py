"""Declare the options of `reinit run` for many files, and for many processes."""

from __future__ import annotations

from reinit_cli.cli.help import option
from reinit_cli.cli.options import CountType, DistanceType

FILES, RANKS = "Many files", "Many processes"

MANY = (
    option(
        "--files-from",
        metavar="FILE",
        heading=FILES,
        help="Read more sources from FILE, one a line; '-' is stdin",
    ),
    option(
        "-0",
        "--null",
        is_flag=True,
        heading=FILES,
        help="Names in --files-from end with NUL instead of a newline",
    ),
    option(
        "-j",
        "--jobs",
        type=CountType(),
        default=1,
        metavar="N",
        heading=FILES,
        help="Write N outputs in parallel  [default: 1]",
    ),
    option(
        "--keep-going",
        is_flag=True,
        heading=FILES,
        help="Continue after a failed input; exit with 3",
    ),
    option(
        "--rank",
        type=CountType(0),
        metavar="K",
        heading=RANKS,
        help="Write a part of the output, as process K of --world-size, numbered from 0. torchrun "
        "says so itself; with srun or mpirun, give --rank, --world-size and --run-id.",
    ),
    option(
        "--world-size",
        type=CountType(),
        metavar="N",
        heading=RANKS,
        help="The number of processes that write the output together",
    ),
    option(
        "--run-id",
        metavar="ID",
        heading=RANKS,
        help="A name that all of these processes have for this run",
    ),
    option(
        "--timeout",
        type=DistanceType(),
        metavar="SECONDS",
        heading=RANKS,
        help="How long to wait for a process that gives no sign of life  [default: 600]",
    ),
    option(
        "--resume",
        is_flag=True,
        default=None,
        heading=RANKS,
        help="Go on from what processes had finished when a run with this --run-id was "
        "interrupted, after checking it",
    ),
)
