"""Write a file that gets its name when it is whole.

A new file has no name until then (O_TMPFILE), so a process that is killed leaves nothing.
What replaces a file, or lies on a file system without O_TMPFILE, has a temporary name for a
moment or for the whole run.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from reinit_cli.errors import OutputExistsError, OutputUnwritableError, ReinitError
from reinit_cli.storage.anchor import Anchor
from reinit_cli.storage.attributes import take_over
from reinit_cli.storage.closing import check_close, close_quietly
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.in_place import replace_source
from reinit_cli.storage.local_writer import LocalWriter
from reinit_cli.storage.names import (
    is_at,
    link_descriptor,
    remove_if_there,
    rename_and_keep,
    rename_to_new,
)
from reinit_cli.storage.system import (
    copy_whole,
    lock_if_possible,
    naming_output,
    reserve_space,
    sync_folder,
)
from reinit_cli.storage.temporary import (
    open_named,
    open_temporary,
    remove_stale,
    removed_on_failure,
    temporary_name,
)
from reinit_cli.storage.writer import Whole, note_written
from reinit_cli.text import listed, why
from reinit_cli.threads import signals_held


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
        self._old: str | None = None  # where the file is that was replaced
        with naming_output(destination.path):
            self._anchor = Anchor(destination.path)
            try:
                fd = self._opened(nbytes)
            except BaseException:
                self._anchor.close()
                raise
        super().__init__(destination.path, fd)

    def _opened(self, nbytes: int) -> int:
        remove_stale(self._anchor.place)
        fd, self._temporary = open_temporary(self._anchor.place)
        with removed_on_failure(fd, self._temporary):
            reserve_space(fd, nbytes)
        return fd

    def close(self) -> None:
        """Leave it open: without its descriptor, a file without a name is gone."""

    @property
    def syncs(self) -> bool:
        """Whether its folder is forced to the disk after the commit."""
        return self._is_replaced or self.destination.syncs

    def stage(self) -> None:
        """Do all that can fail before the file gets its name."""
        is_there = self.destination.source is not None or os.path.lexists(self._path)
        self._is_replaced = self.destination.replaces and is_there
        with naming_output(self._path):
            if self._is_replaced:
                take_over(self._path, self._fd)
            if self.syncs:
                os.fsync(self._fd)
            check_close(self._fd)
            if self._is_replaced and self._temporary is None:
                self._name_temporarily()
        if not self._is_replaced and os.path.lexists(self._path):
            raise self._exists()

    def appear(self, *, may_return: bool) -> None:
        """Give the file its name.

        Args:
            may_return: whether the file that it replaces is kept until it is discarded.

        Raises:
            OutputExistsError: something has appeared there meanwhile.
            OutputUnwritableError: the folder refuses.
        """
        with naming_output(self._path):
            self._anchor.check()
            if not self._is_replaced:
                self._create()
                return
            assert self._temporary is not None
            if self.destination.source is not None:
                replace_source(self._temporary, self._path, self.destination.source)
            elif may_return:
                kept = temporary_name(self._anchor.place)
                self._old = rename_and_keep(self._temporary, self._anchor.place, kept)
            else:
                os.rename(self._temporary, self._anchor.place)

    def withdraw(self) -> bool:
        """Take its name back; return whether what was there before is there again."""
        with suppress(OSError):
            if not self._is_replaced:
                place = self._anchor.place
                return not is_at(place, self._fd) or remove_if_there(place)
            if self._old is not None:
                os.rename(self._old, self._anchor.place)
                return True
        return False

    def discard(self) -> list[str]:
        """Close it; what has no name yet, or only a temporary one, is gone."""
        close_quietly(self._fd)
        names = {name for name in (self._temporary, self._old) if name is not None}
        left = [self._anchor.called(name) for name in sorted(names) if not remove_if_there(name)]
        self._anchor.close()
        return left

    def _name_temporarily(self) -> None:
        with signals_held():
            lock_if_possible(self._fd)
            self._temporary = temporary_name(self._anchor.place)
            if not link_descriptor(self._fd, self._temporary):
                self._move_to_named()

    def _create(self) -> None:
        try:
            if self._temporary is None and link_descriptor(self._fd, self._anchor.place):
                return
            if self._temporary is None:
                self._move_to_named()
            assert self._temporary is not None
            rename_to_new(self._temporary, self._anchor.place)
        except FileExistsError as error:
            raise self._exists() from error

    def _move_to_named(self) -> None:
        """Copy it to a file that has a name from the start, where this one cannot get one."""
        fd, name = open_named(self._anchor.place)
        with removed_on_failure(fd, name):
            copy_whole(self._fd, fd)
            if self._is_replaced:
                take_over(self._path, fd)
            if self.syncs:
                os.fsync(fd)
            check_close(fd)
        close_quietly(self._fd)
        self._fd, self._temporary = fd, name

    def _exists(self) -> OutputExistsError:
        return OutputExistsError(self._path, kind=self.destination.kind)


@contextmanager
def appearing(files: Sequence[Whole], *, is_all: bool) -> Iterator[None]:
    """Give files their names; take them back where one cannot be given or what follows fails.

    Args:
        files: in the order in which they appear.
        is_all: whether nothing follows.
    """
    named: list[Whole] = []
    try:
        with signals_held():
            for at, file in enumerate(files, 1):
                file.appear(may_return=not is_all or at < len(files))
                named.append(file)
        yield
    except BaseException as error:
        with signals_held():
            stay = [str(file.destination.path) for file in named if not file.withdraw()]
        note_written(stay, error)
        raise


def discarded(files: Iterable[Whole]) -> list[str]:
    """Discard files; return the temporaries that cannot be removed."""
    return [name for file in files for name in file.discard()]


def note_left(left: Sequence[str], error: object, written: Sequence[str]) -> None:
    """Say which temporaries cannot be removed.

    Args:
        left: their names.
        error: why the run ends, which says it; None where it is done.
        written: what has appeared.

    Raises:
        OutputUnwritableError: there are some, and no other error.
    """
    if not left or (error is not None and not isinstance(error, ReinitError)):
        return
    problem = f"{listed([repr(name) for name in left])} could not be removed"
    if error is not None:
        error.notes += (problem,)
        return
    failure = OutputUnwritableError(left[0], problem, kind="temporary")
    note_written(written, failure)
    raise failure


def sync_folders_of(paths: Iterable[str], written: Sequence[str]) -> None:
    """Force the names of outputs to the disk.

    Args:
        paths: of which outputs.
        written: all that has appeared, for errors.

    Raises:
        OutputUnwritableError: the disk refuses.
    """
    for path in paths:
        try:
            sync_folder(os.path.dirname(path) or ".")
        except OSError as error:
            failure = OutputUnwritableError(path, why(error), kind="sync")
            note_written(written, failure)
            raise failure from error
