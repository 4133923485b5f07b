"""Find where tensors lie in their files when that is asked for.

`.metadata` says which bytes of a file are a piece; which of them are elements, and in which
order, the archive in the piece says. To list keys none of them is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from reinit_cli.checkpoints.formats.base import Files, Place
from reinit_cli.checkpoints.formats.dcp.boxes import box_of
from reinit_cli.checkpoints.formats.dcp.edges import gather_edges
from reinit_cli.checkpoints.formats.dcp.metadata import Piece, Stored
from reinit_cli.checkpoints.formats.dcp.slices import Archive, CarriedPieceError, Window
from reinit_cli.checkpoints.formats.safetensors import Safetensors
from reinit_cli.errors import MalformedFileError
from reinit_cli.storage.reader import Reader
from reinit_cli.storage.segments import Box
from reinit_cli.tensors.dtype import has_itemsize

_Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""The dtypes and shapes of tensors."""


class Places(Mapping[str, tuple[Place, ...]]):
    """The places of each tensor, found when they are asked for."""

    def __init__(self, stored: Mapping[str, Stored], files: Files) -> None:
        """Prepare to look for them.

        Args:
            stored: the tensors by their keys.
            files: the files of the folder, which are opened and closed again.
        """
        self._stored = stored
        self._files = files
        self._found: dict[str, tuple[Place, ...]] = {}
        self._carried: dict[str, str] = {}
        self._gathered: set[str] = set()  # the files of which all edges were fetched
        self._shards: dict[str, tuple[_Shapes, Mapping[str, tuple[Place, ...]]]] = {}

    def __getitem__(self, key: str) -> tuple[Place, ...]:
        """Return where the values of a tensor lie; nowhere where it can only be carried along.

        Raises:
            MalformedFileError: one of its pieces is not what `.metadata` says.
        """
        if key not in self._found:
            try:
                self._found[key] = self._places_of(self._stored[key])
            except CarriedPieceError as error:
                self._found[key] = ()
                self._carried[key] = error.why
        return self._found[key]

    def carried(self, key: str) -> str | None:
        """Return why a tensor can only be carried along, as its pieces say, or None."""
        with suppress(MalformedFileError):  # which is said where its values are read
            self[key]
        return self._carried.get(key)

    def __iter__(self) -> Iterator[str]:
        """Yield the keys."""
        return iter(self._stored)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self._stored)

    def _places_of(self, stored: Stored) -> tuple[Place, ...]:
        if not has_itemsize(stored.dtype) or any(piece.transforms for piece in stored.pieces):
            return ()
        pieces = [piece for piece in stored.pieces if 0 not in sizes_of(piece)]
        self._gather(pieces)
        try:
            found = tuple(self._place(stored, piece) for piece in pieces)
        finally:
            for piece in pieces:
                if not self._files[piece.file].is_distant:  # which has no descriptor
                    self._files[piece.file].close()
        return found or (Place(stored.pieces[0].file, stored.pieces[0].offset, 0),)

    def _gather(self, pieces: Sequence[Piece]) -> None:
        """Fetch what is read of pieces in distant files; from the second tensor on, of all pieces."""
        for name in {piece.file for piece in pieces} - self._gathered:
            own = pieces
            if self._found:
                own = [piece for stored in self._stored.values() for piece in stored.pieces]
                self._gathered.add(name)
            gather_edges(self._files[name], (piece for piece in own if piece.file == name))

    def _place(self, stored: Stored, piece: Piece) -> Place:
        file = self._files[piece.file]
        if start_of_safetensors((piece,), file) is None:
            return Archive(file, piece).place(stored)
        if piece.file not in self._shards:
            rest = file.nbytes - piece.offset
            shard = Window(file, piece.offset, rest, "the tensors") if piece.offset else file
            located = Safetensors().locate(Files.lone(shard))
            known = {each.key: (each.dtype, each.shape) for each in located.tensors}
            self._shards[piece.file] = known, located.places
        shapes, places = self._shards[piece.file]
        if shapes.get(stored.fqn) != (stored.dtype, sizes_of(piece)):
            problem = f"{piece.called} is not there with the dtype and shape of .metadata"
            raise MalformedFileError(file.path, problem, "safetensors file")
        (place,) = places[stored.fqn]
        assert piece.chunk is not None
        return Place(piece.file, piece.offset + place.offset, place.nbytes, box_of(piece.chunk))


class Boxes(Mapping[str, tuple[tuple[str, Box], ...]]):
    """The file and the box of each piece of each tensor, made when they are asked for."""

    def __init__(self, stored: Mapping[str, Stored]) -> None:
        """Prepare to make them.

        Args:
            stored: the tensors by their keys.
        """
        self._stored = stored

    def __getitem__(self, key: str) -> tuple[tuple[str, Box], ...]:
        """Return those of a tensor."""
        pieces = self._stored[key].pieces
        return tuple((piece.file, box_of(piece.chunk)) for piece in pieces if piece.chunk)

    def __iter__(self) -> Iterator[str]:
        """Yield the keys."""
        return iter(self._stored)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self._stored)


def start_of_safetensors(pieces: Sequence[Piece], file: Reader) -> int | None:
    """Return where a safetensors file starts in a file, which all pieces are said to lie at.

    That is how FileSystemWriter writes with SerializationFormat.SAFETENSORS: the objects, then
    the tensors together. None where each piece is an archive.
    """
    tensors = [piece for piece in pieces if piece.chunk is not None]
    starts = {piece.offset for piece in tensors}
    if len(starts) != 1 or any(piece.transforms for piece in tensors):
        return None
    (start,) = starts
    is_shard = start + _HEAD_NBYTES <= file.nbytes and file.read(start + 8, 1) == b"{"
    return start if is_shard else None


_HEAD_NBYTES = 9
"""Where the header of safetensors starts, after its length, and its first byte."""


def sizes_of(piece: Piece) -> tuple[int, ...]:
    """Return the dimensions of a piece of a tensor."""
    assert piece.chunk is not None
    return piece.chunk.sizes
