"""Write a file that gets its name when it is whole.

A new file has no name until then (O_TMPFILE), so a process that is killed leaves nothing.
What replaces a file, or lies on a file system without O_TMPFILE, has a temporary name for a
moment or for the whole run.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from reinit_cli.errors import OutputExistsError
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.local_writer import LocalWriter
from reinit_cli.storage.system import (
    link_descriptor,
    lock_if_possible,
    naming_output,
    rename_to_new,
    reserve_space,
    sync_folder,
)
from reinit_cli.storage.temporary import (
    open_temporary,
    remove_stale,
    removed_on_failure,
    temporary_name,
)


class WholeFile(LocalWriter):
    """A file that gets its name when it is whole."""

    def __init__(self, destination: Destination, nbytes: int) -> None:
        """Open a temporary and reserve its space.

        Args:
            destination: a checked destination with a path.
            nbytes: the size that the file will have.

        Raises:
            OutputUnwritableError: the folder or the disk refuses.
        """
        assert destination.path is not None
        self.destination = destination
        self._is_replaced = False
        remove_stale(destination.path)
        with naming_output(destination.path):
            fd, self._temporary = open_temporary(destination.path)
            with removed_on_failure(fd, self._temporary):
                reserve_space(fd, nbytes)
        super().__init__(destination.path, fd)

    def close(self) -> None:
        """Leave it open: without its descriptor, a file without a name is gone."""

    @property
    def syncs(self) -> bool:
        """Whether its folder is forced to the disk after the commit."""
        return self._is_replaced or self.destination.syncs

    def stage(self) -> None:
        """Do all that can fail before the file gets its name."""
        self._is_replaced = self.destination.replaces and os.path.lexists(self._path)
        with naming_output(self._path):
            if self._is_replaced and (mode := _mode_of(self._path)) is not None:
                os.fchmod(self._fd, mode)
            if self.syncs:
                os.fsync(self._fd)
            if self._is_replaced and self._temporary is None:
                self._name_temporarily()
        if not self._is_replaced and os.path.lexists(self._path):
            raise self._exists()

    def appear(self) -> None:
        """Give the file its name.

        Raises:
            OutputExistsError: something has appeared there meanwhile.
            OutputUnwritableError: the folder refuses.
        """
        with naming_output(self._path):
            if self._is_replaced:
                assert self._temporary is not None
                os.rename(self._temporary, self._path)
                self._temporary = None
            else:
                self._create()

    def withdraw(self) -> None:
        """Take its name back, unless it replaced another file, which is gone."""
        if not self._is_replaced:
            with suppress(OSError):
                os.unlink(self._path)

    def discard(self) -> None:
        """Close it; what has no name yet, or only a temporary one, is gone."""
        self._forget_temporary()
        os.close(self._fd)

    def _name_temporarily(self) -> None:
        lock_if_possible(self._fd)
        name = temporary_name(self._path)
        link_descriptor(self._fd, name)
        self._temporary = name

    def _create(self) -> None:
        try:
            if self._temporary is None:
                link_descriptor(self._fd, self._path)
            else:
                rename_to_new(self._temporary, self._path)
                self._temporary = None
        except FileExistsError as error:
            raise self._exists() from error

    def _exists(self) -> OutputExistsError:
        return OutputExistsError(self._path, kind=self.destination.kind)

    def _forget_temporary(self) -> None:
        if self._temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(self._temporary)
            self._temporary = None


@contextmanager
def appearing(files: Sequence[WholeFile]) -> Iterator[None]:
    """Give files their names; take those of new files back where what comes next fails."""
    named: list[WholeFile] = []
    try:
        for file in files:
            file.appear()
            named.append(file)
        yield
    except BaseException:
        for file in reversed(named):
            file.withdraw()
        raise


def sync_folders_of(files: Sequence[WholeFile]) -> None:
    """Force the names of files to the disk where that is asked for, or others were replaced."""
    for file in files:
        path = file.destination.path
        if file.syncs and path is not None:
            with naming_output(path):
                sync_folder(os.path.dirname(path) or ".")


def _mode_of(path: str) -> int | None:
    """The permissions of a file that is replaced; a link has none of its own."""
    status = os.lstat(path)
    return stat.S_IMODE(status.st_mode) if stat.S_ISREG(status.st_mode) else None
