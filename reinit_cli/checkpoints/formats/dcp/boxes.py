"""Check that boxes make up a tensor: each inside, none over another, no hole between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from math import prod

from reinit_cli.checkpoints.formats.dcp.phrases import Chunk
from reinit_cli.storage.segments import Box, Range

_MOST_PAIRED = 100
"""How many boxes are compared with each other where no cut goes between them."""

MAX_WORK = 5_000_000
"""The comparisons that boxes of one tensor may take: a grid takes a few for each box."""


def box_of(chunk: Chunk) -> Box:
    """Return a chunk as ranges."""
    pairs = zip(chunk.offsets, chunk.sizes, strict=True)
    return tuple((offset, offset + size) for offset, size in pairs)


def is_inside(chunk: Chunk, shape: Sequence[int]) -> bool:
    """Whether a chunk lies in a tensor of a shape."""
    if not len(chunk.offsets) == len(chunk.sizes) == len(shape):
        return False
    dims = zip(chunk.offsets, chunk.sizes, shape, strict=True)
    return all(offset + size <= dim for offset, size, dim in dims)


def fault_of_chunks(fqn: str, chunks: Sequence[Chunk], shape: Sequence[int]) -> str:
    """Return what keeps chunks from making up a tensor, or "".

    Args:
        fqn: its name.
        chunks: its pieces; some may be empty.
        shape: its dimensions.
    """
    if len(chunks) == 1 and chunks[0].sizes == shape and not any(chunks[0].offsets):
        return ""
    outside = next((chunk for chunk in chunks if not is_inside(chunk, shape)), None)
    if outside is not None:
        problem = f"lies outside its {[*shape]}: {[*outside.sizes]} at {[*outside.offsets]}"
        return f"a piece of {fqn!r} {problem}"
    fault = fault_of([box_of(chunk) for chunk in chunks if 0 not in chunk.sizes], shape)
    return f"the pieces of {fqn!r} {fault}" if fault else ""


def fault_of(boxes: Sequence[Box], shape: Sequence[int]) -> str:
    """Return what keeps boxes from making up a tensor, or "".

    What processes shard is cut through from side to side, again and again: each cut leaves
    fewer boxes on both sides, until there is one alone.

    Args:
        boxes: all inside; none is empty.
        shape: that of the tensor.
    """
    waiting: list[tuple[Box, list[Box]]] = [(tuple((0, dim) for dim in shape), [*boxes])]
    work = 0
    while waiting:
        region, group = waiting.pop()
        if len(group) == 1 and group[0] == region:
            continue
        if len(group) <= 1:
            return "leave a hole" if 0 not in shape else ""
        work += len(group) * len(shape)
        if work > MAX_WORK:
            return "are more than can be compared"
        cut = _cut(region, group)
        if isinstance(cut, str):
            return cut
        if cut:
            waiting += cut
        elif fault := _fault_of_uncut(region, group):
            return fault
    return ""


def _cut(region: Box, group: Sequence[Box]) -> list[tuple[Box, list[Box]]] | str:
    """Cut a region along the first axis where that goes between boxes, into as many as it gives."""
    for axis, whole in enumerate(region):
        runs = list(_runs(group, axis))
        if len(runs) == 1:
            continue
        ends = [whole[0], *(span[1] for span, _ in runs)]
        starts = [*(span[0] for span, _ in runs), whole[1]]
        if ends != starts:
            return "leave a hole"
        return [((*region[:axis], span, *region[axis + 1 :]), inside) for span, inside in runs]
    return []


def _runs(group: Sequence[Box], axis: int) -> Iterator[tuple[Range, list[Box]]]:
    """Yield the boxes between one cut across an axis and the next."""
    ordered = sorted(group, key=lambda box: box[axis])
    first, reached = ordered[0][axis]
    inside: list[Box] = []
    for box in ordered:
        start, stop = box[axis]
        if start >= reached and inside:
            yield (first, reached), inside
            first, inside = start, []
        inside.append(box)
        reached = max(reached, stop)
    yield (first, reached), inside


def _fault_of_uncut(region: Box, group: Sequence[Box]) -> str:
    """Return the fault of boxes that no cut separates, as in a pinwheel."""
    if len(group) > _MOST_PAIRED:
        return "overlap"
    if any(_meet(one, two) for one, two in combinations(group, 2)):
        return "overlap"
    return "" if sum(map(_numel, group)) == _numel(region) else "leave a hole"


def _meet(one: Box, two: Box) -> bool:
    return all(max(a, c) < min(b, d) for (a, b), (c, d) in zip(one, two, strict=True))


def _numel(box: Box) -> int:
    return prod(stop - start for start, stop in box)


def overlap_of(spans: Sequence[Range]) -> int | None:
    """Return the number of the first of some ranges, in order, that starts in the one before."""
    return next(
        (at for at, (one, two) in enumerate(pairwise(spans), start=1) if two[0] < one[1]), None
    )
