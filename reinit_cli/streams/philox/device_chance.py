"""Draw the numbers of one key of philox-1 on a GPU, and hand them over in main memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING

from reinit_cli.lazy import LazyModule
from reinit_cli.streams.chance import Array, Chance
from reinit_cli.streams.philox import device as on_device
from reinit_cli.streams.philox import device64 as on_device64
from reinit_cli.streams.philox.chance import PhiloxChance
from reinit_cli.streams.philox.truncated import FEWEST, words_between
from reinit_cli.streams.philox.words import MORE_BITS, VALUES

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = LazyModule("torch")

_TRIED_NUMEL = (1 << 16) + 3
_TRIED_AT = 2**33 + 5
_TRIED_KEY = 0x00D7BF09698B1FAD21AE35D029F089CD


class DeviceChance(PhiloxChance):
    """The numbers of `PhiloxChance`, most of them made on a device.

    The processor makes the rest, which are permutations, normals far out between narrow bounds,
    and float64 where the device has none or another.
    """

    portion_numel = on_device.PORTION_NUMEL

    def at(self, element: int) -> PhiloxChance:
        """Return the chance of the elements from one on; this one stays where it is."""
        return DeviceChance(self.key, element, self.device)

    def uniform(self, out: Array, low: float, high: float) -> None:
        """Fill an array from U[low, high)."""
        if not self._makes(out):
            super().uniform(out, low, high)
        elif out.itemsize == 4:
            self._fill(out, partial(on_device.uniform, low=low, high=high))
        else:
            self._fill(out, partial(on_device64.uniform, low=low, high=high))

    def normal(self, out: Array, mean: float, std: float) -> None:
        """Fill an array from N(mean, std²)."""
        if not self._makes(out):
            super().normal(out, mean, std)
        elif out.itemsize == 4:
            self._fill(out, partial(on_device.normal, mean=mean, std=std))
        else:
            self._fill(out, partial(on_device64.normal, mean=mean, std=std))

    def truncated(self, out: Array, center: float, scale: float, low: float, high: float) -> None:
        """Fill an array from N(center, scale²) given that it lies in [low, high]."""
        is_single = out.itemsize == 4 and scale > 0
        if is_single and words_between(center, scale, low, high)[1] >= FEWEST and self._makes(out):
            law = partial(on_device.truncated, mean=center, std=scale, low=low, high=high)
            self._fill(out, law)
        else:
            super().truncated(out, center, scale, low, high)

    def _makes(self, out: Array) -> bool:
        """Whether the device makes the numbers of an array."""
        return bool(out.size) and self._is_right(out.dtype.name)

    def _is_right(self, dtype: str) -> bool:
        return not fault_of(self.device, dtype)

    def _fill(self, out: Array, law: Callable[[Tensor], Tensor]) -> None:
        flat, at = self._next(out)
        on_device.fill(flat, at, partial(self._draw, law, nbytes=out.itemsize))

    def _draw(self, law: Callable[[Tensor], Tensor], at: int, count: int, *, nbytes: int) -> Tensor:
        """Return the numbers of a law from an element on, on the device."""
        words = on_device.words(self.key, VALUES, at, count, self.device)
        if nbytes == 4:
            return law(words)
        more = on_device.words(self.key, MORE_BITS, at, count, self.device)
        return law(on_device64.joined(words, more))


_LAWS: tuple[Callable[[Chance, Array], None], ...] = (
    lambda chance, out: chance.uniform(out, -0.1, 0.1),
    lambda chance, out: chance.normal(out, 0.1, 0.02),
    lambda chance, out: chance.truncated(out, 0.0, 0.02, -0.04, 0.04),
)


@cache
def fault_of(device: str, dtype: str) -> str:
    """Return what is wrong with the numbers that a device draws, or "" if it draws every bit right.

    That is tried once in a process.

    Args:
        device: torch's name of it.
        dtype: "float32" or "float64".
    """
    try:
        differing = sum(_differing(law, device, dtype) for law in _LAWS)
    except (RuntimeError, TypeError) as error:  # it lacks an operation or the dtype
        return str(error).partition("\n")[0]
    return f"{differing:,} of {len(_LAWS) * _TRIED_NUMEL:,} numbers differ" if differing else ""


def _differing(law: Callable[[Chance, Array], None], device: str, dtype: str) -> int:
    """Count the numbers of which a bit differs from those that the processor draws."""
    import numpy as np

    theirs, ours = np.empty((2, _TRIED_NUMEL), dtype)
    law(_Tried(_TRIED_KEY, _TRIED_AT, device), theirs)
    law(PhiloxChance(_TRIED_KEY, _TRIED_AT), ours)
    bits = f"u{ours.itemsize}"
    return int(np.count_nonzero(theirs.view(bits) != ours.view(bits)))


class _Tried(DeviceChance):
    """Draws on the device whether it is right or not."""

    def _is_right(self, dtype: str) -> bool:
        return bool(dtype)
