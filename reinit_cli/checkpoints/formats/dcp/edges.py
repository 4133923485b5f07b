"""Have at hand what the archives in pieces of a distant file say besides their data."""

from __future__ import annotations

from collections.abc import Iterable

from reinit_cli.checkpoints.formats.dcp.metadata import Piece
from reinit_cli.storage.reader import Reader

_BEFORE_NBYTES, _AFTER_NBYTES = 1024, 2048
"""What stands before the data of a tensor and after it: 704 bytes, and some 900."""


def gather_edges(file: Reader, pieces: Iterable[Piece]) -> None:
    """Fetch the edges of pieces together, where each read would be a request."""
    if file.is_distant:
        file.gather(
            edge
            for piece in pieces
            for end in [piece.offset + piece.nbytes]
            for edge in (
                (piece.offset, min(piece.offset + _BEFORE_NBYTES, end)),
                (max(end - _AFTER_NBYTES, piece.offset), end),
            )
        )
