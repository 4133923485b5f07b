"""Where bytes go: a temporary beside its destination, committed at the end, or a stream.

A new file has no name until it is whole (O_TMPFILE), so a process that is killed leaves
nothing. What replaces a file, or lies on a file system without O_TMPFILE, has the name
`.NAME.reinit-*` for a moment or for the whole run, and is locked while it is written: the
next run to that destination removes those whose lock is free.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import glob
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from reinit_cli.errors import (
    BesideExistsError,
    BesideIsOutputError,
    OutputExistsError,
    OutputIsSourceError,
    OutputUnwritableError,
)
from reinit_cli.inputs import InputFile
from reinit_cli.text import why

_FICLONE = 0x40049409
"""linux/fs.h: share all blocks of another file."""

_NOT_SUPPORTED = frozenset(
    (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EISDIR)
)
"""What a file system answers that lacks an optional call."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an output is to go, checked before anything is written.

    Attributes:
        path: as the user wrote it or as the default has it; None for a stream.
        replaces: whether a file that is there is replaced.
        syncs: whether a new file too is forced to the disk before success is told.
        makes_folders: whether the folders above it are made where they are missing.
    """

    path: str | None
    replaces: bool = False
    syncs: bool = False
    makes_folders: bool = False


def check_destination(destination: Destination, source: str | None, *, in_place: bool) -> None:
    """Refuse a destination that cannot be written.

    Args:
        destination: where the output is to go.
        source: the path that is read, or None.
        in_place: whether the destination is meant to be the source.

    Raises:
        OutputIsSourceError: it is the source, and `in_place` is not set.
        OutputExistsError: it is there, and may not be replaced.
        OutputUnwritableError: its folder is missing or not writable, or it is a folder.
    """
    path = destination.path
    if path is None:
        return
    path = path.rstrip(os.sep) or path
    folder = os.path.dirname(path) or "."
    while destination.makes_folders and not os.path.lexists(folder):
        folder = os.path.dirname(folder) or "."
    if not os.path.isdir(folder):
        raise OutputUnwritableError(path, f"there is no folder {folder!r}")
    if source is not None and not in_place and _same_file(path, source):
        raise OutputIsSourceError(path)
    if os.path.isdir(path):
        raise OutputUnwritableError(path, "it is a folder, which is never replaced")
    if os.path.lexists(path):
        if not destination.replaces:
            raise OutputExistsError(path)
        # A link is replaced itself, whatever it leads to.
        if stat.S_IFMT(os.lstat(path).st_mode) not in (stat.S_IFREG, stat.S_IFLNK):
            raise OutputUnwritableError(path, "it is no regular file")
    if len(os.fsencode(os.path.basename(path))) > 255:
        raise OutputUnwritableError(path, "its name is too long")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputUnwritableError(path, f"the folder {folder!r} is not writable")


def check_beside(
    path: str, others: Iterable[str | None], what: str, *, replaces: bool
) -> Destination:
    """Return where a file beside an output goes, or refuse it.

    Args:
        path: where it is to go.
        others: the paths that are read and written beside it.
        what: "report" or "record", as its option is called.
        replaces: whether an existing file is replaced.

    Raises:
        BesideIsOutputError: it is one of the others.
        BesideExistsError: it is there, and may not be replaced.
        OutputUnwritableError: it cannot be written there.
    """
    if any(other is not None and _are_one(path, other) for other in others):
        raise BesideIsOutputError(path, what)
    destination = Destination(path, replaces)
    try:
        check_destination(destination, None, in_place=False)
    except OutputExistsError as error:
        raise BesideExistsError(path, what) from error
    return destination


def _are_one(path: str, other: str) -> bool:
    """Whether two paths lead to one file, whatever they are called."""
    return os.path.realpath(path) == os.path.realpath(other) or _same_file(path, other)


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
    with _telling(folder):
        os.mkdir(folder)
    made.append(folder)


def _same_file(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False


class Sink(Protocol):
    """What the engine writes to."""

    @property
    def is_seekable(self) -> bool:
        """Whether bytes may be written in any order."""

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data` there; a stream is given its bytes in order."""

    def copy_from(self, file: InputFile, start: int, offset: int, nbytes: int) -> int:
        """Copy up to `nbytes` without touching them; return how many, 0 if impossible."""

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return bytes that were written, where the sink is seekable."""


class StreamSink:
    """Standard output or a pipe: bytes go out in order and cannot be taken back."""

    is_seekable = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        """Hand it out."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Send off what waits in it."""
        if kind is None:
            self._stream.flush()

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write them; the offset is where the stream is."""
        del offset
        self._stream.write(data)

    def copy_from(self, file: InputFile, start: int, offset: int, nbytes: int) -> int:
        """Never: a stream is written by `write_at`."""
        del file, start, offset, nbytes
        return 0

    def read(self, offset: int, nbytes: int) -> bytes:
        """Never: what went out is gone."""
        raise NotImplementedError


class SpooledStream:
    """A stream whose bytes are written in any order: into a file in TMPDIR, and out at the end.

    As a context manager it sends them off unless something failed.
    """

    is_seekable = True

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        with _telling(tempfile.gettempdir()):
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> Self:
        """Hand it out."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Send its bytes off where all went well."""
        with self._file as file:
            if kind is None:
                file.seek(0)
                shutil.copyfileobj(file, self._stream)
                self._stream.flush()

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of it there.

        Raises:
            OutputUnwritableError: the disk is full or fails.
        """
        with _telling(tempfile.gettempdir()):
            _pwrite_all(self._file.fileno(), offset, data)

    def copy_from(self, file: InputFile, start: int, offset: int, nbytes: int) -> int:
        """Never: it is short work, and seldom."""
        del file, start, offset, nbytes
        return 0

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return bytes that were written."""
        return os.pread(self._file.fileno(), nbytes, offset)


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
        _remove_stale(self._path)
        with _telling(self._path):
            self._fd = self._open()
            _reserve(self._fd, nbytes)

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
            fcntl.ioctl(self._fd, _FICLONE, file.fileno())
        except OSError as error:
            if error.errno in _NOT_SUPPORTED:
                return False
            raise OutputUnwritableError(self._path, why(error)) from error
        return True

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of it there.

        Raises:
            OutputUnwritableError: the disk is full or fails.
        """
        with _telling(self._path):
            _pwrite_all(self._fd, offset, data)

    def copy_from(self, file: InputFile, start: int, offset: int, nbytes: int) -> int:
        """Let the kernel copy up to `nbytes`; return how many, 0 where it cannot."""
        if not self._can_copy:
            return 0
        try:
            return os.copy_file_range(file.fileno(), self._fd, nbytes, start, offset)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise OutputUnwritableError(self._path, why(error)) from error
            self._can_copy = False
            return 0

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return bytes that were written."""
        with _telling(self._path):
            return os.pread(self._fd, nbytes, offset)

    def commit(self) -> None:
        """Give the file its name.

        Raises:
            OutputExistsError: something has appeared there meanwhile.
            OutputUnwritableError: the disk or the folder refuses.
        """
        replaces = self._destination.replaces and os.path.lexists(self._path)
        with _telling(self._path):
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
                _sync_folder(self._folder)

    def _open(self) -> int:
        if hasattr(os, "O_TMPFILE"):
            try:
                return os.open(self._folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
            except OSError as error:
                if error.errno not in _NOT_SUPPORTED:
                    raise
        self._temporary = _temporary_name(self._path)
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
            name = _temporary_name(self._path)
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
        _remove_stale(self._path)
        self._temporary: str | None = _temporary_name(self._path)
        with _telling(self._path):
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
        with _telling(self._path):
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
            with _telling(self._path):
                _rename_to_new(self._temporary, self._path)
                if self._destination.syncs:
                    _sync_folder(os.path.dirname(self._path) or ".")
        except OutputUnwritableError as error:
            if isinstance(error.__cause__, FileExistsError):
                raise OutputExistsError(self._path) from error
            raise
        self._temporary = None


_RENAME_NOREPLACE = 1
_AT_FDCWD = -100


def _rename_to_new(old: str, new: str) -> None:
    """Rename, but not onto anything: a plain rename would replace an empty folder."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None:
        names = os.fsencode(old), os.fsencode(new)
        if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in _NOT_SUPPORTED:
            raise OSError(code, os.strerror(code))
    if os.path.lexists(new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(old, new)


def _pwrite_all(fd: int, offset: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


@contextmanager
def _telling(path: str) -> Iterator[None]:
    """Turn the system's errors into ours, with the path."""
    try:
        yield
    except OutputExistsError:
        raise
    except OSError as error:
        raise OutputUnwritableError(path, why(error)) from error


def _mode_of(path: str) -> int | None:
    """The permissions of a file that is replaced; a link has none of its own."""
    status = os.lstat(path)
    return stat.S_IMODE(status.st_mode) if stat.S_ISREG(status.st_mode) else None


def _temporary_name(path: str) -> str:
    folder, name = os.path.split(path)
    # A name may have 255 bytes, and this one must fit beside the longest.
    short = os.fsdecode(os.fsencode(name)[:200])
    return os.path.join(folder, f".{short}.reinit-{secrets.token_hex(6)}")


def _remove_stale(path: str) -> None:
    """Remove what runs to the same destination left when they were killed."""
    pattern = _temporary_name(glob.escape(path))[: -len(secrets.token_hex(6))] + "*"
    for name in glob.glob(pattern, include_hidden=True):
        with suppress(OSError):
            is_folder = stat.S_ISDIR(os.lstat(name).st_mode)
            mode = os.O_RDONLY | os.O_DIRECTORY if is_folder else os.O_RDWR
            fd = os.open(name, mode | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_folder:
                    shutil.rmtree(name, ignore_errors=True)
                else:
                    os.unlink(name)
            finally:
                os.close(fd)


def _reserve(fd: int, nbytes: int) -> None:
    """Reserve the space, so that a full disk is known at once; where that is not real, try.

    `os.posix_fallocate` would emulate by writing, which takes as long as the copy.
    """
    fallocate: Callable[..., int] | None = None
    if sys.platform == "linux":
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    if fallocate is None or not nbytes:
        return
    if fallocate(fd, 0, ctypes.c_int64(0), ctypes.c_int64(nbytes)) == 0:
        return
    code = ctypes.get_errno()
    if code not in _NOT_SUPPORTED:
        raise OSError(code, os.strerror(code))


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
