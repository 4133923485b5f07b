"""Choose how a file is written that lies elsewhere than its output."""

from __future__ import annotations

from reinit_cli.storage.destination import Destination
from reinit_cli.storage.location import is_remote
from reinit_cli.storage.whole_file import WholeFile
from reinit_cli.storage.writer import Whole


def file_elsewhere(destination: Destination, nbytes: int) -> Whole:
    """Return the writer of a file, such as a report, that gets its name when it is whole.

    Args:
        destination: where it goes, checked.
        nbytes: its size.

    Raises:
        OutputUnwritableError: the folder, the disk or a remote place refuses.
    """
    assert destination.path is not None
    if not is_remote(destination.path):
        return WholeFile(destination, nbytes)
    from reinit_cli.storage.remote.object import RemoteObject

    return RemoteObject(destination, nbytes)
