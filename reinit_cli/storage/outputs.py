"""Choose the output that a destination calls for."""

from __future__ import annotations

from collections.abc import Callable

from reinit_cli.storage.destination import Destination
from reinit_cli.storage.local_output import LocalOutput
from reinit_cli.storage.location import is_remote
from reinit_cli.storage.reader import Modes
from reinit_cli.storage.writer import Output


def output_to(
    destination: Destination,
    modes: Modes,
    waits: Callable[[str], bool] = lambda _: False,
    is_last: Callable[[str], bool] = lambda _: False,
) -> Output:
    """Return the output that writes to a checked destination with a path.

    Args:
        destination: where the files go.
        modes: the permissions of what a folder is to hold, where a place has any.
        waits: whether a file is written in any order, for a place that takes bytes in order.
        is_last: whether a file of a folder says which others belong to it.

    Raises:
        OutputUnwritableError: the place refuses.
    """
    assert destination.path is not None
    if not is_remote(destination.path):
        return LocalOutput(destination, modes)
    from reinit_cli.storage.remote.output import RemoteOutput

    return RemoteOutput(destination, waits, is_last)
