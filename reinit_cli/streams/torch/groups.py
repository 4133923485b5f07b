"""Cut tensors where torch's normals may be cut: they come in groups, in order."""

from __future__ import annotations

from collections.abc import Iterator

GROUP_NUMEL = 16
"""The elements that `Tensor.normal_` draws together; the last group ends with the tensor."""


def whole_groups(numel: int, at_once: int) -> Iterator[int]:
    """Yield how many elements are drawn together, one block after the other.

    A rest of less than a group would be drawn in another way: it joins the last block.

    Args:
        numel: how many there are.
        at_once: those of a block, in whole groups.
    """
    while numel:
        count = numel if numel < at_once + GROUP_NUMEL else at_once
        yield count
        numel -= count


def normal_words(numel: int, itemsize: int) -> int | None:
    """Return how many random numbers of 32 bits `Tensor.normal_` takes on a CPU.

    A tensor of less than a group may leave one of its last pair for the next draw.
    """
    if numel < GROUP_NUMEL:
        return None
    return (numel + (GROUP_NUMEL if numel % GROUP_NUMEL else 0)) * itemsize // 4
