"""Write a report that is about no output."""

from __future__ import annotations

from contextlib import ExitStack

from reinit_cli.storage.destination import Destination
from reinit_cli.storage.folders import folders_above
from reinit_cli.storage.outputs import output_to
from reinit_cli.storage.reader import Modes
from reinit_cli.storage.writer import naming_written, put_file


def write_alone(destination: Destination, data: bytes) -> None:
    """Write a file, whole or not at all, and make the folders above it that are missing.

    Raises:
        OutputUnwritableError: the disk is full or the folder refuses.
    """
    with folders_above((destination,)):
        to = output_to(destination, Modes())
        # A signal may raise as the first call to close it begins; no other does after it.
        with naming_written(to), ExitStack() as backstop, backstop.push(to) as output:
            put_file(output, destination, data)
            output.commit()
