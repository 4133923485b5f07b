"""Draw float32 numbers of philox-1 on a GPU, by operations of torch.

They are the steps of `words.py`, `normal.py`, `uniform.py` and `truncated.py`, each an operation
of its own: torch fuses none of them unless it compiles them. A device has no unsigned integers
of 64 bits, so that products wrap around and the upper bits of a shift to the right are masked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule
from reinit_cli.streams.chance import Array
from reinit_cli.streams.philox.normal import scale_of, tables
from reinit_cli.streams.philox.truncated import words_between
from reinit_cli.streams.philox.uniform import last_before

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")
    Tensor = torch

PORTION_NUMEL = 1 << 23
"""Elements that are drawn together: fewer would leave a large GPU idle between operations."""

_ROUNDS = 10
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_LOW = 2**32 - 1
_WRAP = 2**64

Draw = Callable[[int, int], Tensor]
"""Returns the numbers from an element on, on a device; the second argument is how many."""


def fill(out: Array, at: int, draw: Draw) -> None:
    """Fill an array of one dimension with what a device draws, from an element on."""
    import torch

    for start in range(0, len(out), PORTION_NUMEL):
        part = out[start : start + PORTION_NUMEL]
        torch.from_numpy(part).copy_(draw(at + start, len(part)))


def words(key: int, lane: int, at: int, count: int, device: str) -> Tensor:
    """Return words of 32 bits, as int32, on a device.

    Args:
        key: the Philox key, of 128 bits.
        lane: as in `words.py`.
        at: the index of the first.
        count: how many.
        device: torch's name of it.
    """
    import torch

    first, end = at // 8, -(-(at + count) // 8)
    block = torch.arange(end - first, device=device) + _signed(first)
    words = _philox(key, block, lane).view(-1).view(torch.int32)
    return words[at - 8 * first :][:count]


def _philox(key: int, block: Tensor, lane: int) -> Tensor:
    """Return the Philox4x64-10 of each counter (block, lane, 0, 0): four words of 64 bits.

    Of the four words of a state, `even` has the first and the third as its rows, which are
    multiplied, and `odd` the fourth and the second.
    """
    import torch

    zeros = torch.zeros_like(block)
    even, odd = torch.stack((block, zeros)), torch.stack((zeros, zeros + lane))
    factors = _columns([_MULTIPLIERS], block.device)[0]
    upper, lower = _shifted(factors), factors & _LOW
    for round_key in _columns(_round_keys(key), block.device):
        high = _high(even, upper, lower)
        even, odd = (high ^ odd ^ round_key).flip(0), even * factors
    return torch.stack((even[0], odd[1], even[1], odd[0]), 1)


def _round_keys(key: int) -> list[tuple[int, int]]:
    """Return the two halves of the key in each round, the upper one first."""
    low, high = key % _WRAP, key >> 64
    return [(high + turn * _WEYL[1], low + turn * _WEYL[0]) for turn in range(_ROUNDS)]


def _columns(pairs: Iterable[tuple[int, int]], device: torch.device) -> Tensor:
    """Return pairs of unsigned integers of 64 bits as columns of two rows."""
    import torch

    signed = [[[_signed(each)] for each in pair] for pair in pairs]
    return torch.tensor(signed, dtype=torch.int64, device=device)


def _signed(value: int) -> int:
    """Return the signed integer that has the low 64 bits of another."""
    return (value + _WRAP // 2) % _WRAP - _WRAP // 2


def _shifted(value: Tensor) -> Tensor:
    """Return the upper 32 of 64 bits as a number that is not negative."""
    return (value >> 32) & _LOW


def _high(value: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
    """Return the upper half of a product of unsigned integers, by the halves of its factors."""
    value_upper, value_lower = _shifted(value), value & _LOW
    middle = value_upper * lower + _shifted(value_lower * lower)
    other = value_lower * upper + (middle & _LOW)
    return value_upper * upper + _shifted(middle) + _shifted(other)


def uniform(words: Tensor, low: float, high: float) -> Tensor:
    """Return U[low, high) of words, as `fill_uniform`."""
    import numpy as np
    import torch

    step = float(np.float32(np.float32(high - low) * np.float32(2**-24)))
    most = float(last_before(np.float32(high), np.float32(low)))
    values = ((words >> 8) & 0xFFFFFF).to(torch.float32)
    return (values * step + float(np.float32(low))).clamp(max=most)


def normal(words: Tensor, mean: float, std: float) -> Tensor:
    """Return N(mean, std²) of words, as `fill_normal`."""
    import numpy as np

    return _erfinv_of_words(words) * float(scale_of(std)) + float(np.float32(mean))


def truncated(words: Tensor, mean: float, std: float, low: float, high: float) -> Tensor:
    """Return N(mean, std²) given [low, high] of words, as `fill_truncated`."""
    import numpy as np
    import torch

    first, count = words_between(mean, std, low, high)
    mapped = _shifted((words.to(torch.int64) & _LOW) * count) + first
    inner = ((mapped + 2**31) & _LOW) - 2**31
    values = normal(inner.to(torch.int32), mean + 0.0, std)
    least, most = (float(np.float32(bound)) + 0.0 for bound in (low, high))
    return values.clamp(least, most) if count < 2**32 else values


def _erfinv_of_words(words: Tensor) -> Tensor:
    import torch

    values_at, slopes_at = _tables_on(str(words.device))
    x = words.to(torch.float32)
    near = x.view(torch.int32) + 0x8000
    places = (near >> 16) & 0xFFFF
    middle = (near & -0x10000).view(torch.float32)
    e = (x - middle) * slopes_at.index_select(0, places)
    y = values_at.index_select(0, places)
    return y + (e * y + 1.0) * e


@cache
def _tables_on(device: str) -> tuple[Tensor, Tensor]:
    """Return copies of the tables of `normal.py` on a device."""
    import torch

    values, slopes = (torch.from_numpy(each).to(device) for each in tables())
    return values, slopes
