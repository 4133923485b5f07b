"""Choose the output that a destination calls for."""

from __future__ import annotations

from reinit_cli.storage.destination import Destination
from reinit_cli.storage.local_output import LocalOutput
from reinit_cli.storage.reader import Modes
from reinit_cli.storage.writer import Output


def output_to(destination: Destination, modes: Modes) -> Output:
    """Return the output that writes to a checked destination with a path.

    Args:
        destination: where the files go.
        modes: the permissions of what a folder is to hold.
    """
    return LocalOutput(destination, modes)
