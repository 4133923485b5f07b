"""Hold on to the folder of an output, whatever becomes of its path.

Somebody may move the folder and put another in its place while a run writes into it. By
their paths, some files of the output would then be in the one and some in the other.
"""

from __future__ import annotations

import os

from reinit_cli.errors import OutputUnwritableError
from reinit_cli.storage.closing import close_quietly


class Anchor:
    """The folder of a path.

    Attributes:
        place: another path of the same name in the same folder, which stays right if the
            folder is moved; where the system has none, the path itself.
    """

    def __init__(self, path: str) -> None:
        """Hold on to the folder.

        Raises:
            OSError: there is no such folder.
        """
        self._path = path
        self._folder, name = os.path.dirname(path) or os.curdir, os.path.basename(path)
        self._fd: int | None = None
        self.place = path
        if hasattr(os, "O_PATH"):
            self._fd = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            held = f"/proc/self/fd/{self._fd}"
            self.place = os.path.join(held, name) if os.path.exists(held) else path

    def check(self) -> None:
        """Insist that the path still leads into the folder.

        Raises:
            OutputUnwritableError: it does not: the output would not be where its name says.
            OSError: there is no folder.
        """
        if self._fd is None:
            return
        if not os.path.samestat(os.stat(self._folder), os.fstat(self._fd)):
            raise OutputUnwritableError(self._path, "its folder was replaced meanwhile")

    def called(self, name: str) -> str:
        """Return what people call a file in the folder."""
        return os.path.join(os.path.dirname(self._path), os.path.basename(name))

    def close(self) -> None:
        """Let the folder go."""
        if self._fd is not None:
            close_quietly(self._fd)
            self._fd = None
