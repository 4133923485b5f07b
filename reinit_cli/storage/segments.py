"""Describe what an output is made of: a list of segments, each a run of bytes.

The engine runs the list; formats make it. Every segment knows its length, so every place
in the output is known before the first byte is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from typing import Literal as OneOf

if TYPE_CHECKING:
    from reinit_cli.storage.local import InputFile


Range = tuple[int, int]
"""Some bytes of a file: where they start, and where they end."""


@dataclass(frozen=True, slots=True)
class Copy:
    """These bytes of an input file.

    Attributes:
        file: the file.
        offset, nbytes: which.
        check: what they must be, or None.
    """

    file: InputFile
    offset: int
    nbytes: int
    check: Check | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A CRC-32 that bytes of an input file must have; nothing is written.

    Attributes:
        file: the file.
        offset, length: which bytes.
        crc: their CRC-32; 0 means that none is recorded.
        name: what people call them.
    """

    file: InputFile
    offset: int
    length: int
    crc: int
    name: str
    nbytes = 0


@dataclass(frozen=True, slots=True)
class Literal:
    """These bytes; a `memoryview` for what already lies in memory."""

    data: bytes | memoryview

    @property
    def nbytes(self) -> int:
        """Their number."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class View:
    """A tensor as it lies in bytes.

    Attributes:
        place: from its first element to its last.
        dtype: torch's name of its dtype.
        shape: its dimensions.
        stride: in elements; None means contiguous.
    """

    place: Copy | Literal
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Late:
    """Bytes that depend on the CRC-32s of other segments.

    Attributes:
        nbytes: their number.
        of: ranges of positions in the list, before this one or behind it; of each range
            the segments' bytes together have one CRC-32.
        compute: the CRC-32s in that order → the bytes.
    """

    nbytes: int
    of: tuple[range, ...]
    compute: Callable[[Sequence[int]], bytes]


@dataclass(frozen=True, slots=True)
class Reserved:
    """Room for bytes that are written when all others are there; or bytes that are there.

    Attributes:
        nbytes: their number.
        holds: "text": a record; "json": a record within a text of JSON; "crc": the CRC-32
            of the record; "": nothing that the engine need know.
    """

    nbytes: int
    holds: OneOf["text", "json", "crc", ""] = ""


class Segment(Protocol):
    """A run of bytes of an output."""

    @property
    def nbytes(self) -> int:
        """Their number."""


def looks_ahead(segments: Sequence[Segment]) -> bool:
    """Whether some bytes depend on others behind them, so that they cannot be streamed."""
    return any(
        span.stop > at
        for at, segment in enumerate(segments)
        if isinstance(segment, Late)
        for span in segment.of
    )
