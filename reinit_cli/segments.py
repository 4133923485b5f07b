"""What an output is made of: a list of segments, each a run of bytes.

The engine runs the list; formats make it. Every segment knows its length, so every place
in the output is known before the first byte is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reinit_cli.inputs import InputFile
    from reinit_cli.planning import Step


@dataclass(frozen=True, slots=True)
class Copy:
    """These bytes of an input file."""

    file: InputFile
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Literal:
    """These bytes; a `memoryview` for what already lies in memory."""

    data: bytes | memoryview

    @property
    def nbytes(self) -> int:
        """Their number."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Fill:
    """What a step of the plan draws.

    Attributes:
        step: the step.
        nbytes: the bytes of its tensor.
        before: where its bytes are now, if they are to be measured; else None.
    """

    step: Step
    nbytes: int
    before: Copy | Literal | None = None


@dataclass(frozen=True, slots=True)
class Late:
    """Bytes that depend on the CRC-32s of other segments.

    Attributes:
        nbytes: their number.
        of: the positions of those segments in the list, all before this one.
        compute: the CRC-32s in that order → the bytes.
    """

    nbytes: int
    of: tuple[int, ...]
    compute: Callable[[Sequence[int]], bytes]


Segment = Copy | Literal | Fill | Late
