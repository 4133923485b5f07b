"""Draw uniform numbers in float32."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from reinit_cli.lazy import LazyModule
from reinit_cli.streams.chance import Array
from reinit_cli.streams.philox.buffers import blocks_of, buffers
from reinit_cli.streams.philox.words import Words

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")


def fill_uniform(out: Array, words: Words, at: int, low: float, high: float) -> None:
    """Fill with U[low, high) in float32: the upper 24 bits of a word, scaled and moved.

    Args:
        out: in one dimension.
        words: those of the elements.
        at: the index of the first element.
        low: the least value.
        high: no value reaches it, unless it is `low`.
    """
    import numpy as np

    # The width is rounded before it is divided by 2^24: below 2^-102 this rounds twice.
    step = np.float32(np.float32(high - low) * np.float32(2**-24))
    least, most = np.float32(low), last_before(np.float32(high), np.float32(low))
    scratch = buffers().words
    for index, part in blocks_of(out, at):
        bits = scratch[: len(part)]
        np.right_shift(words.take(index, len(part)), np.uint32(8), out=bits)
        np.copyto(part, bits.view(np.int32), casting="unsafe")  # exact: below 2^24
        np.multiply(part, step, out=part)
        np.add(part, least, out=part)
        np.minimum(part, most, out=part)


def last_before(high: Any, low: Any) -> Any:
    """Return the float32 or float64 before `high`, or `low` if that is larger.

    Of two zeros, `minimum` returns one or the other, depending on the processor; as no sum of
    `fill_uniform` is -0, this is not either.
    """
    import numpy as np

    before = np.nextafter(high, high.dtype.type(-math.inf))
    return max(before, low) + high.dtype.type(0)
