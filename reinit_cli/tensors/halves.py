"""Sum in an order that nothing changes, so that the result is the same on every machine.

What numpy, torch and BLAS sum in which order depends on the processor, on the number of threads
and on the version. Here the second half is added to the first, element by element, until one is
left; of an odd number the last one waits for the next round.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reinit_cli.lazy import LazyModule
from reinit_cli.tensors.elements import Array
from reinit_cli.tensors.moments import Moments

np = LazyModule("numpy")

SUMMED_NUMEL = 2**16
"""The elements of a tensor that are summed together. It is part of what `measured` gives."""


def sum_by_halves(terms: Array) -> Array:
    """Return the sum over the first axis, which has one element at least.

    Args:
        terms: what is summed; it is overwritten.
    """
    count = len(terms)
    while count > 1:
        half = count // 2
        np.add(terms[:half], terms[half : 2 * half], out=terms[:half])
        if count % 2:
            terms[half] = terms[count - 1]
        count -= half
    total: Array = terms[0]
    return total


def measured(values: Iterable[Array]) -> Moments:
    """Return the moments of a tensor's elements, in float64.

    Blocks of 2^16 elements, in row-major order, are measured by themselves; then the moments of
    one after the other are joined to those before.

    Args:
        values: the elements in row-major order, in arrays of any length and any dtype of floats.
    """
    return sum(map(_measured, _blocks_of(values)), Moments())


def _measured(block: Array) -> Moments:
    with np.errstate(all="ignore"):
        mean = float(sum_by_halves(block.copy())) / len(block)
        squares = float(sum_by_halves(np.square(block - mean)))
    return Moments(len(block), mean, squares, block.min().item(), block.max().item())


def _blocks_of(values: Iterable[Array]) -> Iterator[Array]:
    """Yield the same elements in float64, in blocks of the same length; only the last is shorter."""
    block = np.empty(SUMMED_NUMEL, np.float64)
    filled = 0
    for some in values:
        flat = some.reshape(-1)
        while len(flat):
            part = flat[: SUMMED_NUMEL - filled]
            block[filled : filled + len(part)] = part
            filled += len(part)
            flat = flat[len(part) :]
            if filled == SUMMED_NUMEL:
                yield block
                filled = 0
    if filled:
        yield block[:filled]
