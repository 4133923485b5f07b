"""Describe what an output is made of: a list of segments, each a run of bytes.

The engine runs the list; formats make it. Every segment knows its length, so every place
in the output is known before the first byte is written.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, Self
from typing import Literal as OneOf

from reinit_cli.lazy import dataclass

if TYPE_CHECKING:
    from reinit_cli.storage.reader import Reader


Range = tuple[int, int]
"""Bytes of a file, or elements of a dimension: where they start, and where they end."""

Box = tuple[Range, ...]
"""Elements of a tensor: a range in each of its dimensions."""


@dataclass(frozen=True, slots=True)
class Copy:
    """These bytes of an input file.

    Attributes:
        file: the file.
        offset, nbytes: which.
        check: what they must be, or None.
    """

    file: Reader
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

    file: Reader
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
class Part:
    """Elements of a tensor that lie together.

    Attributes:
        data: the bytes from the first of them to the last.
        box: which elements they are; None means all.
        stride: their distances, in elements; None means contiguous.
    """

    data: Copy | Literal
    box: Box | None = None
    stride: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class View:
    """A tensor, wherever its bytes lie.

    Attributes:
        parts: where its elements lie, each in one part; none where it has no elements.
        dtype: torch's name of its dtype.
        shape: its dimensions.
    """

    parts: tuple[Part, ...]
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(
        cls,
        data: Copy | Literal,
        dtype: str,
        shape: tuple[int, ...],
        stride: tuple[int, ...] | None = None,
    ) -> Self:
        """Return a tensor that lies in one part."""
        return cls((Part(data, None, stride),), dtype, shape)

    @property
    def sole(self) -> Part | None:
        """The part that holds all of it; None where there are several."""
        if not self.parts:
            return Part(Literal(b""))
        return self.parts[0] if len(self.parts) == 1 else None

    @property
    def contiguous(self) -> Copy | Literal | None:
        """Its bytes, where they lie together in row-major order; else None."""
        sole = self.sole
        return sole.data if sole is not None and sole.stride is None else None

    @property
    def runs(self) -> tuple[Copy | Literal, ...]:
        """Its bytes in row-major order, part after part; none where parts interleave.

        That takes parts that are rows of the first dimension that has more than one.
        """
        if (data := self.contiguous) is not None:
            return (data,)
        axis = next((at for at, dim in enumerate(self.shape) if dim != 1), 0)
        starts = {part.box[axis][0]: part for part in self.parts if part.box and not part.stride}
        reached, runs = 0, []
        while reached in starts:
            part = starts.pop(reached)
            box = part.box or ()
            if any(box[at] != (0, dim) for at, dim in enumerate(self.shape) if at != axis):
                return ()
            runs.append(part.data)
            reached = box[axis][1]
        is_all = len(runs) == len(self.parts) and reached == self.shape[axis]
        return tuple(runs) if is_all else ()

    @property
    def nbytes(self) -> int:
        """The bytes that its parts span."""
        return sum(part.data.nbytes for part in self.parts)

    @property
    def layout(self) -> Hashable:
        """How it lies, by which views can be compared."""
        # A piece next to empty ones has a box, which is the whole tensor all the same.
        whole = tuple((0, dim) for dim in self.shape)
        boxes = (None if part.box == whole else part.box for part in self.parts)
        parts = zip(boxes, self.parts, strict=True)
        return tuple((box, part.stride, part.data.nbytes) for box, part in parts)

    def apart(self) -> Iterator[tuple[Box, View]]:
        """Yield each part as a tensor of its own, and which elements it has."""
        for part in self.parts:
            box = part.box if part.box is not None else tuple((0, dim) for dim in self.shape)
            shape = tuple(stop - start for start, stop in box)
            yield box, View.of(part.data, self.dtype, shape, part.stride)


@dataclass(frozen=True, slots=True)
class Late:
    """Bytes that depend on the CRC-32s of other segments.

    Attributes:
        nbytes: their number.
        of: ranges of positions in the list, before this one or after it; of each range
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
    """Whether some bytes depend on others after them, so that they cannot be streamed."""
    return any(
        span.stop > at
        for at, segment in enumerate(segments)
        if isinstance(segment, Late)
        for span in segment.of
    )
