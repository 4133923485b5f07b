"""Write local files and folders that appear whole or not at all.

The files of a folder are written into a temporary one next to it, which gets its name when
all of them are whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import NoReturn, Self

from reinit_cli.errors import OutputExistsError
from reinit_cli.storage.anchor import Anchor
from reinit_cli.storage.destination import Destination, check_within
from reinit_cli.storage.elsewhere import file_elsewhere
from reinit_cli.storage.folders import make_folders_in, restrict_folders_in
from reinit_cli.storage.in_place import locked
from reinit_cli.storage.local_writer import InsideWriter
from reinit_cli.storage.names import rename_to_new
from reinit_cli.storage.reader import Modes
from reinit_cli.storage.system import naming_output, reserve_space, sync_folder
from reinit_cli.storage.temporary import TemporaryFolder, remove_stale, removed_on_failure
from reinit_cli.storage.whole_file import (
    WholeFile,
    appearing,
    discarded,
    note_left,
    sync_folders_of,
)
from reinit_cli.storage.writer import Whole, Writer, nothing
from reinit_cli.threads import signals_held

_NEW_MODE = 0o666
"""The permissions of a new file, before the umask."""


class FileInFolder(InsideWriter):
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
        with naming_output(path):
            os.makedirs(os.path.dirname(place), exist_ok=True)
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
            fd = os.open(place, flags, mode)
            with removed_on_failure(fd, place):
                reserve_space(fd, nbytes)
        super().__init__(path, fd, syncs=syncs)


class LocalOutput:
    """A lone file, or a folder of files, that appears at a path; see `Output`."""

    def __init__(self, destination: Destination, modes: Modes | None = None) -> None:
        """Write to a checked destination with a path.

        Args:
            destination: where the output goes.
            modes: the permissions of what a folder is to hold.
        """
        assert destination.path is not None
        check_within(destination)
        self._destination = destination
        self._modes = modes or Modes()
        self._path = destination.path
        self._anchor: Anchor | None = None
        self._folder: TemporaryFolder | None = None
        self._inside: list[FileInFolder] = []
        self._lone: list[WholeFile] = []
        self._extras: list[Whole] = []
        self.written: list[str] = []
        self._locked = ExitStack()
        self._is_closed = False

    def __enter__(self) -> Self:
        """Lock the source where it is replaced, and hand the output out."""
        if self._destination.source is not None:
            self._locked.enter_context(locked(self._path, self._destination.source))
        return self

    def __exit__(self, *failure: object) -> None:
        """Remove what was not committed, once."""
        with signals_held(), self._locked:
            if self._is_closed:
                return
            self._is_closed = True
            left = discarded(self._whole)
            for inside in self._inside:
                inside.discard()
            if self._folder is not None and not self._folder.remove():
                left.append(self._anchored.called(self._folder.outer))
            if self._anchor is not None:
                self._anchor.close()
        note_left(left, failure[1], self.written)

    def file(self, name: str, nbytes: int) -> Writer:
        """Return the writer of the lone file, or of one in the folder."""
        with signals_held():  # what was made is known before one raises
            if not name:
                self._lone.append(WholeFile(self._destination, nbytes))
                return self._lone[-1]
            path = os.path.join(self._path, name)
            place = os.path.join(self._temporary_folder().path, name)
            mode, syncs = self._modes.files.get(name, _NEW_MODE), self._destination.syncs
            self._inside.append(FileInFolder(path, place, nbytes, mode, syncs=syncs))
            return self._inside[-1]

    def file_at(self, destination: Destination, nbytes: int) -> Writer:
        """Return the writer of a file elsewhere."""
        with signals_held():
            self._extras.append(file_elsewhere(destination, nbytes))
        return self._extras[-1]

    def commit(self, check: Callable[[], object] = nothing) -> None:
        """Give all files their names, those elsewhere first: where the output is, they are."""
        for inside in self._inside:
            inside.close()
        for file in self._whole:
            file.stage()
        if self._folder is not None:
            self._stage_folder(self._folder)
        with signals_held():
            check()
            check_within(self._destination)
            with appearing(self._whole, is_all=self._folder is None):
                if self._folder is not None:
                    self._name_folder(self._folder)
            self.written = [str(file.destination.path) for file in self._whole]
            if self._folder is not None:
                self.written.append(self._path)
        synced = [str(file.destination.path) for file in self._whole if file.syncs]
        if self._folder is not None and self._destination.syncs:
            synced.append(self._path.rstrip(os.sep))
        sync_folders_of(synced, self.written)

    @property
    def _whole(self) -> list[Whole]:
        """The files that are not in the folder, the output last."""
        return [*self._extras, *self._lone]

    @property
    def _anchored(self) -> Anchor:
        assert self._anchor is not None
        return self._anchor

    def _temporary_folder(self) -> TemporaryFolder:
        if self._folder is None:
            path = self._path.rstrip(os.sep)
            with naming_output(path):
                self._anchor = Anchor(path)
                remove_stale(self._anchor.place)
                self._folder = TemporaryFolder(self._anchor.place)
                make_folders_in(self._folder.path, self._modes.folders)
        return self._folder

    def _stage_folder(self, folder: TemporaryFolder) -> None:
        if self._destination.syncs:
            with naming_output(self._path):
                for inside, _, _ in os.walk(folder.path, onerror=_insist):
                    sync_folder(inside)
        if os.path.lexists(self._path.rstrip(os.sep)):
            raise OutputExistsError(self._path.rstrip(os.sep))

    def _name_folder(self, folder: TemporaryFolder) -> None:
        path = self._path.rstrip(os.sep)
        with naming_output(path):
            try:
                self._anchored.check()
                rename_to_new(folder.path, self._anchored.place)
            except FileExistsError as error:
                raise OutputExistsError(path) from error
        restrict_folders_in(self._anchored.place, self._modes.folders)


def _insist(error: OSError) -> NoReturn:
    raise error
