"""Draw normal numbers between two bounds."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule
from reinit_cli.streams.chance import Array
from reinit_cli.streams.philox.buffers import Buffers, blocks_of, buffers
from reinit_cli.streams.philox.normal import erfinv_of_words, scale_of
from reinit_cli.streams.philox.words import Words

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_ALL = 2**32

FEWEST = 2**24
"""With fewer words than a float32 has values in [½, 1), these are not told apart well enough."""


@lru_cache(maxsize=64)
def words_between(mean: float, std: float, low: float, high: float) -> tuple[int, int]:
    """Return the first word whose normal lies in [low, high], and how many follow each other.

    Normals rise with their words. (Of the 2^32, 116 far out are above the next one by an ulp:
    what the bisection then finds is part of the stream.)
    """
    import numpy as np

    least, most = np.float32(low), np.float32(high)
    first = _words_below(least, mean, std, and_equal=False)
    return first, _words_below(most, mean, std, and_equal=True) - first


def _words_below(bound: np.float32, mean: float, std: float, *, and_equal: bool) -> int:
    """Count the words whose normal is below a bound, by bisection."""
    import numpy as np

    scratch, value = Buffers(1), np.empty(1, np.float32)
    low, high = 0, _ALL
    while low < high:
        middle = (low + high) // 2
        erfinv_of_words(np.array([middle], "<u4"), value, scratch)
        found = value[0] * scale_of(std) + np.float32(mean)
        if found < bound or (and_equal and found == bound):
            low = middle + 1
        else:
            high = middle
    return low


def fill_truncated(
    out: Array, words: Words, at: int, mean: float, std: float, low: float, high: float
) -> None:
    """Fill with N(mean, std²) given [low, high], in float32.

    Of the words whose normal lies between the bounds, in their order, each element has the one
    that is as far along as its own word is along all words.

    Args:
        out: in one dimension.
        words: those of the elements.
        at: the index of the first element.
        mean: that of the normal.
        std: that of the normal.
        low: the least value.
        high: the largest value.
    """
    import numpy as np

    first, count = words_between(mean, std, low, high)
    scratch, scale = buffers(), scale_of(std)
    # Where -0 meets a bound of 0, processors differ in which of them `clip` takes.
    center, least, most = (np.float32(each) + np.float32(0) for each in (mean, low, high))
    for index, part in blocks_of(out, at):
        mapped = _mapped(words.take(index, len(part)), first, count, scratch)
        erfinv_of_words(mapped, part, scratch)
        np.multiply(part, scale, out=part)
        np.add(part, center, out=part)
        if count < _ALL:
            np.clip(part, least, most, out=part)


def _mapped(words: Array, first: int, count: int, scratch: Buffers) -> Array:
    """Return `first` + words · `count` / 2^32, rounded down."""
    import numpy as np

    if count == _ALL:
        return words
    wide, mapped = scratch.wide[: len(words)], scratch.words[: len(words)]
    np.copyto(wide, words)
    np.multiply(wide, np.uint64(count), out=wide)
    upper = wide.view("<u4")[1::2]
    np.add(upper, np.uint32(first), out=mapped)
    return mapped
