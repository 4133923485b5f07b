"""Write local files and folders that appear whole or not at all.

A new file has no name until it is whole (O_TMPFILE), so a process that is killed leaves
nothing. What replaces a file, or lies on a file system without O_TMPFILE, has a temporary
name for a moment or for the whole run; a folder always has one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Self

from reinit_cli.errors import OutputExistsError
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.system import (
    clone_file,
    copy_range,
    link_descriptor,
    lock_if_possible,
    naming_output,
    pread_all,
    pwrite_all,
    rename_to_new,
    reserve_space,
    sync_folder,
)
from reinit_cli.storage.temporary import (
    TemporaryFolder,
    open_temporary,
    remove_stale,
    removed_on_failure,
    temporary_name,
)
from reinit_cli.storage.writer import Writer
from reinit_cli.threads import signals_held

_NEW_MODE = 0o666
"""The permissions of a new file, before the umask."""


class LocalWriter:
    """Writes through a descriptor."""

    is_seekable = True

    def __init__(self, path: str, fd: int) -> None:
        """Take a descriptor over.

        Args:
            path: where the file is to appear, for errors.
            fd: the descriptor.
        """
        self._path = path
        self._fd = fd
        self._can_copy = True

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data` there."""
        with naming_output(self._path):
            pwrite_all(self._fd, offset, data)

    def copy_from(self, reader: Reader, start: int, offset: int, nbytes: int) -> int:
        """Let the kernel copy up to `nbytes`; return how many, 0 where it cannot."""
        if not self._can_copy:
            return 0
        with reader.descriptor() as source:
            if source is None:
                return 0
            with naming_output(self._path):
                count = copy_range(source, start, self._fd, offset, nbytes)
        self._can_copy = count > 0
        return count

    def clone(self, reader: Reader) -> bool:
        """Share all blocks with a file, where the file system can; say whether it could."""
        with reader.descriptor() as source, naming_output(self._path):
            return source is not None and clone_file(source, self._fd)

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return bytes that were written."""
        with naming_output(self._path):
            return pread_all(self._fd, offset, nbytes)

    def close(self) -> None:
        """Declare that all of it is written."""
        raise NotImplementedError

    def discard(self) -> None:
        """Close its descriptor, and remove what has no name yet."""
        raise NotImplementedError


class FileInFolder(LocalWriter):
    """A file in a folder that has no name yet."""

    def __init__(self, path: str, place: str, nbytes: int, mode: int, *, syncs: bool) -> None:
        """Make the file and the folders above it.

        Args:
            path: where it is to appear.
            place: where it is written.
            nbytes: its size.
            mode: its permissions before the umask.
            syncs: whether it is forced to the disk.
        """
        self._syncs = syncs
        self._is_open = True
        with naming_output(path):
            os.makedirs(os.path.dirname(place), exist_ok=True)
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
            fd = os.open(place, flags, mode)
            with removed_on_failure(fd, place):
                reserve_space(fd, nbytes)
        super().__init__(path, fd)

    def close(self) -> None:
        """Close it: the folder gives it its name."""
        if self._is_open:
            with naming_output(self._path):
                if self._syncs:
                    os.fsync(self._fd)
            self.discard()

    def discard(self) -> None:
        """Close its descriptor."""
        if self._is_open:
            self._is_open = False
            os.close(self._fd)


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


class LocalOutput:
    """A lone file, or a folder of files, that appears at a path; see `Output`."""

    def __init__(self, destination: Destination, modes: Mapping[str, int] | None = None) -> None:
        """Write to a checked destination with a path.

        Args:
            destination: where the output goes.
            modes: the permissions, before the umask, of files in a folder that are not those
                of any new file.
        """
        assert destination.path is not None
        self._destination = destination
        self._modes = modes or {}
        self._path = destination.path
        self._folder: TemporaryFolder | None = None
        self._inside: list[FileInFolder] = []
        self._lone: list[WholeFile] = []
        self._extras: list[WholeFile] = []

    def __enter__(self) -> Self:
        """Hand it out."""
        return self

    def __exit__(self, *failure: object) -> None:
        """Remove what was not committed."""
        with ExitStack() as stack:
            if self._folder is not None:
                stack.callback(self._folder.remove)
            for file in (*self._inside, *self._lone, *self._extras):
                stack.callback(file.discard)

    def file(self, name: str, nbytes: int) -> Writer:
        """Return the writer of the lone file, or of one in the folder."""
        with signals_held():  # what was made is known before one raises
            if not name:
                self._lone.append(WholeFile(self._destination, nbytes))
                return self._lone[-1]
            path = os.path.join(self._path, name)
            place = os.path.join(self._temporary_folder().path, name)
            mode, syncs = self._modes.get(name, _NEW_MODE), self._destination.syncs
            self._inside.append(FileInFolder(path, place, nbytes, mode, syncs=syncs))
            return self._inside[-1]

    def file_at(self, destination: Destination, nbytes: int) -> Writer:
        """Return the writer of a file elsewhere."""
        with signals_held():
            self._extras.append(WholeFile(destination, nbytes))
        return self._extras[-1]

    def commit(self) -> None:
        """Give all files their names, those elsewhere first: where the output is, they are."""
        files = [*self._extras, *self._lone]
        for inside in self._inside:
            inside.close()
        for file in files:
            file.stage()
        if self._folder is not None:
            self._stage_folder(self._folder)
        with signals_held(), appearing(files):
            if self._folder is not None:
                self._name_folder(self._folder)
        sync_folders_of(files)
        if self._folder is not None and self._destination.syncs:
            with naming_output(self._path):
                sync_folder(os.path.dirname(self._path.rstrip(os.sep)) or ".")

    def _temporary_folder(self) -> TemporaryFolder:
        if self._folder is None:
            path = self._path.rstrip(os.sep)
            remove_stale(path)
            with naming_output(path):
                self._folder = TemporaryFolder(path)
        return self._folder

    def _stage_folder(self, folder: TemporaryFolder) -> None:
        if self._destination.syncs:
            with naming_output(self._path):
                for inside, _, _ in os.walk(folder.path):
                    sync_folder(inside)
        if os.path.lexists(self._path.rstrip(os.sep)):
            raise OutputExistsError(self._path.rstrip(os.sep))

    def _name_folder(self, folder: TemporaryFolder) -> None:
        path = self._path.rstrip(os.sep)
        with naming_output(path):
            try:
                rename_to_new(folder.path, path)
            except FileExistsError as error:
                raise OutputExistsError(path) from error


def _mode_of(path: str) -> int | None:
    """The permissions of a file that is replaced; a link has none of its own."""
    status = os.lstat(path)
    return stat.S_IMODE(status.st_mode) if stat.S_ISREG(status.st_mode) else None
