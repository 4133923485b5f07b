"""Read a piece of a file: an archive as `torch.save` writes it for one tensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import NoReturn

from reinit_cli.checkpoints.formats.base import FileEdits, Place
from reinit_cli.checkpoints.formats.dcp.boxes import box_of
from reinit_cli.checkpoints.formats.dcp.metadata import Piece, Stored
from reinit_cli.checkpoints.formats.torch.files.archive import (
    CompressedArchiveError,
    ZipEntry,
    read_entries,
)
from reinit_cli.checkpoints.formats.torch.files.assembly import Layout, layout_of
from reinit_cli.checkpoints.formats.torch.pickles.budget import Budget
from reinit_cli.checkpoints.formats.torch.pickles.machine import read_pickle
from reinit_cli.checkpoints.formats.torch.pickles.records import Pickle
from reinit_cli.checkpoints.formats.torch.pickles.tensor_records import Reading
from reinit_cli.errors import MalformedFileError
from reinit_cli.storage.crc32 import crc32
from reinit_cli.storage.reader import Fingerprint, Reader
from reinit_cli.storage.segments import Check, Copy, Late, Range, Segment

_SMALL_NBYTES = 64 * 2**10
"""A piece up to this size is read in one go."""

_MOST_OPCODES = 100_000
"""A tensor's pickle has forty; those of objects are as large as what was saved."""


class CarriedPieceError(MalformedFileError):
    """A tensor whose bytes are not its values, as its piece alone says."""

    def __init__(self, path: str, why: str) -> None:
        """Name the piece.

        Args:
            path: its file and what it is called.
            why: why its bytes can only be carried along.
        """
        super().__init__(path, f"it is {why}", "piece of a tensor")
        self.why = why


class Window:
    """A range of a file as a file of its own."""

    is_seekable = True

    def __init__(self, file: Reader, start: int, nbytes: int, called: str) -> None:
        """Open a window.

        Args:
            file: the file.
            start: where the range starts.
            nbytes: how long it is.
            called: what lies in it, for errors.
        """
        self._file = file
        self._start = start
        self.path = f"{file.path}: {called}"
        self.nbytes = nbytes
        is_small = nbytes <= _SMALL_NBYTES and not file.is_distant
        self._data = file.read(start, nbytes) if is_small else b""

    @property
    def fingerprint(self) -> Fingerprint:
        """That of the file."""
        return self._file.fingerprint

    @property
    def is_distant(self) -> bool:
        """Whether the file is."""
        return self._file.is_distant

    def head(self, nbytes: int) -> bytes:
        """Return the first bytes, fewer where it has no more."""
        return self.read(0, min(nbytes, self.nbytes))

    def will_read(self, ranges: Iterable[Range]) -> None:
        """Tell the file what is to be copied."""
        self._file.will_read([(self._start + first, self._start + last) for first, last in ranges])

    def gather(self, ranges: Iterable[Range]) -> None:
        """Let the file have ranges at hand."""
        self._file.gather([(self._start + first, self._start + last) for first, last in ranges])

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return exactly those bytes."""
        if self._data:
            return self._data[offset : offset + nbytes]
        return self._file.read(self._start + offset, nbytes)

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer with the bytes from an offset on."""
        self._file.read_into(buffer, self._start + offset)

    def make_seekable(self) -> None:
        """Let its bytes be read in any order, as they can be."""

    def ends_at(self, nbytes: int) -> None:
        """Learn where it has to end, which it knows itself."""

    def check_unchanged(self, expected: Fingerprint | None = None) -> None:
        """Compare the file with how it was."""
        self._file.check_unchanged(expected)

    def descriptor(self) -> AbstractContextManager[int | None]:
        """Lend none: its offsets are others."""
        return nullcontext()

    def close(self) -> None:
        """Leave the file open, which others read."""


class Archive:
    """The archive in a piece."""

    def __init__(self, file: Reader, piece: Piece) -> None:
        """Find its entries.

        Args:
            file: the file that the piece lies in.
            piece: the piece, which is not compressed.

        Raises:
            MalformedFileError: there is no archive, or it is damaged or ambiguous.
        """
        self._file = file
        self._piece = piece
        self._window = Window(file, piece.offset, piece.nbytes, piece.called)
        try:
            self.entries = read_entries(self._window)
        except CompressedArchiveError:
            problem = "it is compressed or encrypted"
            raise MalformedFileError(self._window.path, problem, "archive of torch") from None

    def pickle(self, budget: Budget) -> Pickle:
        """Return what the pickle says.

        Raises:
            MalformedFileError: there is none, or it is damaged.
        """
        entry = self._pickle
        if crc32(self._window.read(entry.offset, entry.nbytes)) != entry.crc and entry.crc:
            self._refuse("the CRC-32 of its pickle is wrong")
        end = entry.offset + entry.nbytes
        pickle = read_pickle(self._window, entry.offset, end, budget, _MOST_OPCODES)
        if pickle.end != end:
            self._refuse("something follows its pickle")
        return pickle

    def extent_of_pickle(self) -> tuple[int, int]:
        """Return where the pickle starts in the file, and the offset after it.

        Raises:
            MalformedFileError: there is none.
        """
        entry = self._pickle
        start = self._piece.offset + entry.offset
        return start, start + entry.nbytes

    def place(self, stored: Stored) -> Place:
        """Return where the elements of a tensor's piece lie in the file.

        Raises:
            CarriedPieceError: its values are not its bytes.
            MalformedFileError: it holds something else.
        """
        chunk = self._piece.chunk
        assert chunk is not None
        budget = Budget(self._window.path)
        reading = Reading(budget)
        found = reading.info(stored.fqn, self.pickle(budget).top)
        if found.is_no_tensor:
            self._refuse(f"it is {found.carried}")
        if found.carried:
            raise CarriedPieceError(self._window.path, found.carried)
        if (found.dtype, found.shape) != (stored.dtype, chunk.sizes):
            self._refuse(
                f"it is {found.dtype} {[*found.shape]}, and .metadata says "
                f"{stored.dtype} {[*chunk.sizes]}"
            )
        if found.overlaps_itself:
            self._refuse("its elements overlap")
        storage = reading.storages[str(found.storage)]
        entry = self._entry(f"{self._folder}/data/{storage.key}")
        if entry.nbytes != storage.nbytes:
            self._refuse("its storage has another size")
        first, end = found.extent
        is_whole = len(stored.pieces) == 1 and found.stride is None
        box = None if is_whole else box_of(chunk)
        at = self._piece.offset + entry.offset + first
        return Place(self._piece.file, at, end - first, box, found.stride)

    def checks(self) -> Iterator[Check]:
        """Yield a check of each storage."""
        for entry in self.entries:
            if entry.nbytes and "/data/" in entry.name:
                yield self._moved_check(
                    Check(self._file, entry.offset, entry.nbytes, entry.crc, "")
                )

    def patched(self, edits: FileEdits, before: int) -> list[Segment]:
        """Return the piece with some of its bytes replaced, and what depends on them.

        Args:
            edits: what replaces bytes of the file.
            before: the segments of the file that come before it.
        """
        own = {offset - self._piece.offset: each for offset, each in edits.items()}
        layout: Layout = layout_of(self._window, self.entries)
        return [self._moved(each, before) for each in layout.patched(self._window, own)]

    def _moved(self, segment: Segment, before: int) -> Segment:
        """Return a segment of the window as one of the file."""
        if isinstance(segment, Copy):
            check = self._moved_check(segment.check) if segment.check is not None else None
            at = segment.offset + self._piece.offset
            return replace(segment, file=self._file, offset=at, check=check)
        if isinstance(segment, Check):
            return self._moved_check(segment)
        if isinstance(segment, Late):
            return replace(segment, of=tuple(_moved_span(span, before) for span in segment.of))
        return segment

    def _moved_check(self, check: Check) -> Check:
        at = check.offset + self._piece.offset
        return replace(check, file=self._file, offset=at, name=self._piece.called)

    @property
    def _folder(self) -> str:
        return self.entries[0].name.partition("/")[0] if self.entries else ""

    @property
    def _pickle(self) -> ZipEntry:
        return self._entry(f"{self._folder}/data.pkl")

    def _entry(self, name: str) -> ZipEntry:
        found = next((entry for entry in self.entries if entry.name == name), None)
        if found is None:
            self._refuse(f"it has no entry {name!r}")
        return found

    def _refuse(self, problem: str) -> NoReturn:
        raise MalformedFileError(self._window.path, problem, "piece of a tensor")


def _moved_span(span: range, before: int) -> range:
    return range(span.start + before, span.stop + before)
