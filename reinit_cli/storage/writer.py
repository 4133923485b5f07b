"""State the contract of everything that bytes are written to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, Self

from reinit_cli.errors import ReinitError
from reinit_cli.storage.destination import Destination
from reinit_cli.storage.reader import Reader
from reinit_cli.text import listed

_SHOWN = 4
"""How many outputs an error names."""


def nothing() -> None:
    """Check nothing."""


class Writer(Protocol):
    """One file of an output; several threads may write to different places of it."""

    @property
    def is_seekable(self) -> bool:
        """Whether bytes may be written in any order, and read again until it is closed."""

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data` there; a pipe is given its bytes in order.

        Raises:
            OutputUnwritableError: the disk is full or fails.
        """

    def copy_from(self, reader: Reader, start: int, offset: int, nbytes: int) -> int:
        """Copy up to `nbytes` without touching them; return how many, 0 if impossible."""

    def clone(self, reader: Reader) -> bool:
        """Share all blocks with a file, where the file system can; say whether it could."""

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return bytes that were written, where the writer is seekable."""

    def close(self) -> None:
        """Declare that all of it is written: it is whole, and has no name yet.

        Raises:
            OutputUnwritableError: the disk fails.
        """


class Whole(Writer, Protocol):
    """A file that gets its name when it is whole."""

    destination: Destination

    @property
    def syncs(self) -> bool:
        """Whether its folder is forced to the disk after the commit."""

    def stage(self) -> None:
        """Do all that can fail before it gets its name.

        Raises:
            OutputExistsError: something has appeared there.
            OutputUnwritableError: the disk fails.
        """

    def appear(self, *, may_return: bool) -> None:
        """Give it its name.

        Args:
            may_return: whether what it replaces is kept, where that can be, until it is discarded.

        Raises:
            OutputExistsError: something has appeared there meanwhile.
            OutputUnwritableError: the folder refuses.
        """

    def withdraw(self) -> bool:
        """Take its name back; return whether what was there before is there again."""

    def discard(self) -> list[str]:
        """Close it, and remove what has no name yet; return what cannot be removed."""


class Output(Protocol):
    """All files that a run writes, as a context manager.

    Every file is whole before the first gets its name. What was not committed leaves
    nothing, whatever was raised.
    """

    @property
    def written(self) -> Sequence[str]:
        """The paths of what has appeared."""

    def __enter__(self) -> Self:
        """Hand it out."""

    def __exit__(self, *failure: object) -> None:
        """Undo what was not committed; a second call does nothing."""

    def file(self, name: str, nbytes: int) -> Writer:
        """Return the writer of a file.

        Args:
            name: its path inside the folder that is written; "" for a lone file.
            nbytes: its size.

        Raises:
            OutputUnwritableError: the folder or the disk refuses.
        """

    def file_at(self, destination: Destination, nbytes: int) -> Writer:
        """Return the writer of a file elsewhere that gets its name in the same commit.

        Args:
            destination: where it goes, checked.
            nbytes: its size.

        Raises:
            OutputUnwritableError: the folder or the disk refuses.
        """

    def commit(self, check: Callable[[], object] = nothing) -> None:
        """Close every writer, and then give the files their names.

        Args:
            check: what is called when all files are whole, immediately before the first gets
                its name; where it raises, none gets one.

        Raises:
            OutputExistsError: something has appeared at one of these names.
            OutputUnwritableError: the disk or a folder refuses.
        """


def put_file(output: Output, destination: Destination, data: bytes) -> None:
    """Write a file elsewhere that gets its name in the commit of an output.

    Raises:
        OutputUnwritableError: the disk is full or the folder refuses.
    """
    writer = output.file_at(destination, len(data))
    writer.write_at(0, data)
    writer.close()


@contextmanager
def naming_written(output: Output) -> Iterator[None]:
    """Let an interruption, or whatever else a signal raises, say what has appeared before."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, ReinitError):
            note_written(output.written, error)
        raise


def note_written(paths: Sequence[str], error: BaseException) -> None:
    """Let an error say which outputs were written all the same."""
    if not paths:
        return
    shown = [repr(path) for path in paths[:_SHOWN]]
    more = [f"{len(paths) - _SHOWN:,} more"] if len(paths) > _SHOWN else []
    verb = "was" if len(paths) == 1 else "were"
    note = f"{listed([*shown, *more])} {verb} written"
    if isinstance(error, ReinitError):
        error.notes += (note,)
    else:
        error.add_note(note)
