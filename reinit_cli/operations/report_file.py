"""Write a report with the output that it is about, or alone."""

from __future__ import annotations

from reinit_cli.storage.destination import Destination
from reinit_cli.storage.local_output import LocalOutput
from reinit_cli.storage.writer import Output


def write_with(output: Output, destination: Destination, data: bytes) -> None:
    """Write a file elsewhere that gets its name in the commit of an output.

    Raises:
        OutputUnwritableError: the disk is full or the folder refuses.
    """
    writer = output.file_at(destination, len(data))
    writer.write_at(0, data)
    writer.close()


def write_alone(destination: Destination, data: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        OutputUnwritableError: the disk is full or the folder refuses.
    """
    with LocalOutput(destination) as output:
        write_with(output, destination, data)
        output.commit()
