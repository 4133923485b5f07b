"""Read local files, and write files and folders that appear whole or not at all.

Files are opened read-only and read with `pread`, never mapped.

A new file has no name until it is whole (O_TMPFILE), so a process that is killed leaves
nothing. What replaces a file, or lies on a file system without O_TMPFILE, has the name
`.NAME.reinit-*` for a moment or for the whole run, and is locked while it is written: the
next run to that destination removes those whose lock is free.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from reinit_cli.errors import (
    OutputExistsError,
    OutputUnwritableError,
    SourceChangedError,
    SourceNotFoundError,
    UnreadableSourceError,
)
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.system import (
    FICLONE,
    NOT_SUPPORTED,
    naming_output,
    pwrite_all,
    rename_to_new,
    reserve_space,
    sync_folder,
)
from reinit_cli.storage.temporary import remove_stale, temporary_name
from reinit_cli.text import why


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What changes when a file does."""

    device: int
    inode: int
    nbytes: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        """Read it off a status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class InputFile:
    """A regular file, open for reading.

    A map would be shorter, but a file that is truncated under a map kills the process.
    """

    is_seekable = True

    def __init__(self, path: str) -> None:
        """Open the file.

        Raises:
            SourceNotFoundError: nothing is there.
            UnreadableSourceError: it is no regular file or may not be read.
        """
        self.path = path
        try:
            # A pipe with no writer would block an open for ever.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise SourceNotFoundError(path, known=names_beside(path)) from error
        except (OSError, ValueError) as error:
            raise UnreadableSourceError(path, why(error)) from error
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            kind = "it is a folder" if stat.S_ISDIR(status.st_mode) else "it is no regular file"
            raise UnreadableSourceError(path, kind)
        self.fingerprint = Fingerprint.of(status)

    def __enter__(self) -> Self:
        """Keep it open."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    @property
    def nbytes(self) -> int:
        """Its size."""
        return self.fingerprint.nbytes

    def head(self, nbytes: int) -> bytes:
        """Return the first bytes, fewer where it has no more."""
        return self.read(0, min(nbytes, self.nbytes))

    def make_seekable(self) -> None:
        """Let its bytes be read in any order, as those of a file always can be."""

    def ends_at(self, nbytes: int) -> None:
        """Hear where it has to end, which a file knows itself."""

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._fd

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return exactly those bytes.

        Raises:
            SourceChangedError: the file has become shorter.
            UnreadableSourceError: the system fails to read them.
        """
        pieces = []
        while nbytes:
            try:
                piece = os.pread(self._fd, nbytes, offset)
            except OSError as error:
                raise UnreadableSourceError(self.path, why(error)) from error
            if not piece:
                raise SourceChangedError(self.path)
            pieces.append(piece)
            offset += len(piece)
            nbytes -= len(piece)
        return b"".join(pieces)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill a buffer as far as one call does it; return how many bytes came.

        Raises:
            SourceChangedError: the file has become shorter.
            UnreadableSourceError: the system fails to read them.
        """
        try:
            count = os.preadv(self._fd, [buffer], offset)
        except OSError as error:
            raise UnreadableSourceError(self.path, why(error)) from error
        if not count and buffer:
            raise SourceChangedError(self.path)
        return count

    def check_unchanged(self, expected: Fingerprint | None = None) -> None:
        """Compare the file, and what its path now names, with how it was.

        Args:
            expected: how it was; None means when it was opened.

        Raises:
            SourceChangedError: they differ.
        """
        expected = expected or self.fingerprint
        try:
            now = {Fingerprint.of(os.fstat(self._fd)), Fingerprint.of(os.stat(self.path))}
        except OSError as error:
            raise SourceChangedError(self.path) from error
        if now != {expected}:
            raise SourceChangedError(self.path)


def names_beside(path: str) -> list[str]:
    """Return the names in the folder of a path; none where it cannot be listed."""
    try:
        return os.listdir(os.path.dirname(path) or ".")
    except (OSError, ValueError):
        return []


@contextmanager
def folders_above(destinations: Iterable[Destination]) -> Iterator[None]:
    """Make the folders that are missing, and remove again those in which nothing appears.

    Raises:
        OutputUnwritableError: the system refuses one.
    """
    made: list[str] = []
    try:
        for each in destinations:
            if each.makes_folders and each.path is not None:
                _make_folders(os.path.dirname(each.path.rstrip(os.sep)), made)
        yield
    finally:
        for folder in reversed(made):
            with suppress(OSError):
                os.rmdir(folder)


def _make_folders(folder: str, made: list[str]) -> None:
    """Make a folder and those above it, and note each that was not there."""
    if not folder or os.path.isdir(folder):
        return
    _make_folders(os.path.dirname(folder), made)
    with naming_output(folder):
        os.mkdir(folder)
    made.append(folder)


class OutputFile:
    """A file that appears under its name whole, or not at all.

    As a context manager it removes what it wrote unless `commit` was called.
    """

    is_seekable = True

    def __init__(self, destination: Destination, nbytes: int) -> None:
        """Open a temporary and reserve its space.

        Args:
            destination: a checked destination with a path.
            nbytes: the size the file will have.

        Raises:
            OutputUnwritableError: the folder or the disk refuses.
        """
        assert destination.path is not None
        self._path = destination.path
        self._destination = destination
        self._folder = os.path.dirname(self._path) or "."
        self._nbytes = nbytes
        self._temporary: str | None = None
        self._can_copy = hasattr(os, "copy_file_range")
        remove_stale(self._path)
        with naming_output(self._path):
            self._fd = self._open()
            reserve_space(self._fd, nbytes)

    def __enter__(self) -> Self:
        """Hand it out."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it; what has no name yet, or only a temporary one, is gone."""
        if self._temporary:
            with suppress(FileNotFoundError):
                os.unlink(self._temporary)
        os.close(self._fd)

    def clone(self, file: InputFile) -> bool:
        """Share all blocks with a file, where the file system can; say whether it could."""
        try:
            fcntl.ioctl(self._fd, FICLONE, file.fileno())
        except OSError as error:
            if error.errno in NOT_SUPPORTED:
                return False
            raise OutputUnwritableError(self._path, why(error)) from error
        return True

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of it there.

        Raises:
            OutputUnwritableError: the disk is full or fails.
        """
        with naming_output(self._path):
            pwrite_all(self._fd, offset, data)

    def copy_from(self, file: InputFile, start: int, offset: int, nbytes: int) -> int:
        """Let the kernel copy up to `nbytes`; return how many, 0 where it cannot."""
        if not self._can_copy:
            return 0
        try:
            return os.copy_file_range(file.fileno(), self._fd, nbytes, start, offset)
        except OSError as error:
            if error.errno not in NOT_SUPPORTED:
                raise OutputUnwritableError(self._path, why(error)) from error
            self._can_copy = False
            return 0

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return bytes that were written."""
        with naming_output(self._path):
            return os.pread(self._fd, nbytes, offset)

    def commit(self) -> None:
        """Give the file its name.

        Raises:
            OutputExistsError: something has appeared there meanwhile.
            OutputUnwritableError: the disk or the folder refuses.
        """
        replaces = self._destination.replaces and os.path.lexists(self._path)
        with naming_output(self._path):
            if replaces:
                mode = _mode_of(self._path)
                if mode is not None:
                    os.fchmod(self._fd, mode)
            if replaces or self._destination.syncs:
                os.fsync(self._fd)
            if replaces:
                self._replace()
            else:
                self._create()
            if replaces or self._destination.syncs:
                sync_folder(self._folder)

    def _open(self) -> int:
        if hasattr(os, "O_TMPFILE"):
            try:
                return os.open(self._folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
            except OSError as error:
                if error.errno not in NOT_SUPPORTED:
                    raise
        self._temporary = temporary_name(self._path)
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        fd = os.open(self._temporary, flags, 0o666)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd

    def _create(self) -> None:
        try:
            self._link(self._path)
        except FileExistsError as error:
            raise OutputExistsError(self._path) from error
        if self._temporary:
            os.unlink(self._temporary)
            self._temporary = None

    def _replace(self) -> None:
        if not self._temporary:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            name = temporary_name(self._path)
            self._link(name)
            self._temporary = name
        os.rename(self._temporary, self._path)
        self._temporary = None

    def _link(self, name: str) -> None:
        if self._temporary:
            os.link(self._temporary, name)
            return
        # With a folder's descriptor Python calls linkat with AT_SYMLINK_FOLLOW; without
        # one it calls link, which would link the entry in /proc and fails with EXDEV.
        folder = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.link(f"/proc/self/fd/{self._fd}", name, src_dir_fd=folder, follow_symlinks=True)
        finally:
            os.close(folder)


class OutputFolder:
    """A folder that appears under its name whole, or not at all; it replaces nothing.

    As a context manager it removes what it wrote unless `commit` was called.
    """

    def __init__(self, destination: Destination) -> None:
        """Make a temporary folder beside the destination, and lock it.

        Raises:
            OutputUnwritableError: the system refuses.
        """
        assert destination.path is not None
        self._path = destination.path.rstrip(os.sep)
        self._destination = destination
        remove_stale(self._path)
        self._temporary: str | None = temporary_name(self._path)
        with naming_output(self._path):
            os.mkdir(self._temporary)
            self._fd = os.open(self._temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def __enter__(self) -> Self:
        """Hand it out."""
        return self

    def __exit__(self, *failure: object) -> None:
        """Remove it where it has not been committed."""
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)
        os.close(self._fd)

    def file(self, name: str, nbytes: int) -> OutputFile:
        """Open a file in it; the path may lead into folders below.

        Raises:
            OutputUnwritableError: the folder or the disk refuses.
        """
        assert self._temporary is not None
        path = os.path.join(self._temporary, name)
        with naming_output(self._path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        return OutputFile(Destination(path, syncs=self._destination.syncs), nbytes)

    def commit(self) -> None:
        """Give the folder its name.

        Raises:
            OutputExistsError: something has appeared there meanwhile.
            OutputUnwritableError: the system refuses.
        """
        assert self._temporary is not None
        try:
            with naming_output(self._path):
                rename_to_new(self._temporary, self._path)
                if self._destination.syncs:
                    sync_folder(os.path.dirname(self._path) or ".")
        except OutputUnwritableError as error:
            if isinstance(error.__cause__, FileExistsError):
                raise OutputExistsError(self._path) from error
            raise
        self._temporary = None


def _mode_of(path: str) -> int | None:
    """The permissions of a file that is replaced; a link has none of its own."""
    status = os.lstat(path)
    return stat.S_IMODE(status.st_mode) if stat.S_ISREG(status.st_mode) else None
