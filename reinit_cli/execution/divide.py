"""Cut the largest segments of an output in pieces, so that several ranks can write a tensor.

A draw that comes apart is cut between its rows, in all its places alike, and a copy wherever it
is convenient. What a tensor's elements are does not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from itertools import product as indices
from math import prod
from operator import mul

from reinit_cli.execution.apart import comes_apart, dims_of, whole
from reinit_cli.execution.fill import Fill, FillPart
from reinit_cli.execution.share import cost_of
from reinit_cli.lazy import dataclass
from reinit_cli.storage.segments import Box, Copy, Late, Range, Segment
from reinit_cli.tensors.dtype import itemsize_of

_PIECES_PER_RANK = 16
"""How many pieces a rank's part of the work has at least, as far as segments can be cut."""

_LEAST_NBYTES = 2**18
"""A smaller piece is written in less time than it takes to begin it elsewhere."""


def divided(files: Mapping[str, Sequence[Segment]], count: int) -> Mapping[str, Sequence[Segment]]:
    """Return the files of an output with their largest segments in pieces.

    Args:
        files: the segments of each file.
        count: the number of ranks.
    """
    if count == 1:
        return files
    costs: dict[int, int] = {}
    total = 0
    for segments in files.values():
        for segment in segments:
            cost = cost_of(segment)
            total += cost
            if isinstance(segment, FillPart):
                costs[id(segment.fill)] = costs.get(id(segment.fill), 0) + cost
    cutting = _Cutting(costs, max(1, total // (count * _PIECES_PER_RANK)))
    return {name: cutting.cut(segments) for name, segments in files.items()}


@dataclass(frozen=True, slots=True)
class _Cutting:
    """How segments are cut.

    Attributes:
        costs: what each draw of several places takes in all of them.
        most: what a piece may.
    """

    costs: Mapping[int, int]
    most: int

    def cut(self, segments: Sequence[Segment]) -> Sequence[Segment]:
        """Return the segments of a file, some in pieces."""
        pieces = [tuple(self._pieces(segment)) for segment in segments]
        if len(segments) == sum(map(len, pieces)):
            return segments
        starts = list(accumulate(map(len, pieces), initial=0))
        return [_moved(piece, starts) for each in pieces for piece in each]

    def _pieces(self, segment: Segment) -> Iterator[Segment]:
        if isinstance(segment, Copy):
            count = self._count(cost_of(segment), segment.nbytes)
            # A CRC-32 is compared with that of one copy.
            return _copies(segment, count) if segment.check is None else iter((segment,))
        part = segment.whole if isinstance(segment, Fill) else segment
        if isinstance(part, FillPart) and part.stride is None and comes_apart(part.fill):
            cost = self.costs.get(id(part.fill), cost_of(part))
            count = self._count(cost, part.fill.step.tensor.nbytes)
            if count > 1 and part.nbytes:
                return _parts(part, part.fill, count)
        return iter((segment,))

    def _count(self, cost: int, nbytes: int) -> int:
        """Return how many pieces something is cut in."""
        return max(1, min(-(-cost // self.most), nbytes // _LEAST_NBYTES))


def _copies(copy: Copy, count: int) -> Iterator[Segment]:
    for start, stop in _ranges(0, copy.nbytes, copy.nbytes, count):
        yield replace(copy, offset=copy.offset + start, nbytes=stop - start)


def _parts(part: FillPart, fill: Fill, count: int) -> Iterator[Segment]:
    """Cut a place of a draw, as all its places are cut."""
    tensor = fill.step.tensor
    for box in _boxes(part.box or whole(tensor.shape), tensor.shape, count):
        yield FillPart(fill, prod(dims_of(box)) * itemsize_of(tensor.dtype), box)


def _boxes(box: Box, shape: tuple[int, ...], count: int) -> Iterator[Box]:
    """Cut a box where a tensor is cut in about so many pieces of its rows, in row-major order."""
    counts = accumulate(shape, mul)
    axis = next((at for at, rows in enumerate(counts) if rows >= count), len(shape) - 1)
    each = -(-count // prod(shape[:axis]))
    for outer in indices(*(range(*span) for span in box[:axis])):
        for rows in _ranges(*box[axis], shape[axis], each):
            yield *((at, at + 1) for at in outer), rows, *box[axis + 1 :]


def _ranges(start: int, stop: int, length: int, count: int) -> Iterator[Range]:
    """Yield a range of a length as it is cut where all of it is cut in equal parts."""
    cuts = sorted({length * at // count for at in range(1, count)})
    inner = [cut for cut in cuts if start < cut < stop]
    yield from pairwise((start, *inner, stop))


def _moved(segment: Segment, starts: Sequence[int]) -> Segment:
    """Return a segment of a file whose other segments have moved, each to its start."""
    if not isinstance(segment, Late):
        return segment
    return replace(segment, of=tuple(range(starts[s.start], starts[s.stop]) for s in segment.of))
