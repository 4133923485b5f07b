"""Run the command line on some of the cores."""

from __future__ import annotations

import os
import sys


def main(count: str, *argv: str) -> None:
    """Be the command line on so many cores, where the system lets a process choose."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(count)])

    from reinit_cli.__main__ import entry

    sys.argv = ["reinit", *argv]
    entry()
